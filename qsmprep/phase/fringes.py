"""Open-ended fringes: lines about which the phase turns, as a wrong combination of the coils leaves them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from qsmprep.findings import Warning
from qsmprep.masking.bet import bet
from qsmprep.masking.morphology import largest_component
from qsmprep.masking.robust import box_mean, signal_threshold
from qsmprep.numerics.arrays import DoubleArray, Labels, Mask, RealArray
from qsmprep.numerics.volume import bounding_box
from qsmprep.numerics.winding import turning_squares
from qsmprep.scan import Scan, Triple

BRIGHT = 0.5  # of the threshold between noise and tissue: the sum of coils that cancel each other is dark, but no noise
RIM_MM = 15.0  # of the head that is left out: scalp and skull
VOID_MM = 8.0  # from voids in the signal that are half as thick or more
FINE_MM = 1.5
SHORTEST_MM = 20.0  # around veins and small bleeds the phase may turn too, but not over such a length
MOSTLY = 0.5  # of a line that must be in echo 2 too, and not in what evolves between the echoes
CROWDED = 0.35  # share of voxels with a turn nearby that only noise has

# Of cubes along an axis the first and the second of a pair, and the squares between them.
PAIRS = (slice(None, -1), slice(1, None), slice(1, -1))


@dataclass(frozen=True)
class OpenFringes:
    """Lines about which wrapped phase turns by 2 pi, where there is signal.

    Attributes
    ----------
    lines : how many there are, each in one piece and 20 mm long or more.
    length_cm : of all of them.
    in_brain : whether those outside the brain are left out; not where BET sees no brain.
    """

    lines: int
    length_cm: float
    in_brain: bool = True


def open_fringes(
    phase: np.ndarray,
    magnitude: np.ndarray,
    voxel_size_mm: Sequence[float],
    superior_direction: Triple = (0.0, 0.0, 1.0),
) -> OpenFringes:
    """The open-ended fringe lines of the first echo.

    Wrapped phase of one true field comes back to itself around every square of voxels. Where the phases of coils were
    added without regard to their offsets, there are lines on which the sum is zero, and fringes end on them. They stand
    at the same place in all echoes, as the offsets do not change with echo time; what noise or a strong source makes is
    short, crowded, or elsewhere in the next echo. Nothing is counted outside the head, at its rim, or where the signal
    is low over more than a few millimetres. Where lines are found, those in the brain are counted again: in the face,
    fat and water cancel each other at short echo times, and the phase turns there without any coil's fault.

    Parameters
    ----------
    phase, magnitude : (n_echo, n0, n1, n2), the phase in rad; of several echoes the first two are looked at.
    voxel_size_mm : edges.
    superior_direction : towards the top of the head, along the three voxel axes.

    References
    ----------
    QSM Consensus Organization Committee 2024, Magn Reson Med 91:1834, supporting information S3.
    """
    inside = _inner_head(magnitude[0], voxel_size_mm)
    found = _lines_in(inside, phase, voxel_size_mm)
    if not found.lines:
        return found
    brain = _brain(magnitude[0], voxel_size_mm, superior_direction)
    if brain is None:
        return replace(found, in_brain=False)
    return _lines_in(inside & brain, phase, voxel_size_mm)


def _brain(magnitude: RealArray, voxel_size_mm: Sequence[float], superior_direction: Triple) -> Mask | None:
    """The brain as BET sees it; None where it sees none, as in a phantom."""
    h0, h1, h2 = (float(h) for h in voxel_size_mm)
    try:
        return bet(magnitude, scan=Scan((h0, h1, h2)), superior_direction=superior_direction)
    except ValueError:
        return None


def _lines_in(inside: Mask, phase: np.ndarray, voxel_size_mm: Sequence[float]) -> OpenFringes:
    """The lines in a mask that stand in the first two echoes alike."""
    if not inside.any():
        return OpenFringes(0, 0.0)
    box = bounding_box(inside, 2)
    inside = inside[box]
    squares = turning_squares(phase[0][box], inside)
    cubes = _cubes(squares)
    like_offset = np.ones(cubes.shape, bool)
    if len(phase) > 1:
        first, second = phase[0][box], phase[1][box]
        like_offset = _near(_cubes(turning_squares(second, inside)), corners=True)
        like_offset &= ~_near(_cubes(turning_squares(second - first, inside)), corners=False)
    lengths, shares = _lines(squares, ~_crowded(cubes), like_offset, voxel_size_mm)
    lengths = lengths[(lengths >= SHORTEST_MM) & (shares >= MOSTLY)]
    return OpenFringes(len(lengths), float(np.sum(lengths)) / 10)


def fringe_warnings(found: OpenFringes, manufacturer: str, *, combined_here: bool = False) -> tuple[Warning, ...]:
    """A warning where there are open-ended fringes, with what the consensus paper says of the vendor's combination.

    Parameters
    ----------
    found : of `open_fringes`.
    manufacturer : DICOM manufacturer; may be empty.
    combined_here : whether the coils were combined by this program.
    """
    if not found.lines:
        return ()
    lines = "1 open-ended fringe line" if found.lines == 1 else f"{found.lines} open-ended fringe lines"
    cause = "images of the coils do not belong together" if combined_here else "the scanner combined the coils wrongly"
    text = (
        f"The phase has {lines} ({found.length_cm:.0f} cm) where there is signal: {cause}, and the field around is "
        "wrong."
    )
    if not found.in_brain:
        text += " BET sees no brain here, so lines outside of it count too: in a face, fat and water make some."
    maker = manufacturer.strip().casefold()
    notes = next((notes for name, notes in VENDOR_NOTES.items() if maker.startswith(name)), ANY_VENDOR)
    remedy = OF_OWN_COMBINATION if combined_here else f"{notes} {UNCOMBINED}"
    return (Warning("open-ended-fringes", text, remedy),)


# Consensus paper, supporting information S3 and recommendation 3.a, in our words.
ANY_VENDOR = "Choose a combination of the coils that keeps their phase, not the sum of squares."
VENDOR_NOTES = {
    "siemens": "On Siemens scanners take Adaptive Combine with Prescan Normalize and Magn./Phase (product GRE, VE11 or "
    "later), without acceleration in the second phase direction and without the SWI option.",
    "philips": "On Philips scanners take SENSE (R5 or later) with output of M and P, SWIp off or a delayed "
    "reconstruction.",
    "ge": "On GE scanners take ASSET or ARC (MR30 or later), image filters and 3D geometry correction off.",
    "canon": "On Canon scanners take SPEEDER (MPower 2.3 or later).",
    "toshiba": "On Canon scanners take SPEEDER (MPower 2.3 or later).",
    "uih": "On United Imaging scanners take inter-coil referencing (v9 or later).",
    "united": "On United Imaging scanners take inter-coil referencing (v9 or later).",
}
UNCOMBINED = "For data that exist, export the images of every coil: this program combines them (docs/coils.md)."
OF_OWN_COMBINATION = "Check that the coils of all echoes, of magnitude and of phase are in the same order and complete."


def _inner_head(magnitude: RealArray, voxel_size_mm: Sequence[float]) -> Mask:
    """What lies deep in the head, away from every void in the signal that is more than a thin line."""
    from scipy.ndimage import binary_fill_holes, distance_transform_edt

    steps = [2 if h < FINE_MM else 1 for h in voxel_size_mm]  # every second of fine voxels tells the distances
    image = np.nan_to_num(np.asarray(magnitude[tuple(slice(None, None, step) for step in steps)], np.float32))
    sizes = [h * step for h, step in zip(voxel_size_mm, steps, strict=True)]
    signal = image > signal_threshold(image) * BRIGHT
    head = largest_component(box_mean(box_mean(signal, 3), 3) > 0.6)
    inner = distance_transform_edt(np.pad(binary_fill_holes(head), 1), sizes)[1:-1, 1:-1, 1:-1] > RIM_MM
    thick = distance_transform_edt(~signal, sizes) > VOID_MM / 2
    if thick.any():
        inner &= distance_transform_edt(~thick, sizes) > VOID_MM
    for axis, step in enumerate(steps):
        inner = inner.repeat(step, axis)
    n0, n1, n2 = magnitude.shape
    return np.ascontiguousarray(inner[:n0, :n1, :n2])


def _cubes(squares: tuple[Mask, Mask, Mask]) -> Mask:
    """Cubes between eight voxels that a line enters or leaves: (n0 - 1, n1 - 1, n2 - 1)."""
    n = [squares[(axis + 1) % 3].shape[axis] for axis in range(3)]
    cubes = np.zeros([length for length in n], bool)
    for axis, found in enumerate(squares):
        low, high, _ = (tuple(part if a == axis else slice(None) for a in range(3)) for part in PAIRS)
        cubes |= found[low] | found[high]
    return cubes


def _crowded(cubes: Mask) -> Mask:
    """Where so many cubes around have a line that it is noise."""
    from scipy.ndimage import uniform_filter

    return np.asarray(uniform_filter(cubes.astype(np.float32), 5, mode="constant") > CROWDED)


def _near(cubes: Mask, *, corners: bool) -> Mask:
    """Those cubes and their neighbours, by faces alone or by corners too."""
    from scipy.ndimage import binary_dilation, generate_binary_structure

    return np.asarray(binary_dilation(cubes, generate_binary_structure(3, 3 if corners else 1)))


def _lines(
    squares: tuple[Mask, Mask, Mask], kept: Mask, wanted: Mask, voxel_size_mm: Sequence[float]
) -> tuple[DoubleArray, DoubleArray]:
    """Length in mm of each line, of squares that join kept cubes, and the share of it between wanted cubes."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ends: list[Labels] = []
    lengths: list[RealArray] = []
    for axis, found in enumerate(squares):
        low, high, inner = (tuple(part if a == axis else slice(None) for a in range(3)) for part in PAIRS)
        joins = np.nonzero(found[inner] & kept[low] & kept[high])
        after = tuple(index + (1 if a == axis else 0) for a, index in enumerate(joins))
        ends.append(np.stack([np.ravel_multi_index(where, kept.shape) for where in (joins, after)]))
        lengths.append(np.full(len(joins[0]), float(voxel_size_mm[axis])))
    first, second = np.concatenate(ends, axis=1)
    length = np.concatenate(lengths)
    names, pair = np.unique(np.concatenate([first, second]), return_inverse=True)
    one, other = pair[: first.size], pair[first.size :]
    graph = coo_matrix((np.ones(first.size), (one, other)), shape=(names.size, names.size))
    _, line = connected_components(graph, directed=False)
    between = (wanted.reshape(-1)[first] | wanted.reshape(-1)[second]) * length
    whole = np.bincount(line[one], length).astype(np.float64)
    return whole, np.asarray(np.bincount(line[one], between) / np.maximum(whole, 1e-9))
