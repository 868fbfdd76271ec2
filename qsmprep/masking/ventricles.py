"""Cerebrospinal fluid of the ventricles, found by its slow decay: the reference region of MEDI+0 and of maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qsmprep.numerics.arrays import Mask
from qsmprep.numerics.volume import bounding_box

MINIMUM_VOXELS = 100  # with fewer, their mean is no reference
RADIUS_MM = 30.0  # holds the lateral ventricles of an adult but not the sulci
RIM_MM = 5.0  # sulcal fluid and spoiled R2* lie at the mask's rim
COMPONENTS = 3  # left, right and third ventricle
SLACK = 2.0  # tissue decays three or more times as fast as fluid; in between lies partial volume and noise


def csf_mask(
    r2star: np.ndarray,
    mask: np.ndarray,
    *,
    voxel_size_mm: Sequence[float],
    largest_r2star: float = 5.0,
    radius_mm: float = RADIUS_MM,
) -> np.ndarray:
    """Ventricular cerebrospinal fluid: low R2* near the centre of the brain.

    A voxel belongs to the centre when it lies within `radius_mm` of the mask's centre of mass and at least 5 mm below
    the mask's surface. There, the median of R2* over 3 x 3 x 3 voxels, which noise does not fragment, is below twice
    `largest_r2star`; of the pieces of such voxels (touching by faces) those count that hold voxels below
    `largest_r2star` itself, the three that hold most of them.

    Parameters
    ----------
    r2star : (n0, n1, n2) in 1/s; a value that is not positive or not finite is not known and no fluid.
    mask : (n0, n1, n2) brain.
    voxel_size_mm : edge lengths in mm.
    largest_r2star : R2* below which a voxel is surely fluid, in 1/s, > 0.
    radius_mm : of the centre, > 0.

    Returns
    -------
    (n0, n1, n2) bool, inside the mask; possibly empty, see `enough_csf`.

    Raises
    ------
    ValueError for shapes that differ, an empty mask, or a threshold that is not positive.

    References
    ----------
    Liu 2018 (MEDI+0).
    """
    from scipy.ndimage import label, median_filter

    inside, rate = np.asarray(mask) > 0, np.asarray(r2star)
    if rate.shape != inside.shape or rate.ndim != 3:
        raise ValueError(f"R2* and mask must be 3-D and of one shape; got {rate.shape} and {inside.shape}.")
    if not inside.any():
        raise ValueError("The mask is empty: no voxel to search for cerebrospinal fluid.")
    if not largest_r2star > 0:
        raise ValueError(f"largest_r2star is {largest_r2star!r}; it must be positive.")
    found = np.zeros(inside.shape, bool)
    centre = _centre(inside, voxel_size_mm, radius_mm)
    if not centre.any():
        return found
    box = bounding_box(centre, margin=1)
    known = np.isfinite(rate[box]) & (rate[box] > 0) & inside[box]
    rate = median_filter(np.where(known, rate[box], np.inf).astype(np.float32), size=3, mode="nearest")
    fluid = centre[box] & (rate < SLACK * largest_r2star)
    pieces, count = label(fluid)
    sure = np.bincount(pieces[fluid & (rate < largest_r2star)], minlength=count + 1)
    # Stable order: of equal pieces the first in memory.
    kept = [piece for piece in np.argsort(-sure, kind="stable")[:COMPONENTS] if sure[piece] > 0]
    found[box] = np.isin(pieces, kept)
    return found


def enough_csf(csf: np.ndarray) -> np.ndarray:
    """The mask itself; ValueError that names the number of voxels and the remedy when there are fewer than 100."""
    count = int(np.count_nonzero(csf))
    if count < MINIMUM_VOXELS:
        raise ValueError(
            f"Only {count} voxels of ventricular cerebrospinal fluid were found, fewer than the {MINIMUM_VOXELS} a "
            "reference needs: raise the R2* below which a voxel counts as fluid, or choose another reference region."
        )
    return csf


def _centre(inside: np.ndarray, voxel_size_mm: Sequence[float], radius_mm: float) -> np.ndarray:
    """Voxels near the centre of mass of a mask that are not near its surface."""
    from scipy.ndimage import distance_transform_edt

    positions = np.argwhere(inside).mean(axis=0)
    axes = np.ogrid[tuple(slice(size) for size in inside.shape)]
    squared = sum(((n - c) * h) ** 2 for n, c, h in zip(axes, positions, voxel_size_mm, strict=True))
    near: Mask = inside & (squared <= radius_mm**2)
    if not near.any():
        return near
    margin = tuple(int(np.ceil(RIM_MM / h)) + 1 for h in voxel_size_mm)
    box = bounding_box(near, margin)
    # The volume's border is no surface: a slab ends there, the brain does not.
    if not inside[box].all():
        near[box] &= distance_transform_edt(inside[box], sampling=tuple(voxel_size_mm)) > RIM_MM
    return near
