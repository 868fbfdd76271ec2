"""The constant that susceptibility lacks, from the signs of the sources."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.arrays import FloatImage, Mask, RealArray
from qsmprep.separation import Constants, checked_maps

SMOOTHING_MM = 2.0
RIM_MM = 4.0  # left out: there the tissue field, and with it susceptibility, is least known
LEAST_SHARE = 0.2  # of the mask that must be left without its rim
QUANTILE = 0.1  # percent of the voxels that may contradict either bound of the range
STEPS = 40


@dataclass(frozen=True)
class Offset:
    """The constant to add to susceptibility, in ppm.

    Attributes
    ----------
    value : with which as many voxels contradict one bound as the other.
    low, high : range in which hardly any voxel contradicts a bound; low > high where there is no such range.
    contradicting : share of the voxels that contradict a bound at `value`.
    """

    value: float
    low: float
    high: float
    contradicting: float


def offset_by_signs(
    chi_ppm: RealArray,
    r2prime: RealArray,
    mask: Mask,
    *,
    constants: Constants,
    voxel_size_mm: tuple[float, float, float],
) -> Offset:
    """The constant to add to a susceptibility map so that neither source is negative, and the range that does so.

    Susceptibility is known up to a constant c; how much of a voxel's R2' is due to either source depends on it. Neither
    is negative where -R2'/D_dia <= chi + c <= R2'/D_para. Tissue with little of one kind bounds c on either side, and
    fluid with hardly any R2' on both. Maps with errors contradict some bounds whatever c is: c is where the voxels that
    contradict the upper bound are as many as those that contradict the lower one, in the middle of all such c. Unlike
    the middle between the bounds of the most extreme voxels, this depends on no few voxels.

    Parameters
    ----------
    chi_ppm : (n0, n1, n2) in ppm.
    r2prime : (n0, n1, n2) in 1/s.
    mask : (n0, n1, n2); its rim of 4 mm is left out where enough remains.
    constants : at the scan's field strength.
    voxel_size_mm : edge lengths in mm; both maps are smoothed by 2 mm against noise, and 0.1 % of the voxels may
        contradict either bound of the range.
    """
    from scipy.ndimage import gaussian_filter

    inside, chi, rate = checked_maps(mask, chi_ppm=chi_ppm, r2prime=r2prime)
    sigma = [SMOOTHING_MM / h for h in voxel_size_mm]
    chosen = _without_rim(inside, voxel_size_mm)
    share = gaussian_filter(inside.astype(np.float32), sigma, truncate=3)[chosen]
    chi, rate = (gaussian_filter(image, sigma, truncate=3)[chosen] / share for image in (chi, rate))
    lows = np.sort(-(rate / np.float32(constants.dia) + chi))
    highs = np.sort(rate / np.float32(constants.para) - chi)
    value = (_balance(lows, highs, side="left") + _balance(lows, highs, side="right")) / 2
    below = lows.size - np.searchsorted(lows, value, side="right")
    above = np.searchsorted(highs, value, side="left")
    low, high = float(np.percentile(lows, 100 - QUANTILE)), float(np.percentile(highs, QUANTILE))
    return Offset(value, low, high, float(below + above) / lows.size)


def _without_rim(inside: Mask, voxel_size_mm: tuple[float, float, float]) -> Mask:
    """The mask without its rim; the mask itself where little would be left."""
    from scipy.ndimage import distance_transform_edt

    deep: Mask = distance_transform_edt(inside, sampling=voxel_size_mm) > RIM_MM
    return deep if np.count_nonzero(deep) >= LEAST_SHARE * np.count_nonzero(inside) else inside


def _balance(lows: FloatImage, highs: FloatImage, *, side: str) -> float:
    """The smallest ("left") or largest constant for which as many voxels lie above it as below, by bisection.

    The number of upper bounds below c less that of lower bounds above c never falls with c.
    """
    begin = float(min(lows[0], highs[0])) - 1e-6
    end = float(max(lows[-1], highs[-1])) + 1e-6
    for _ in range(STEPS):
        middle = (begin + end) / 2
        excess = np.searchsorted(highs, middle, side="left") - (lows.size - np.searchsorted(lows, middle, side="right"))
        if excess > 0 or (excess == 0 and side == "left"):
            end = middle
        else:
            begin = middle
    return (begin + end) / 2
