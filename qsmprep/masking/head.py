"""Where the head lies in an image and how bright it is: what brain extraction starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.arrays import DoubleArray, RealArray
from qsmprep.numerics.jit import jit

# A brain and what covers it are less high; what lies below is neck and does not count for centre and size.
HEAD_HEIGHT_MM = 150.0
# No brain reaches that far below the top of the head, not even a large one.
FLOOR_MM = 180.0
TOP_MM3 = 20e3  # the top of the head is where that much of it lies above: a few bright voxels of noise are no head
LARGEST_RADIUS_MM = 90.0
# The longest extent of a human head, and below which a head is taken for that of a small animal: those of infants have
# 110 mm and more, and a thin slab or a few slices show the whole length of a head; rats have 45 mm, marmosets 50.
HUMAN_LENGTH_MM = 190.0
SMALL_LENGTH_MM = 80.0


@dataclass(frozen=True)
class HeadEstimate:
    """What BET knows of the head before the surface starts.

    Attributes
    ----------
    darkest, brightest : robust intensity range (2nd and 98th percentile).
    threshold : 10 % of the way between them, brain against background.
    centre_mm : (3,) centre of gravity of the head; voxel (0, 0, 0) has its centre at the origin.
    radius_mm : radius of a sphere of the head's volume.
    median : median intensity inside that sphere.
    top_mm : height of the top of the head along the superior direction; None where that was not given.
    """

    darkest: float
    brightest: float
    threshold: float
    centre_mm: np.ndarray
    radius_mm: float
    median: float
    top_mm: float | None = None


def estimate_head(image: np.ndarray, voxel_size_mm: np.ndarray, superior: np.ndarray | None = None) -> HeadEstimate:
    """Intensity range, centre, size and median intensity of a head, as BET's start.

    Parameters
    ----------
    image : (n0, n1, n2) float32.
    voxel_size_mm : (3,).
    superior : (3,) unit vector towards the top of the head; only what lies less than 150 mm below the top then counts
        for centre and radius, so that a neck does not draw them down. None counts all.

    Returns
    -------
    HeadEstimate

    Raises
    ------
    ValueError : an image without contrast.
    """
    # Every s-th voxel in memory order, s coprime with the row length, is an even sample of the volume.
    step = max(1, image.size // 1_000_000)
    while step > 1 and np.gcd(step, image.shape[2]) > 1:
        step += 1
    darkest, brightest = (float(value) for value in np.percentile(image.reshape(-1)[::step], (2, 98)))
    if not brightest > darkest:
        raise ValueError("Brain extraction needs an image of a head, but at least 96 % of this magnitude is constant.")
    threshold = darkest + 0.1 * (brightest - darkest)
    head, top_mm = image, None
    if superior is not None:
        top_mm = _top(image, threshold, voxel_size_mm, superior)
        head = above(image, top_mm - HEAD_HEIGHT_MM, darkest, voxel_size_mm, superior)
    count, weight, centre = _gravity(head, darkest, threshold, brightest)
    centre_mm = np.array(centre) / weight * voxel_size_mm
    radius_mm = float((0.75 / np.pi * count * np.prod(voxel_size_mm)) ** (1 / 3))
    if superior is not None:
        radius_mm = min(radius_mm, LARGEST_RADIUS_MM)
    median = _median_within(image, voxel_size_mm, centre_mm, radius_mm, (darkest, brightest))
    return HeadEstimate(darkest, brightest, threshold, centre_mm, radius_mm, median, top_mm)


def head_axes(superior: Sequence[float], anterior: Sequence[float]) -> tuple[int, int, int]:
    """Voxel axes that run most nearly left-right, back-front and bottom-top, whichever way.

    >>> head_axes((0.1, 0.99, 0.0), (0.0, 0.1, -0.99))
    (0, 2, 1)
    """
    up = int(np.argmax(np.abs(superior)))
    front = max((axis for axis in range(3) if axis != up), key=lambda axis: abs(anterior[axis]))
    return 3 - up - front, front, up


def human_scale(image: np.ndarray, voxel_size_mm: np.ndarray) -> float:
    """By how much a head must be enlarged to be as long as a human one: 1 unless it is that of a small animal.

    Parameters
    ----------
    image : (n0, n1, n2) magnitude; voxels brighter than a tenth of its range are the head.
    voxel_size_mm : (3,).

    Examples
    --------
    >>> x, y, z = np.indices((44, 44, 44)) - 22
    >>> ball = (x**2 + y**2 + z**2 <= 19**2).astype(np.float32)
    >>> human_scale(ball, np.array([5.0, 5.0, 5.0])), round(human_scale(ball, np.array([0.5, 0.5, 0.5])), 1)
    (1.0, 9.9)
    """
    sample = image.reshape(-1)[:: max(1, image.size // 1_000_000)]
    darkest, brightest = (float(value) for value in np.percentile(sample, (2, 98)))
    bright = image > darkest + 0.1 * (brightest - darkest)
    lengths = []
    for axis, edge in enumerate(voxel_size_mm):
        profile = np.cumsum(bright.sum(axis=tuple(other for other in range(3) if other != axis)))
        # Without a hundredth of the voxels at each end, which may be noise; of a ball these are a tenth of its length.
        first, last = np.searchsorted(profile, (0.01 * profile[-1], 0.99 * profile[-1]))
        lengths.append(1.1 * (last - first + 1) * edge)
    longest = float(max(lengths))
    return HUMAN_LENGTH_MM / longest if longest < SMALL_LENGTH_MM else 1.0


def above(
    image: np.ndarray, floor_mm: float, fill: float, voxel_size_mm: np.ndarray, superior: np.ndarray
) -> np.ndarray:
    """The image with `fill` below a height in mm along `superior`; voxel (0, 0, 0) has height 0."""
    return np.asarray(np.where(heights(image.shape, voxel_size_mm, superior) > floor_mm, image, np.float32(fill)))


def heights(shape: tuple[int, ...], voxel_size_mm: np.ndarray, superior: np.ndarray) -> np.ndarray:
    """Height of each voxel in mm along `superior`, float32 of that shape; voxel (0, 0, 0) has height 0."""
    steps = np.ogrid[tuple(slice(0, n) for n in shape)]
    parts = zip(steps, voxel_size_mm, superior, strict=True)
    first, second, third = ((step * size * part).astype(np.float32) for step, size, part in parts)
    return np.asarray(first + second + third)


def _top(image: np.ndarray, threshold: float, voxel_size_mm: np.ndarray, superior: np.ndarray) -> float:
    every = (slice(None, None, 2),) * 3
    bright = heights(image.shape, voxel_size_mm, superior)[every][image[every] > threshold]
    rank = max(0, bright.size - 1 - int(TOP_MM3 / (8 * np.prod(voxel_size_mm))))
    return float(np.partition(bright, rank)[rank]) if bright.size else 0.0


@jit()
def _gravity(
    image: RealArray,
    darkest: float,
    threshold: float,
    brightest: float,
) -> tuple[int, float, tuple[float, float, float]]:
    count = 0
    weight = c0 = c1 = c2 = 0.0
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            row = moment = 0.0
            for k in range(image.shape[2]):
                value = image[i, j, k]
                if value > threshold:
                    excess = min(value, brightest) - darkest
                    count += 1
                    row += excess
                    moment += excess * k
            weight += row
            c0 += row * i
            c1 += row * j
            c2 += moment
    return count, weight, (c0, c1, c2)


def _median_within(
    image: RealArray,
    voxel_size_mm: DoubleArray,
    centre_mm: DoubleArray,
    radius_mm: float,
    allowed: tuple[float, float],
) -> float:
    """Median of the intensities strictly between the `allowed` two, in a sphere."""
    axes = [(np.arange(n) * d - c) ** 2 for n, d, c in zip(image.shape, voxel_size_mm, centre_mm, strict=True)]
    box = tuple(
        slice(inside[0], inside[-1] + 1) for inside in (np.flatnonzero(a <= max(radius_mm**2, a.min())) for a in axes)
    )
    near0, near1, near2 = (a[b] for a, b in zip(axes, box, strict=True))
    inner = image[box]
    chosen = inner[near0[:, None, None] + near1[:, None] + near2 < radius_mm**2]
    chosen = chosen[(chosen > allowed[0]) & (chosen < allowed[1])]
    return float(np.median(chosen)) if chosen.size else float(allowed[1])
