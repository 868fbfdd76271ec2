"""The constant that susceptibility lacks, from the signs of the sources."""

from __future__ import annotations

import numpy as np

from qsmprep.numerics.arrays import Mask, RealArray
from qsmprep.separation import Constants, checked_maps

SMOOTHING_MM = 2.0
QUANTILE = 0.1  # percent of the voxels that may contradict either bound


def offset_by_signs(
    chi_ppm: RealArray,
    r2prime: RealArray,
    mask: Mask,
    *,
    constants: Constants,
    voxel_size_mm: tuple[float, float, float],
) -> tuple[float, float, float]:
    """The constant to add to a susceptibility map so that neither source is negative, and the range that does so.

    Susceptibility is known up to a constant c; how much of a voxel's R2' is due to either source depends on it. Neither
    is negative where -R2'/D_dia <= chi + c <= R2'/D_para. Tissue with little of one kind bounds c on either side, and
    fluid with hardly any R2' on both. The middle of the range is taken.

    Parameters
    ----------
    chi_ppm : (n0, n1, n2) in ppm.
    r2prime : (n0, n1, n2) in 1/s.
    mask : (n0, n1, n2).
    constants : at the scan's field strength.
    voxel_size_mm : edge lengths in mm; both maps are smoothed by 2 mm against noise, and 0.1 % of the voxels may
        contradict either bound.

    Returns
    -------
    c, its lowest and its highest value, in ppm; the lowest exceeds the highest where the maps contradict each other.
    """
    from scipy.ndimage import gaussian_filter

    inside, chi, rate = checked_maps(mask, chi_ppm=chi_ppm, r2prime=r2prime)
    sigma = [SMOOTHING_MM / h for h in voxel_size_mm]
    share = gaussian_filter(inside.astype(np.float32), sigma, truncate=3)[inside]
    chi, rate = (gaussian_filter(image, sigma, truncate=3)[inside] / share for image in (chi, rate))
    low = -float(np.percentile(rate / np.float32(constants.dia) + chi, QUANTILE))
    high = float(np.percentile(rate / np.float32(constants.para) - chi, QUANTILE))
    return (low + high) / 2, low, high
