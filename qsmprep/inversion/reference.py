"""Referencing: susceptibility is known up to a constant, fixed by the mean of a region."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.arrays import FloatImage, Mask, RealArray


@dataclass(frozen=True)
class Referenced:
    """Referenced susceptibility and the reference region's numbers in the map before.

    Attributes
    ----------
    chi_ppm : (n0, n1, n2) float32, 0 outside the mask; its mean over the region is 0.
    mean_ppm, sd_ppm : mean, which was subtracted, and standard deviation over the region in the map as it was given.
    """

    chi_ppm: FloatImage
    mean_ppm: float
    sd_ppm: float


@dataclass(frozen=True)
class RegionNumbers:
    """A region in the whole-brain-referenced map: mean and standard deviation in ppm, number of voxels."""

    mean_ppm: float
    sd_ppm: float
    voxels: int


def reference_to(chi_ppm: RealArray, mask: Mask, *, region: Mask | None = None) -> Referenced:
    """Subtract the mean susceptibility of a region.

    Parameters
    ----------
    chi_ppm : (n0, n1, n2) susceptibility in ppm.
    mask : (n0, n1, n2) where it is valid.
    region : (n0, n1, n2) the reference region, of which the part inside the mask counts; None: the whole mask.

    Returns
    -------
    Referenced.

    Raises
    ------
    ValueError if mask or region is empty or a shape differs.

    References
    ----------
    QSM consensus organization committee 2024, section 8 and table 5.
    """
    chi = np.asarray(chi_ppm)
    inside, chosen = _inside(chi, mask, region)
    mean = float(chi[chosen].mean(dtype=np.float64))
    sd = float(chi[chosen].std(dtype=np.float64))
    referenced = np.where(inside, chi - np.float32(mean), 0).astype(np.float32)
    return Referenced(referenced, mean, sd)


def in_whole_brain_map(chi_ppm: RealArray, mask: Mask, *, region: Mask | None = None) -> RegionNumbers:
    """Mean and spread of a region in the map referenced to the whole brain, whatever the map is referenced to.

    A constant in the map changes nothing: the mean is that over the region less that over the mask.

    Parameters
    ----------
    chi_ppm : (n0, n1, n2) susceptibility in ppm.
    mask : (n0, n1, n2) where it is valid: the whole brain.
    region : (n0, n1, n2), of which the part inside the mask counts; None: the whole mask.

    Returns
    -------
    RegionNumbers; the standard deviation divides by the number of voxels.

    Raises
    ------
    ValueError if mask or region is empty or a shape differs.

    References
    ----------
    QSM consensus organization committee 2024, recommendation 8.f and table 5.
    """
    chi = np.asarray(chi_ppm)
    inside, chosen = _inside(chi, mask, region)
    values = chi[chosen].astype(np.float64)
    whole = chi[inside].mean(dtype=np.float64)
    return RegionNumbers(float(values.mean() - whole), float(values.std()), values.size)


def _inside(chi: RealArray, mask: Mask, region: Mask | None) -> tuple[Mask, Mask]:
    """The mask, and the part of the region inside it, checked."""
    inside = np.asarray(mask) > 0
    chosen = inside if region is None else (np.asarray(region) > 0) & inside
    if chi.shape != inside.shape or chosen.shape != inside.shape:
        raise ValueError(f"Susceptibility {chi.shape}, mask {inside.shape} and region must have one shape.")
    if not inside.any():
        raise ValueError("The mask is empty: nothing to reference.")
    if not chosen.any():
        raise ValueError("The reference region has no voxel inside the mask.")
    return inside, chosen
