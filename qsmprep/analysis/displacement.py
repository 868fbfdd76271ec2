"""Fields of displacement in millimetres between two worlds: sampled, inverted, and images resampled by them.

A field is (3, n0, n1, n2) with the (4, 4) affine of its grid: what lies at x in one world lies at x + u(x) in the
other, u linear between the grid's points and, beyond its edge, as at the edge.
"""

from __future__ import annotations

import numpy as np

from qsmprep.analysis.brain_registration import Deformation, grid_places, mapped
from qsmprep.analysis.deformation import compose, warp
from qsmprep.numerics.arrays import DoubleArray, FloatImage

FIELD_MM = 2.0  # the grid of the registration, which knows nothing finer
INVERSION_STEPS, SETTLED_MM = 40, 1e-3
SLAB = 16  # slices that are resampled at once, so that their coordinates take little memory


def grid_over(shape: tuple[int, ...], affine: np.ndarray, edge_mm: float) -> tuple[tuple[int, int, int], DoubleArray]:
    """Shape and affine of a grid with cubic voxels that begins with the first voxel of another and holds its last one.

    >>> grid_over((193, 229, 193), np.eye(4), 2.0)[0]
    (97, 115, 97)
    """
    edges = np.linalg.norm(np.asarray(affine, float)[:3, :3], axis=0)
    n0, n1, n2 = (int(np.ceil((n - 1) * h / edge_mm - 1e-6)) + 1 for n, h in zip(shape, edges, strict=True))
    return (n0, n1, n2), np.asarray(affine, float) @ np.diag([*(edge_mm / edges), 1.0])


def field_of(found: Deformation, shape: tuple[int, ...], affine: np.ndarray) -> FloatImage:
    """A deformation as a field on a grid of the fixed head's world."""
    places = grid_places(shape)
    return found.moved(places, affine, np.eye(4)) - mapped(affine, places)


def inverse_field(
    found: Deformation, shape: tuple[int, ...], affine: np.ndarray, valid: np.ndarray
) -> tuple[FloatImage, float]:
    """The field from the other head's world back to the fixed one's.

    The deformation is q = W (p + d(p)); p = W^-1 q - d(p) is iterated until no point moves any more, as it
    ends where d is smooth; where it does not, the error tells.

    Parameters
    ----------
    found : the deformation.
    shape, affine : grid of the field in the other head's world.
    valid : (n0, n1, n2) where its accuracy is told.

    Returns
    -------
    The field, and the 99th percentile of |T(p) - q| in mm where it is valid.
    """
    points = mapped(affine, grid_places(shape))
    back, linear = np.linalg.inv(found.world), found.affine[:3, :3].astype(np.float32)
    to_grid = np.linalg.inv(found.affine)
    start = mapped(back, points)

    def displaced(places: np.ndarray) -> FloatImage:
        voxels = compose(found.displacement, mapped(to_grid, places))
        return np.asarray(np.tensordot(linear, voxels, 1), np.float32)

    place = start
    for _ in range(INVERSION_STEPS):
        before, place = place, start - displaced(place)
        if np.abs(place - before).max() < SETTLED_MM:
            break
    reached = mapped(found.world, place + displaced(place))
    error = np.sqrt(np.square(reached - points).sum(0))[np.asarray(valid) > 0]
    return place - points, float(np.percentile(error, 99)) if error.size else 0.0


# More than 8 parameters: an image, a field and a grid, each with its affine.
def resample_by(
    volume: np.ndarray,
    valid: np.ndarray | None,
    affine: np.ndarray,
    field: np.ndarray,
    field_affine: np.ndarray,
    shape: tuple[int, ...],
    grid: np.ndarray,
) -> FloatImage:
    """An image of the other world on a grid of this one: linear between voxels, 0 beyond.

    Linear interpolation never leaves the range of the values around, so that nothing rings at the rim of a mask. Where
    the image is valid in part of the neighbours only, those are weighted alone; where they have less than half of the
    weight, the result is 0.

    Parameters
    ----------
    volume : (n0, n1, n2).
    valid : (n0, n1, n2) mask; None: the whole image.
    affine : (4, 4) voxel to the other world, mm.
    field, field_affine : from this world to the other.
    shape, grid : of the result, and its affine to this world.
    """
    values = np.asarray(volume, np.float32)
    inside = None if valid is None else (np.asarray(valid) > 0).astype(np.float32)
    values = values if inside is None else np.nan_to_num(values) * inside
    made = np.zeros(shape, np.float32)
    back, to_field = np.linalg.inv(affine), np.linalg.inv(field_affine)
    for start in range(0, shape[0], SLAB):
        places = grid_places((min(SLAB, shape[0] - start), *shape[1:]))
        places[0] += start
        points = mapped(grid, places)
        at = mapped(back, points + compose(field, mapped(to_field, points)))
        taken = warp(values, at)
        if inside is not None:
            share = warp(inside, at)
            taken = np.where(share >= 0.5, taken / np.maximum(share, 0.5), 0)
        made[start : start + SLAB] = taken
    return made
