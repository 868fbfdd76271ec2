"""Numerics of a study template: the grid and the average it starts from, and the moments of the maps over subjects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MARGIN_MM = 10.0  # around the largest brain: a template's shape still changes
COVERED = 0.5  # of a voxel, from which a warped mask holds it


@dataclass(frozen=True)
class Extent:
    """Where a brain lies in the world: its centre of mass, and how far it reaches from there, in mm."""

    centre_mm: tuple[float, float, float]
    reach_mm: tuple[float, float, float]


def extent_of(mask: np.ndarray, affine: np.ndarray) -> Extent:
    """Extent of a bool mask (n0, n1, n2) with its (4, 4) voxel-to-world matrix in mm.

    Raises
    ------
    ValueError : an empty mask.
    """
    places = np.argwhere(mask)
    if not places.size:
        raise ValueError("The brain mask is empty.")
    world = places @ affine[:3, :3].T + affine[:3, 3]
    centre = world.mean(axis=0)
    return Extent(tuple(centre.tolist()), tuple(np.abs(world - centre).max(axis=0).tolist()))


def common_grid(extents: Sequence[Extent], voxel_size_mm: float) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and (4, 4) voxel-to-world matrix of a grid along the world's axes that holds every brain, centred at 0."""
    half = np.max([extent.reach_mm for extent in extents], axis=0) + MARGIN_MM
    shape = tuple(2 * int(n) + 1 for n in np.ceil(half / voxel_size_mm))
    affine = np.diag([voxel_size_mm] * 3 + [1.0])
    affine[:3, 3] = [-voxel_size_mm * (n - 1) / 2 for n in shape]
    return shape, affine


def centred(
    volume: np.ndarray, affine: np.ndarray, extent: Extent, shape: tuple[int, ...], grid: np.ndarray
) -> np.ndarray:
    """A volume resampled (linear) on the common grid so that its brain's centre of mass is at 0; 0 outside of it."""
    from scipy.ndimage import affine_transform

    move = np.eye(4)
    move[:3, 3] = extent.centre_mm
    to_voxel = np.linalg.inv(affine) @ move @ grid
    moved: np.ndarray = affine_transform(
        np.asarray(volume, np.float32), to_voxel[:3, :3], to_voxel[:3, 3], output_shape=shape, order=1
    )
    return moved


class Moments:
    """Mean, standard deviation and count over subjects in each voxel, of those whose mask holds it."""

    def __init__(self, shape: tuple[int, ...]):
        self.count = np.zeros(shape, np.int32)
        self._mean = np.zeros(shape)
        self._squares = np.zeros(shape)

    def add(self, volume: np.ndarray, weight: np.ndarray) -> None:
        """Add a subject.

        Parameters
        ----------
        volume : map times mask, interpolated; weight : mask, interpolated the same way. Their ratio is free of the
            zeros outside the mask; it counts where the weight is over one half.
        """
        inside = weight > COVERED
        values = volume[inside] / weight[inside]
        self.count[inside] += 1
        away = values - self._mean[inside]
        self._mean[inside] += away / self.count[inside]
        self._squares[inside] += away * (values - self._mean[inside])

    @property
    def mean(self) -> np.ndarray:
        """Mean, 0 where no subject counts."""
        return self._mean.astype(np.float32)

    @property
    def sd(self) -> np.ndarray:
        """Standard deviation (n - 1), 0 where fewer than two subjects count."""
        return np.sqrt(self._squares / np.maximum(self.count - 1, 1)).astype(np.float32)


def normalised_magnitude(magnitude: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Magnitude inside the brain over its median there, 0 outside, so that every subject weighs the same.

    Raises
    ------
    ValueError : no signal in the brain.
    """
    median = float(np.median(magnitude[brain])) if brain.any() else 0.0
    if not median > 0:
        raise ValueError("The magnitude has no signal inside the brain mask.")
    return np.where(brain, magnitude / median, 0).astype(np.float32)
