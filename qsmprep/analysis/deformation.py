"""Deformable registration of several images at once by their local correlation.

A greedy form of symmetric normalisation: the local correlation rises along its gradient, smoothed as a fluid is, and
each step is composed with those before. Local correlation knows neither a scale nor a sign of contrast nor the shade
of a coil, so that the contrast of the template need not be that of the scan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from qsmprep.numerics.arrays import FloatImage, Mask
from qsmprep.numerics.sampling import sample

FLUID_VOXELS, ELASTIC_VOXELS = 2.0, 0.7  # smoothing of each step, and of the whole deformation, at each level
STEP_VOXELS = 0.5  # the largest step of an iteration
WINDOW_VOXELS = 5  # edge of the window in which the correlation is local
FLAT = 1e-4  # variance within a window, of the image's own, below which there is no contrast


def warp(image: np.ndarray, coordinates: np.ndarray, *, order: int = 1) -> FloatImage:
    """An image at voxel coordinates, linear between voxels and 0 beyond: float32 of the coordinates' shape.

    Parameters
    ----------
    image : (n0, n1, n2).
    coordinates : (3, m0, m1, m2) in voxels of the image.
    order : of the spline; 0 takes the nearest voxel.
    """
    from scipy.ndimage import map_coordinates

    if order == 1:
        linear: FloatImage = sample(np.asarray(image)[None], coordinates)[0]
        return linear
    taken: FloatImage = map_coordinates(image, coordinates, order=order, mode="constant", output=np.float32)
    return taken


# More than 8 parameters: images, how they lie to each other, and how much each counts.
def register_deformable(
    fixed: Sequence[np.ndarray],
    moving: Sequence[np.ndarray],
    *,
    mask: np.ndarray,
    moving_mask: np.ndarray,
    coordinates: np.ndarray,
    weights: Sequence[float],
    iterations: int,
    displacement: np.ndarray | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[FloatImage, float]:
    """Deform images until they correlate locally with others.

    Parameters
    ----------
    fixed : images (n0, n1, n2) on one grid.
    moving : as many images, on a grid of their own (m0, m1, m2).
    mask, moving_mask : (n0, n1, n2) and (m0, m1, m2), where they are known.
    coordinates : (3, n0, n1, n2), where each voxel of `fixed` lies in `moving` to begin with, in its voxels.
    weights : how much each pair counts.
    iterations : steps.
    displacement : (3, n0, n1, n2) to begin from, in voxels of `fixed`; None: none.
    progress : called with the step and `iterations`.

    Returns
    -------
    Displacement (3, n0, n1, n2) in voxels of `fixed`: what lies at x there lies in `moving` where `coordinates` puts
    x + displacement; and the mean of the local correlation, squared, that is reached.

    References
    ----------
    Avants 2008.
    """
    from scipy.ndimage import gaussian_filter

    shape = np.shape(mask)
    grid = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij"))
    found = np.zeros(grid.shape, np.float32) if displacement is None else np.asarray(displacement, np.float32)
    others = np.stack([np.asarray(image, np.float32) for image in (moving_mask, *moving)])
    inside = np.asarray(mask) > 0
    reached = 0.0
    for step in range(iterations):
        place = compose(coordinates, grid + found)
        there, *warped = sample(others, place)
        valid = inside & (there > 0.5)
        force = np.zeros(grid.shape, np.float32)
        reached = 0.0
        for image, other, weight in zip(fixed, warped, weights, strict=True):
            pull, correlation = _pull(np.asarray(image, np.float32), other, valid)
            force += np.float32(weight) * pull
            reached += weight * correlation / sum(weights)
        for axis in range(3):
            force[axis] = gaussian_filter(force[axis], FLUID_VOXELS, truncate=3)
        largest = np.sqrt((force**2).sum(0)).max()
        if not largest > 0:
            break
        update = force * np.float32(STEP_VOXELS * (1 - 0.8 * step / iterations) / largest)
        found = update + compose(found, grid + update)
        for axis in range(3):
            found[axis] = gaussian_filter(found[axis], ELASTIC_VOXELS, truncate=3)
        if progress is not None:
            progress(step + 1, iterations)
    return found, reached


def compose(field: np.ndarray, coordinates: np.ndarray) -> FloatImage:
    """A field of vectors at voxel coordinates, as at the nearest voxel beyond its edge."""
    return sample(field, coordinates, nearest=True)


def _pull(fixed: FloatImage, moving: FloatImage, valid: Mask) -> tuple[FloatImage, float]:
    """Gradient of the squared local correlation as the moving image moves, and its mean."""
    inside = valid.astype(np.float32)
    share = np.maximum(_window(inside), 1e-3)
    first, second = _centred(fixed, inside, share), _centred(moving, inside, share)
    covariance = _window(first * second) / share
    variances = []
    for image in (first, second):
        local = _window(image * image) / share
        variances.append(local + FLAT * max(float(local[valid].mean()) if valid.any() else 0.0, 1e-12))
    squared = covariance**2 / (variances[0] * variances[1])
    change = 2 * covariance / (variances[0] * variances[1]) * (first - covariance / variances[1] * second)
    slopes = np.gradient(np.where(valid, moving, 0))
    steady = inside * (_window(inside) > 0.999)  # at the mask's edge the slope is the mask's
    pull = np.stack([change * slope * steady for slope in slopes]).astype(np.float32)
    return pull, float(squared[valid].mean()) if valid.any() else 0.0


def _window(image: np.ndarray) -> FloatImage:
    from scipy.ndimage import uniform_filter

    mean: FloatImage = uniform_filter(image, WINDOW_VOXELS, mode="constant", output=np.float32)
    return mean


def _centred(image: FloatImage, inside: FloatImage, share: FloatImage) -> FloatImage:
    """The image less its local mean, inside."""
    return inside * (image - _window(image * inside) / share)
