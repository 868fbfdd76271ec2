"""Peak signal-to-noise ratio of a scan, seen in its field map."""

from __future__ import annotations

import numpy as np

FEWEST_CUBES = 100  # of 3 x 3 x 3 voxels, below which the median of their noise means little
TO_DEVIATION = 1.4826  # a normal variable's standard deviation over its median absolute value
BRIGHTEST = 99.9  # percentile of the magnitude that stands for its peak: single voxels are vessels and spikes


def peak_snr(
    field: np.ndarray,
    noise: np.ndarray,
    magnitude: np.ndarray,
    mask: np.ndarray,
    *,
    period: float | None = None,
) -> float | None:
    """Peak signal of the first echo over the s.d. of the noise in its real and imaginary part.

    The noise is measured where anatomy hardly reaches: in the second differences (1, -2, 1) of the field along all
    three axes at once, each of a cube of 3 x 3 x 3 voxels: d = sum_i c_i field_i. For white noise of s.d. sigma in the
    signal, d has the variance sigma^2 sum_i (c_i noise_i)^2, so that sigma is 1.4826 times the median of |d| over the
    root of that sum.

    Parameters
    ----------
    field : (n0, n1, n2) field, or phase of one echo spacing, unwrapped or not.
    noise : (n0, n1, n2) its s.d. for a signal noise of s.d. 1, in the same unit; 0 where it is not known.
    magnitude : (n0, n1, n2) of the first echo, in the unit that the noise is meant in.
    mask : (n0, n1, n2) where they are looked at.
    period : of the field's wraps, in its unit; differences are then taken to the nearest whole number of periods.

    Returns
    -------
    The ratio, or None where there are too few voxels or no noise. Anatomy counts as noise, so that a scan of large
    voxels or little noise has a higher ratio than is found; noise that the scanner's interpolation smoothed is missed.

    Raises
    ------
    ValueError : shapes that differ.

    References
    ----------
    Donoho and Johnstone 1994, doi:10.1093/biomet/81.3.425 (s.d. of noise from the median of the finest details).
    """
    inside = np.asarray(mask) > 0
    if not field.shape == noise.shape == magnitude.shape == inside.shape:
        raise ValueError(f"Field {field.shape}, noise {noise.shape}, magnitude {magnitude.shape} and mask "
                         f"{inside.shape} differ in shape.")  # fmt: skip
    usable = inside & (noise > 0) & np.isfinite(noise) & np.isfinite(field)
    difference, variance, whole = np.where(usable, field, 0), np.where(usable, noise, 0) ** 2, usable
    for axis in range(3):
        before, here, after = (tuple(part if a == axis else slice(None) for a in range(3)) for part in _THREE)
        difference = difference[before] - 2 * difference[here] + difference[after]
        variance = variance[before] + 4 * variance[here] + variance[after]
        whole = whole[before] & whole[here] & whole[after]
    if period is not None:
        difference = difference - period * np.rint(difference / np.float32(period))
    ratios = np.abs(difference[whole]) / np.sqrt(variance[whole])
    if ratios.size < FEWEST_CUBES:
        return None
    deviation = TO_DEVIATION * float(np.median(ratios))
    peak = float(np.percentile(magnitude[inside], BRIGHTEST))
    return peak / deviation if deviation > 0 and peak > 0 else None


_THREE = (slice(None, -2), slice(1, -1), slice(2, None))  # the neighbours and the middle of three along an axis
