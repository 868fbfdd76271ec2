"""CLEAR-SWI: echoes combined without the coils' sensitivity, darkened by a smooth function of the high-passed field."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.findings import Fact
from qsmprep.numerics.arrays import FloatImage, Mask, RealArray
from qsmprep.numerics.elementary import tanh
from qsmprep.options import option
from qsmprep.weighting import Weighted
from qsmprep.weighting.smoothing import smooth_inside

TISSUE = (0.5, 1.5)  # of the local mean: what tells the sensitivity; veins, fluid and fat lie outside
BRIGHT_QUANTILE = 80  # percent: tissue that the softplus leaves as it is


@dataclass(frozen=True)
class ClearSwiOptions:
    """Options of CLEAR-SWI; the defaults are those of the paper's program, but for the field."""

    field: str = option(
        "tissue",
        "tissue: the field without background, whose steep parts near air would be dark; total: as the paper's program",
        choices=("tissue", "total"),
    )
    high_pass: float = option(
        4.0, "standard deviation of the Gaussian high-pass filter of the field, within slices", unit="voxels",
        low=0.5, high=50,
    )  # fmt: skip
    strength: float = option(4.0, "strength of the phase weights; more darkens more", low=0.1, high=100)
    sensitivity: float = option(
        7.0, "standard deviation of the smoothing that gives the coil's sensitivity; 0: it stays", unit="mm",
        low=0, high=100,
    )  # fmt: skip
    softplus: float = option(
        0.5, "knee of the softplus that deepens dark tissue, as a share of bright tissue; 0: none", low=0, high=2
    )


def clear_swi(
    magnitude: RealArray,
    mask: Mask,
    field_hz: RealArray,
    *,
    field_mask: Mask | None = None,
    voxel_size_mm: tuple[float, float, float],
    slice_axis: int = 2,
    options: ClearSwiOptions | None = None,
) -> Weighted:
    """Susceptibility-weighted image of several echoes.

    The magnitude is the root sum of squares of the echoes, over the sensitivity, through a softplus. The field less its
    Gaussian mean within slices, x, becomes the weight (1 + tanh(1 - x / m)) / 2, where m is 10 / strength times the
    median of the positive x: veins along B0, whose field is positive, come out dark; what lowers the field does not.

    Parameters
    ----------
    magnitude : (n_echo, n0, n1, n2).
    mask : (n0, n1, n2) of the brain.
    field_hz : (n0, n1, n2), unwrapped and combined over echoes, positive where sources are paramagnetic.
    field_mask : where the field is known, the mask if not given; outside, the weight is that of no field.
    slice_axis : across the slices.

    References
    ----------
    Eckstein et al. 2021, NeuroImage 237:118175.
    """
    options = options or ClearSwiOptions()
    inside = np.asarray(mask) > 0
    known = inside if field_mask is None else np.asarray(field_mask) > 0
    combined = np.sqrt(np.einsum("exyz,exyz->xyz", magnitude, magnitude, dtype=np.float32))
    image, spread = combined, 0.0
    if options.sensitivity > 0:
        sensitivity = coil_sensitivity(combined, inside, sigma_mm=options.sensitivity, voxel_size_mm=voxel_size_mm)
        image = combined / sensitivity
        low, high = np.percentile(sensitivity[inside], (5, 95)) if inside.any() else (1.0, 1.0)
        spread = float(high / low)
    if options.softplus > 0:
        image = softplus(image, inside, knee=options.softplus)
    weights, scale = phase_weights(field_hz, known, slice_axis=slice_axis, options=options)
    facts = [
        Fact("field_scale", "field that halves the weight", "Hz", scale),
        Fact("mean_weight", "mean weight in the mask", "",
             float(weights[inside].mean()) if inside.any() else 1.0),
    ]  # fmt: skip
    if spread:
        facts.append(Fact("sensitivity_ratio", "sensitivity: 95th over 5th percentile in the mask", "", spread))
    return Weighted((image * weights).astype(np.float32), image, weights, tuple(facts))


def phase_weights(
    field_hz: RealArray, mask: Mask, *, slice_axis: int, options: ClearSwiOptions
) -> tuple[FloatImage, float]:
    """Weights in [0, 1] of a field, and the field in Hz at which they are a half (0 where none is positive)."""
    sigma = [0.0 if axis == slice_axis else options.high_pass for axis in range(3)]
    high = np.where(mask, field_hz - smooth_inside(field_hz, mask, sigma), 0)
    positive = high[mask & (high > 0)]
    scale = float(np.median(positive)) * 10 / options.strength if positive.size else 0.0
    scaled = high / scale if scale > 0 else np.zeros_like(high)
    return ((1 + tanh(1 - scaled)) / 2).astype(np.float32), scale


def coil_sensitivity(
    magnitude: RealArray, mask: Mask, *, sigma_mm: float, voxel_size_mm: tuple[float, float, float]
) -> FloatImage:
    """How bright tissue is around each voxel: a Gaussian mean of what is neither much darker nor much brighter.

    Returns
    -------
    (n0, n1, n2) float32 > 0, continued beyond the mask.
    """
    sigma = [sigma_mm / edge for edge in voxel_size_mm]
    local = smooth_inside(magnitude, mask, sigma)
    tissue = mask & (magnitude > TISSUE[0] * local) & (magnitude < TISSUE[1] * local)
    local = smooth_inside(magnitude, tissue if tissue.any() else mask, sigma)
    floor = 0.02 * float(local.max())
    return np.maximum(local, floor if floor > 0 else 1).astype(np.float32)


def softplus(image: RealArray, mask: Mask, *, knee: float) -> FloatImage:
    """log(1 + exp(2 (image / k - 1))) k / 2, less its value at 0: dark tissue darker, bright tissue nearly as it is.

    k is the knee times the 80th percentile in the mask.
    """
    bright = float(np.percentile(image[mask] if mask.any() else image, BRIGHT_QUANTILE))
    if bright <= 0:
        return np.asarray(image, np.float32)
    half = knee * bright / 2
    return np.asarray(half * (np.logaddexp(0, image / half - 2) - np.logaddexp(0, -2)), np.float32)
