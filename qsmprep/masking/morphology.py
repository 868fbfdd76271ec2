"""Erosion, holes and connected pieces of masks, on the box that holds them."""

from __future__ import annotations

import numpy as np

from qsmprep.numerics.volume import bounding_box


def erode(mask: np.ndarray, voxels: int = 1) -> np.ndarray:
    """Remove `voxels` layers from a mask: a voxel stays while its six neighbours belong to the mask.

    The border of the volume counts as outside.

    Parameters
    ----------
    mask : (n0, n1, n2) bool.
    voxels : number of layers; 0 gives a copy.
    """
    eroded = mask.copy()
    for _ in range(voxels):
        if not eroded.any():
            break
        before = np.pad(eroded[bounding_box(eroded)], 1)
        centre = (slice(1, -1),) * 3
        inner = before[centre].copy()
        for axis in range(3):
            for side in (slice(0, -2), slice(2, None)):
                inner &= before[(*centre[:axis], side, *centre[axis + 1 :])]
        eroded[bounding_box(eroded)] = inner
    return eroded


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """Add to a mask the background that it encloses (background touching by faces belongs together).

    Background that reaches the border of the volume is no hole.
    """
    from scipy.ndimage import label

    filled = mask.copy()
    if not mask.any():
        return filled
    box = bounding_box(mask)
    # One layer of background around the box joins everything outside into one piece, number 1: the first voxel's.
    pieces, count = label(np.pad(~mask[box], 1, constant_values=True))
    if count > 1:
        filled[box] = (pieces != pieces[0, 0, 0])[1:-1, 1:-1, 1:-1]
    return filled


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest piece of a mask whose voxels touch by faces; of equal ones the first in memory order."""
    from scipy.ndimage import label

    largest = np.zeros_like(mask)
    if not mask.any():
        return largest
    box = bounding_box(mask)
    pieces, count = label(mask[box])
    if count == 1:
        return mask.copy()
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    largest[box] = pieces == sizes.argmax()
    return largest


def majority(mask: np.ndarray) -> np.ndarray:
    """Each voxel becomes what most of the 27 voxels of its 3 x 3 x 3 neighbourhood are.

    Speckle vanishes, flat borders stay. Beyond the volume its outermost layer is repeated.
    """
    count = np.pad(mask.view(np.uint8), 1, mode="edge")
    for axis in range(3):
        count = np.moveaxis(count, axis, 0)
        count = np.moveaxis(count[:-2] + count[1:-1] + count[2:], 0, axis)
    return count > 13


def ellipsoid(radius_mm: float, voxel_size_mm: tuple[float, float, float]) -> np.ndarray:
    """Structuring element of a radius in mm, at least one voxel along each axis: odd-sized bool array."""
    radii = [max(1, round(radius_mm / size)) for size in voxel_size_mm]
    steps = np.ogrid[tuple(slice(-radius, radius + 1) for radius in radii)]
    return np.asarray(sum((step / radius) ** 2 for step, radius in zip(steps, radii, strict=True)) <= 1)
