"""The head of a person drawn from the template: its maps on a grid finer than the scanner's, and its fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from qsmprep.numerics.arrays import FloatImage, Labels, Mask
from qsmprep.numerics.units import centre_frequency_mhz
from qsmprep.phantom.anatomy import rotation
from qsmprep.phantom.options import SimulationOptions
from qsmprep.phantom.person import Person, draw_person
from qsmprep.phantom.person_rendering import render_person
from qsmprep.phantom.scanner import block_mean
from qsmprep.phantom.tissues import TISSUES
from qsmprep.phantom.two_scale import margin_mm, two_scale_field
from qsmprep.scan import Scan, Triple

# Of the head beyond the field of view, which makes a field inside it: low and high corner, mm in the template's space.
HEAD_MM = ((-105.0, -140.0, -190.0), (105.0, 130.0, 110.0))
CENTRE_MM = (0.0, -17.0, 8.0)  # of the field of view, in the template's space
MARGIN_PPM = TISSUES["background"].para


def person_and_fields(
    options: SimulationOptions,
    subject: int,
    b0_direction: Triple,
    tell: Callable[[str], None],
    strengths: Mapping[str, float] = MappingProxyType({}),
) -> tuple[dict[str, FloatImage], Labels, Mask]:
    """Property maps and both fields in Hz on the fine grid; labels and brain mask on the scanner's.

    `strengths` are factors on the susceptibility of tissues, by name.
    """
    tell("anatomy")
    size, shape, factor = np.array(options.voxel_size_mm()), np.array(options.grid_shape()), options.oversampling
    turn = rotation(1, options.head_tilt_y) @ rotation(0, options.head_tilt_x)
    person = replace(draw_person(options, subject, turn, np.array(CENTRE_MM)), strengths=strengths)
    first = -size * (shape - 1) / 2  # of the field of view, about its centre
    margin = np.ceil(margin_mm(tuple(size)) / size).astype(int)
    with_margin = shape + 2 * margin
    render = _Rendering(person, options)
    fine, _ = render(with_margin * factor, size / factor, first - margin * size - size / 2 + size / factor / 2)
    labels = render(shape, size, first)[1]
    inner = tuple(slice(m * factor, (m + n) * factor) for m, n in zip(margin, shape, strict=True))
    chi = fine["chi_para"] - fine["chi_dia"]
    maps = {name: np.ascontiguousarray(fine.pop(name)[inner]) for name in list(fine)}
    mask = (block_mean(maps["brain"], factor) >= 0.5) & (block_mean(maps["foreign"], factor) == 0)
    _check_brain_is_held(mask)
    tell("field")
    scan = Scan(tuple(size), b0_direction)
    hz_per_ppm = np.float32(centre_frequency_mhz(options.field_strength))
    before, whole = _whole_head(render, size, first, shape, turn)
    s0, s1, s2 = (int(b - m) for b, m in zip(before, margin, strict=True))
    start = (s0, s1, s2)
    whole[tuple(slice(s, s + n) for s, n in zip(start, with_margin, strict=True))] = block_mean(chi, factor)
    chi -= np.float32(MARGIN_PPM)
    whole -= np.float32(MARGIN_PPM)
    maps["total_field_hz"] = two_scale_field(chi, whole, factor, start, scan=scan)[inner] * hz_per_ppm
    chi += np.float32(MARGIN_PPM)
    inside = mask if factor == 1 else mask.repeat(factor, 0).repeat(factor, 1).repeat(factor, 2)
    brain_chi = np.zeros_like(chi)
    brain_chi[inner] = chi[inner] * inside
    whole[:] = 0
    whole[tuple(slice(s, s + n) for s, n in zip(start, with_margin, strict=True))] = block_mean(brain_chi, factor)
    maps["local_field_hz"] = two_scale_field(brain_chi, whole, factor, start, scan=scan)[inner] * hz_per_ppm
    return maps, labels, mask


class _Rendering:
    """One person on any grid."""

    def __init__(self, person: Person, options: SimulationOptions):
        self.person, self.options = person, options

    def __call__(self, shape, size, first) -> tuple[dict[str, FloatImage], Labels]:
        n0, n1, n2 = (int(n) for n in shape)
        return render_person(
            self.person, (n0, n1, n2), tuple(size), tuple(first), self.options.field_strength, self.options.texture
        )


def _whole_head(render: _Rendering, size, first, shape, turn) -> tuple[np.ndarray, FloatImage]:
    """Voxels before the field of view along each axis, and the whole head's susceptibility on the scanner's grid."""
    corners = (
        np.array(np.meshgrid(*zip(*HEAD_MM, strict=True), indexing="ij")).reshape(3, -1) - np.array(CENTRE_MM)[:, None]
    )
    corners = turn @ corners
    room = np.ceil(margin_mm(tuple(size)) / size)
    before = np.maximum(room, np.ceil((first - corners.min(1)) / size) + 1).astype(int)
    after = np.maximum(room, np.ceil((corners.max(1) - first) / size - shape) + 1).astype(int)
    maps, _ = render(before + shape + after, size, first - before * size)
    return before, maps["chi_para"] - maps["chi_dia"]


def _check_brain_is_held(mask: Mask) -> None:
    """Refuse a field of view that cuts the brain. A brain stem that leaves it below is as it is in a scan."""
    if not mask.any():
        raise ValueError("The field of view does not hold the brain; give a larger --shape or --voxel-size.")
