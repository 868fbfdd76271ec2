"""The relaxometric constant of a data set: regression of R2' on susceptibility over iron-rich nuclei."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.arrays import Mask, RealArray

LEAST_VOXELS = 20  # of a region
LEAST_REGIONS = 3


@dataclass(frozen=True)
class RegionMean:
    """Means and standard deviations of a region: susceptibility in ppm, R2' in 1/s."""

    name: str
    voxels: int
    chi_ppm: float
    chi_sd: float
    r2prime: float
    r2prime_sd: float


@dataclass(frozen=True)
class Calibration:
    """A line R2' = constant * chi + intercept.

    Attributes
    ----------
    regions : what it was fitted to.
    constant : in 1/s per ppm.
    intercept : in 1/s; 0 where the line was held to the origin.
    r_squared : share of the variance of R2' between the regions that the line explains.
    """

    regions: tuple[RegionMean, ...]
    constant: float
    intercept: float
    r_squared: float


def calibrate(
    chi_ppm: RealArray,
    r2prime: RealArray,
    regions: Mapping[str, Mask],
    *,
    through_origin: bool = False,
) -> Calibration:
    """Regress the mean R2' of regions on their mean susceptibility, robustly (Huber's loss).

    Susceptibility is known up to a constant, which an intercept takes up; diamagnetic sources of the same size in all
    regions fall into it too. Through the origin the line needs a susceptibility of the right reference.

    Parameters
    ----------
    chi_ppm : (n0, n1, n2) susceptibility in ppm, 0 where it is not known.
    r2prime : (n0, n1, n2) in 1/s. Voxels where it is 0 are left out: R2 is not known there, or exceeds R2*.
    regions : name -> (n0, n1, n2) bool.
    through_origin : without intercept.

    Raises
    ------
    ValueError : fewer than three regions of at least 20 voxels, or regions whose susceptibility does not differ.

    References
    ----------
    Shin 2021.
    """
    from scipy.optimize import least_squares

    found = []
    for name, where in regions.items():
        inside = where & np.isfinite(chi_ppm) & np.isfinite(r2prime) & (chi_ppm != 0) & (r2prime > 0)
        if np.count_nonzero(inside) >= LEAST_VOXELS:
            chi, rate = chi_ppm[inside].astype(float), r2prime[inside].astype(float)
            found.append(RegionMean(name, chi.size, chi.mean(), chi.std(), rate.mean(), rate.std()))
    if len(found) < LEAST_REGIONS:
        raise ValueError(
            f"Only {len(found)} of the {len(regions)} regions have {LEAST_VOXELS} voxels with susceptibility and R2'; "
            f"{LEAST_REGIONS} are needed."
        )
    x, y = np.array([(region.chi_ppm, region.r2prime) for region in found]).T
    if np.ptp(x) < 0.01:
        raise ValueError(f"The regions differ by only {np.ptp(x):.3g} ppm in susceptibility: no line can be fitted.")
    design = np.stack([x, np.zeros_like(x) if through_origin else np.ones_like(x)], axis=1)
    start = np.linalg.lstsq(design, y, rcond=None)[0]
    spread = max(1.4826 * float(np.median(np.abs(y - design @ start))), 1e-6)
    line = least_squares(lambda p: design @ p - y, start, loss="huber", f_scale=1.5 * spread).x
    left = y - design @ line
    r_squared = 1 - float(left @ left) / float(((y - y.mean()) ** 2).sum())
    return Calibration(tuple(found), float(line[0]), 0.0 if through_origin else float(line[1]), r_squared)
