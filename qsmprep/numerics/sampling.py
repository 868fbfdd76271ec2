"""Images between their voxels: linear interpolation of several images at the same places, compiled and parallel."""

from __future__ import annotations

import numpy as np

from qsmprep.numerics.arrays import FloatImage, RealArray, Scalar
from qsmprep.numerics.jit import jit, prange


def sample(images: np.ndarray, places: np.ndarray, *, nearest: bool = False) -> FloatImage:
    """Images at voxel coordinates, linear between voxels, as scipy's map_coordinates of order 1.

    Parameters
    ----------
    images : (k, n0, n1, n2), all at the same places.
    places : (3, m0, m1, m2) in voxels of the images; a place that is not finite lies beyond their edge.
    nearest : what lies beyond the edge is as the nearest voxel (a place that is not finite as the first); else 0.

    Returns
    -------
    (k, m0, m1, m2) float32.
    """
    values = np.ascontiguousarray(images, np.float32)
    where: RealArray = np.ascontiguousarray(places, np.float32 if places.dtype == np.float32 else np.float64)
    taken = np.empty((len(values), where[0].size), np.float32)
    _sample(values, where.reshape(3, -1), nearest, taken)
    return taken.reshape(len(values), *where.shape[1:])


@jit(inline="always")
def _inside(place: Scalar, size: int) -> Scalar:
    """The nearest coordinate along an axis of `size` voxels."""
    return min(max(place, 0.0), size - 1.0) if np.isfinite(place) else 0.0


@jit(parallel=True)
def _sample(values: FloatImage, where: RealArray, nearest: bool, taken: FloatImage) -> None:
    """Fill `taken` (k, m) with the values (k, n0, n1, n2) at `where` (3, m)."""
    n0, n1, n2 = values.shape[1:]
    for i in prange(where.shape[1]):
        i0, i1, i2 = float(where[0, i]), float(where[1, i]), float(where[2, i])
        within = 0 <= i0 <= n0 - 1 and 0 <= i1 <= n1 - 1 and 0 <= i2 <= n2 - 1
        if not within and not nearest:
            taken[:, i] = 0
            continue
        x, y, z = _inside(i0, n0), _inside(i1, n1), _inside(i2, n2)
        a, b, c = min(int(x), max(n0 - 2, 0)), min(int(y), max(n1 - 2, 0)), min(int(z), max(n2 - 2, 0))
        p, q, r = min(a + 1, n0 - 1), min(b + 1, n1 - 1), min(c + 1, n2 - 1)
        u, v, w = x - a, y - b, z - c
        for k in range(values.shape[0]):
            image = values[k]
            low = (image[a, b, c] * (1 - w) + image[a, b, r] * w) * (1 - v) + (
                image[a, q, c] * (1 - w) + image[a, q, r] * w
            ) * v
            high = (image[p, b, c] * (1 - w) + image[p, b, r] * w) * (1 - v) + (
                image[p, q, c] * (1 - w) + image[p, q, r] * w
            ) * v
            taken[k, i] = low * (1 - u) + high * u
