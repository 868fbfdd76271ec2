"""Parts of a mask for quality numbers: its depth, what is bright in it, cubes of a size in mm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BRIGHT = 0.3  # of the brain's median magnitude: below lie air, veins, bleeds, the worst dropouts
DARK = 0.15  # of the brain's median magnitude: tissue of the first echo is never so dark


def voxels_of(length_mm: float, voxel_size_mm: Sequence[float]) -> tuple[int, ...]:
    """Odd number of voxels along each axis whose cube has about this edge length."""
    return tuple(max(1, 2 * round((length_mm / h - 1) / 2) + 1) for h in voxel_size_mm)


def eroded(mask: np.ndarray, depth_mm: float, voxel_size_mm: Sequence[float]) -> np.ndarray:
    """Voxels whose distance from the outside along the axes and diagonals is above `depth_mm` (at least a voxel).

    The border of the volume counts as outside. A box in place of a ball: three quick passes.
    """
    return _passes(mask, depth_mm, voxel_size_mm, largest=False)


def dilated(mask: np.ndarray, reach_mm: float, voxel_size_mm: Sequence[float]) -> np.ndarray:
    """The mask grown by a box of half width `reach_mm` (at least a voxel)."""
    return _passes(mask, reach_mm, voxel_size_mm, largest=True)


def opened(mask: np.ndarray, depth_mm: float, voxel_size_mm: Sequence[float]) -> np.ndarray:
    """The parts of a mask that are thicker than twice `depth_mm`: eroded, then grown back."""
    return np.asarray(dilated(eroded(mask, depth_mm, voxel_size_mm), depth_mm, voxel_size_mm) & mask)


def deep_part(
    mask: np.ndarray, voxel_size_mm: Sequence[float], depths_mm: Sequence[float] = (12.0, 8.0, 5.0)
) -> np.ndarray:
    """The voxels of the greatest of these depths that holds a tenth of the mask; else the mask itself."""
    wanted = 0.1 * np.count_nonzero(mask)
    for depth in depths_mm:
        deep = eroded(mask, depth, voxel_size_mm)
        if np.count_nonzero(deep) >= wanted:
            return deep
    return mask


def bright(magnitude: np.ndarray, mask: np.ndarray, factor: float = BRIGHT) -> np.ndarray:
    """Voxels brighter than `factor` times the mask's median."""
    return magnitude > np.float32(factor * np.median(magnitude[mask]))


def local_mean(image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Mean over boxes of `size` voxels, zero beyond the border, float32."""
    from scipy.ndimage import uniform_filter

    mean: np.ndarray = uniform_filter(np.asarray(image, np.float32), size, mode="constant")
    return mean


def on_grid(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Values of a mask's voxels put back on its grid, 0 outside, float32."""
    volume = np.zeros(mask.shape, np.float32)
    volume[mask] = values
    return volume


def rms(values: np.ndarray) -> float:
    """Root mean square; NaN of nothing."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if values.size else float("nan")


def _passes(mask: np.ndarray, reach_mm: float, voxel_size_mm: Sequence[float], *, largest: bool) -> np.ndarray:
    from scipy.ndimage import maximum_filter1d, minimum_filter1d

    run = maximum_filter1d if largest else minimum_filter1d
    result = np.asarray(mask, bool).view(np.uint8)
    for axis, h in enumerate(voxel_size_mm):
        result = run(result, 2 * max(1, round(reach_mm / h)) + 1, axis=axis, mode="constant")
    return result.view(bool)
