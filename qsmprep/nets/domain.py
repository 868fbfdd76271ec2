"""Whether a scan resembles what a network was trained on.

Its noise is told by the peak signal-to-noise ratio (SNR): the brightest signal of the first echo over the standard
deviation of the noise in its real (and in its imaginary) part. Training draws it, `qsmprep.field.snr.peak_snr` measures
it in the field map of a scan, somewhat too low where voxels are large or noise is little.
"""

from __future__ import annotations

import math

import numpy as np

from qsmprep.findings import Warning
from qsmprep.nets.geometry import SAME_SIZE, SMALLEST_TILT_DEGREES, tilt_degrees
from qsmprep.nets.spec import NetworkSpec, quantities
from qsmprep.numerics.units import check_field_ppm
from qsmprep.scan import Scan

FIELDS = ("total-field", "tissue-field")
DIRECTED = (*FIELDS, "tkd", "iterated")  # inputs that look different when B0 has another direction
OTHER_METHOD = "The network saw other images in its training: compare with a method without a network."
COARSE = 1.25  # voxels so many times larger than those of the training lack detail that the network expects


def outside_domain(spec: NetworkSpec, *, scan: Scan, field_deviation_ppm: float | None = None) -> tuple[Warning, ...]:
    """In what respects the input of a network differs from its training data, a warning each.

    Parameters
    ----------
    spec : of the network.
    scan : geometry of the volume that the network is given.
    field_deviation_ppm : s.d. of the input field inside the mask; None: not known, or no field among the inputs.
    """
    domain = spec.domain
    found: list[Warning] = []
    if any(abs(h - domain.voxel_size_mm) > SAME_SIZE * domain.voxel_size_mm for h in scan.voxel_size_mm):
        size = " x ".join(f"{h:.3g}" for h in scan.voxel_size_mm)
        text = f"voxels of {size} mm, trained on {domain.voxel_size_mm:g} mm in each direction"
        found.append(Warning("untrained-voxel-size", _departure(spec, text), OTHER_METHOD))
    tilt = tilt_degrees(scan.b0_direction)
    if is_directed(spec) and tilt > max(domain.largest_tilt_degrees, SMALLEST_TILT_DEGREES):
        text = f"B0 {tilt:.0f} degrees off the third axis, trained up to {domain.largest_tilt_degrees:g}"
        found.append(Warning("untrained-b0-direction", _departure(spec, text), OTHER_METHOD))
    if field_deviation_ppm is not None and (told := _outside(field_deviation_ppm, domain.field_deviation_ppm)):
        text = f"a field whose standard deviation is {field_deviation_ppm:.3g} ppm, trained on {told} ppm"
        found.append(Warning("untrained-field", _departure(spec, text), OTHER_METHOD))
    return tuple(found)


def outside_snr(spec: NetworkSpec, snr: float | None) -> tuple[Warning, ...]:
    """A warning where the peak signal-to-noise ratio of a scan is none of those trained on; None: not known."""
    if snr is None or not (told := _outside(snr, spec.domain.snr)):
        return ()
    text = _departure(spec, f"a peak signal-to-noise ratio of about {snr:.0f}, trained on {told}")
    return (Warning("untrained-snr", text, OTHER_METHOD),)


def coarser_than_trained(spec: NetworkSpec, voxel_size_mm: tuple[float, float, float]) -> tuple[Warning, ...]:
    """A warning where the scan's voxels are too large for interpolation to give what the network expects."""
    if max(voxel_size_mm) <= COARSE * spec.domain.voxel_size_mm:
        return ()
    size = " x ".join(f"{h:.3g}" for h in voxel_size_mm)
    text = (
        f"Voxels of {size} mm lack detail that {spec.name} was trained with ({spec.domain.voxel_size_mm:g} mm); "
        "interpolation does not bring it back."
    )
    return (Warning("coarser-than-trained", text, OTHER_METHOD),)


def is_directed(spec: NetworkSpec) -> bool:
    """Whether the network expects B0 along the third axis: it sees a field and does not know the kernel."""
    return not spec.knows_kernel and any(quantity in DIRECTED for quantity in quantities(spec.inputs))


def check_units(images: dict[str, np.ndarray], mask: np.ndarray) -> None:
    """Raise ValueError for a field that cannot be in ppm. Each image (n0, n1, n2) is looked at inside the mask."""
    for quantity in FIELDS:
        if quantity in images:
            check_field_ppm(images[quantity][mask])


def _departure(spec: NetworkSpec, text: str) -> str:
    return f"Outside what {spec.name} was trained on: {text}."


def _outside(value: float, allowed: tuple[float, float]) -> str:
    """What was allowed, in words, where the value lies outside; else nothing."""
    low, high = allowed
    if low <= value <= high:
        return ""
    return f"{low:.3g} to {high:.3g}" if math.isfinite(high) else f"{low:.3g} or more"
