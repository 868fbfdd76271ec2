"""How far two volumes of one grid are from each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.arrays import Mask


@dataclass(frozen=True)
class Difference:
    """Difference of two volumes; inside is where either is not zero.

    Attributes
    ----------
    voxels, share : that differ, and as a share of those inside.
    largest, place : the largest absolute difference in the volumes' unit, and its voxel; infinite where a value of one
        is no number in the other.
    root_mean_square : over the inside.
    relative : the largest difference over the largest value of the first volume.
    """

    voxels: int
    share: float
    largest: float
    place: tuple[int, int, int]
    root_mean_square: float
    relative: float


def compare(first: np.ndarray, second: np.ndarray) -> Difference:
    """Compare two real volumes (n0, n1, n2) of one shape.

    >>> compare(np.array([[[1.0, 2.0]]]), np.array([[[1.0, 2.5]]])).relative
    0.25
    """
    difference = np.abs(differ(first, second))
    inside = inside_either(first, second)
    place = np.unravel_index(int(np.argmax(difference)), difference.shape)
    size = float(np.max(np.abs(first), initial=0.0, where=np.isfinite(first)))
    largest, voxels, count = float(difference[place]), int(np.count_nonzero(difference)), int(np.count_nonzero(inside))
    return Difference(
        voxels=voxels,
        share=voxels / count if count else 0.0,
        largest=largest,
        place=(int(place[0]), int(place[1]), int(place[2])),
        root_mean_square=float(np.sqrt(np.mean(np.square(difference[inside])))) if count else 0.0,
        relative=largest / size if size else (float("inf") if largest else 0.0),
    )


def differ(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Second less first in double precision; zero where both are no number, infinite where one is."""
    with np.errstate(invalid="ignore"):
        difference = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    both = (first == second) | (np.isnan(first) & np.isnan(second))
    return np.where(both, 0.0, np.where(np.isnan(difference), np.inf, difference))


def inside_either(first: np.ndarray, second: np.ndarray) -> Mask:
    """Where either volume is not zero."""
    return np.asarray((first != 0) | (second != 0))
