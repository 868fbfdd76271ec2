"""Brain extraction with a deformable surface, after the Brain Extraction Tool (BET)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from qsmprep.masking.morphology import fill_holes, largest_component
from qsmprep.masking.surface import mean_edge, tessellated_sphere, winding_numbers
from qsmprep.numerics.arrays import DoubleArray, Labels, RealArray
from qsmprep.numerics.jit import jit
from qsmprep.options import check_options, option
from qsmprep.scan import Scan, Triple

SUBDIVISIONS = 4
# Smith (2002): the surface may bend freely at radii above 10 mm and hardly at all below 3.33 mm.
SMALLEST_RADIUS_MM = 3.33
LARGEST_RADIUS_MM = 10.0
# Each re-run smooths concave parts that much more, while more than this share of the voxels lies in a crossing.
SMOOTHER = (10.0, 100.0, 1000.0)
TOLERATED_CROSSING = 1e-3
# Steps between two looks at the mean edge length, which changes slowly.
EDGE_UPDATE = 10

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class BetOptions:
    """Options of `bet` and `brain_image`."""

    image: str = option(
        "first-echo",
        "magnitude image the brain is extracted from",
        choices=("first-echo", "root-sum-of-squares"),
    )
    fractional_intensity: float = option(
        0.5, "fractional intensity threshold; smaller gives a larger brain", low=0.0, high=1.0
    )
    vertical_gradient: float = option(
        0.0,
        "change of the threshold from bottom to top; positive gives a larger brain at the bottom and a "
        "smaller one at the top",
        low=-1.0,
        high=1.0,
    )
    dark_depth_mm: float = option(
        20.0, "depth within which the darkest voxel is searched for", unit="mm", low=1, high=40
    )
    # The paper searches 20 mm for the darkest voxel and 10 mm for the brightest; FSL's BET looks 7 and 3 mm deep.
    # Twenty keeps the surface out of neck and orbits, three keeps it from losing cortex where coils see less.
    bright_depth_mm: float = option(
        3.0, "depth within which the brightest voxel is searched for", unit="mm", low=1, high=40
    )
    iterations: int = option(1000, "number of iterations of the surface", low=1, high=20000)


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
    """

    darkest: float
    brightest: float
    threshold: float
    centre_mm: np.ndarray
    radius_mm: float
    median: float


def brain_image(magnitude: np.ndarray, *, options: BetOptions = BetOptions()) -> np.ndarray:
    """The magnitude image that `bet` should see.

    Parameters
    ----------
    magnitude : (n_echo, n0, n1, n2), or (n0, n1, n2) for one echo.
    options : `image` chooses the first echo or the root sum of squares over the echoes.

    Returns
    -------
    (n0, n1, n2) float32.
    """
    check_options(options)
    if magnitude.ndim == 3:
        return np.asarray(magnitude, dtype=np.float32)
    if options.image == "first-echo":
        return np.asarray(magnitude[0], dtype=np.float32)
    total = np.zeros(magnitude.shape[1:], dtype=np.float32)
    for echo in magnitude:
        total += np.square(echo, dtype=np.float32)
    return np.sqrt(total, out=total)


def bet(
    image: np.ndarray,
    *,
    scan: Scan,
    superior_direction: tuple[float, float, float] = (0.0, 0.0, 1.0),
    options: BetOptions = BetOptions(),
) -> np.ndarray:
    """Brain mask by a surface that swells from inside the head until it meets the dark rim of the brain.

    A tessellated sphere of half the head's radius moves by u = 0.5 s_t + f2 s_n + 0.05 f3 l n: s is the way to the
    mean of a vertex's neighbours, split along the normal n; f2 smooths where the surface bends more sharply than a
    brain does; f3 = 2 (I_min - t_l) / (I_max - t_2) pushes outwards while the darkest voxel below the vertex is
    brighter than t_l = t_2 + b (I_max - t_2), and inwards otherwise; b is the fractional intensity to the power 0.275,
    changed linearly with height by the vertical gradient.

    Parameters
    ----------
    image : (n0, n1, n2) magnitude of a head, any scale; voxels that are not finite count as dark.
    scan : its voxel size.
    superior_direction : towards the top of the head, along the three voxel axes, in mm; needed by a vertical gradient.
    options : see `BetOptions`.

    Returns
    -------
    (n0, n1, n2) bool, one piece without holes.

    Raises
    ------
    ValueError : the image is not 3D or shows no head, or the surface collapsed.

    References
    ----------
    Smith SM (2002). Fast robust automated brain extraction. Hum Brain Mapp 17:143-155.

    Examples
    --------
    Brain, dark skull and scalp in voxels of 6 mm; the surface, stopped early, is on its way to the rim of the brain.

    >>> x, y, z = 6 * (np.indices((33, 33, 33)) - 16)
    >>> depth = np.sqrt((x / 60) ** 2 + (y / 75) ** 2 + (z / 60) ** 2)
    >>> head = np.select([depth < 1, depth < 1.15, depth < 1.3], [100.0, 5.0, 80.0])
    >>> found = bet(head, scan=Scan((6, 6, 6)), options=BetOptions(iterations=200))
    >>> bool(found[16, 16, 16]), bool(found[depth > 1].any())
    (True, False)
    """
    check_options(options)
    if image.ndim != 3:
        raise ValueError(f"BET needs one 3D image, but this one has shape {image.shape}.")
    image = np.ascontiguousarray(image, dtype=np.float32)
    if not np.isfinite(image).all():
        image = np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0)
    voxel = np.asarray(scan.voxel_size_mm, dtype=np.float64)
    superior = np.asarray(superior_direction, dtype=np.float64)
    if not np.linalg.norm(superior) > 0:
        raise ValueError("superior_direction must not be the null vector.")
    head = estimate_head(image, voxel)
    mask = _grow(image, voxel, head, superior / np.linalg.norm(superior), options) > 0
    if not mask.any():
        raise ValueError("Brain extraction found no brain: the surface collapsed. Give a mask, or try another image.")
    return fill_holes(largest_component(mask))


def estimate_head(image: np.ndarray, voxel_size_mm: np.ndarray) -> HeadEstimate:
    """Intensity range, centre, size and median intensity of a head, as BET's start.

    Raises ValueError for an image without contrast.
    """
    # Every s-th voxel in memory order, s coprime with the row length, is an even sample of the volume.
    step = max(1, image.size // 1_000_000)
    while step > 1 and np.gcd(step, image.shape[2]) > 1:
        step += 1
    darkest, brightest = (float(value) for value in np.percentile(image.reshape(-1)[::step], (2, 98)))
    if not brightest > darkest:
        raise ValueError("Brain extraction needs an image of a head, but at least 96 % of this magnitude is constant.")
    threshold = darkest + 0.1 * (brightest - darkest)
    count, weight, centre = _gravity(image, darkest, threshold, brightest)
    centre_mm = np.array(centre) / weight * voxel_size_mm
    radius_mm = float((0.75 / np.pi * count * np.prod(voxel_size_mm)) ** (1 / 3))
    median = _median_within(image, voxel_size_mm, centre_mm, radius_mm, (darkest, brightest))
    return HeadEstimate(darkest, brightest, threshold, centre_mm, radius_mm, median)


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


def _grow(
    image: RealArray,
    voxel: DoubleArray,
    head: HeadEstimate,
    superior: DoubleArray,
    options: BetOptions,
) -> Labels:
    """Winding numbers of the final surface: grown once, and again with more smoothing while it crosses itself."""
    sphere = tessellated_sphere(SUBDIVISIONS)
    intensities = (head.darkest, head.threshold, head.median)
    depths = (int(options.dark_depth_mm), int(options.bright_depth_mm))
    # FSL's BET raises its threshold to this power, so that "f 0.5" means the same here as there.
    fraction = options.fractional_intensity**0.275
    # The local fraction is linear in the position: fraction + gradient * (height above the centre) / radius.
    slope = options.vertical_gradient * superior / head.radius_mm
    plane = (fraction - slope @ head.centre_mm, slope[0], slope[1], slope[2])
    for run in range(1 + len(SMOOTHER)):
        course = (1.0 if run == 0 else SMOOTHER[run - 1], options.iterations)
        vertices = sphere.vertices * (0.5 * head.radius_mm) + head.centre_mm
        _evolve(image, voxel, vertices, (sphere.rings, sphere.ring_sizes), intensities, depths, plane, course)
        winding = winding_numbers(vertices / voxel, sphere.faces, image.shape)
        crossed = np.count_nonzero(winding & ~1)
        if crossed <= TOLERATED_CROSSING * np.count_nonzero(winding):
            return winding
        _LOGGER.info("The brain surface crosses itself in %d voxels (run %d).", crossed, run + 1)
    _LOGGER.warning("The brain surface still crosses itself in %d voxels after %d runs.", crossed, run + 1)
    return winding


@jit()
def _normal_and_pull(
    vertices: DoubleArray,
    rings: Labels,
    ring_sizes: Labels,
    v: int,
) -> tuple[float, float, float, float, float, float]:
    """Outward unit normal of the surface at a vertex, and the way from it to the mean of its neighbours."""
    size = ring_sizes[v]
    p0, p1, p2 = vertices[v, 0], vertices[v, 1], vertices[v, 2]
    last = rings[v, size - 1]
    a0, a1, a2 = vertices[last, 0] - p0, vertices[last, 1] - p1, vertices[last, 2] - p2
    n0 = n1 = n2 = s0 = s1 = s2 = 0.0
    for place in range(size):
        w = rings[v, place]
        b0, b1, b2 = vertices[w, 0] - p0, vertices[w, 1] - p1, vertices[w, 2] - p2
        n0 += a1 * b2 - a2 * b1
        n1 += a2 * b0 - a0 * b2
        n2 += a0 * b1 - a1 * b0
        s0 += b0
        s1 += b1
        s2 += b2
        a0, a1, a2 = b0, b1, b2
    length = np.sqrt(n0 * n0 + n1 * n1 + n2 * n2)
    scale = 1 / length if length > 0 else 0.0
    return n0 * scale, n1 * scale, n2 * scale, s0 / size, s1 / size, s2 / size


@jit()
def _intensity_force(
    image: RealArray,
    voxel: DoubleArray,
    position: Triple,
    normal: Triple,
    intensities: Triple,
    depths: tuple[int, int],
    fraction: float,
) -> Any:
    """f3 of the paper: how much brighter than the local threshold the darkest voxel below the vertex is."""
    darkest, threshold, median = intensities
    x0, x1, x2 = position[0] / voxel[0] + 0.5, position[1] / voxel[1] + 0.5, position[2] / voxel[2] + 0.5
    d0, d1, d2 = normal[0] / voxel[0], normal[1] / voxel[1], normal[2] / voxel[2]
    lowest, highest = median, threshold
    # The walk starts 1 mm inside: the voxel of the vertex itself is already half rim.
    for distance in range(1, max(depths) + 1):
        i = int(np.floor(x0 - distance * d0))
        j = int(np.floor(x1 - distance * d1))
        k = int(np.floor(x2 - distance * d2))
        inside = 0 <= i < image.shape[0] and 0 <= j < image.shape[1] and 0 <= k < image.shape[2]
        if not inside:
            if distance == 1:
                return 0.0
            break
        value = image[i, j, k]
        if distance <= depths[0]:
            lowest = min(lowest, value)
        if distance <= depths[1]:
            highest = max(highest, value)
    lowest, highest = max(darkest, lowest), min(median, highest)
    if highest <= darkest:
        return 0.0
    return 2 * (lowest - darkest - fraction * (highest - darkest)) / (highest - darkest)


@jit()
def _evolve(
    image: RealArray,
    voxel: DoubleArray,
    vertices: DoubleArray,
    neighbours: tuple[Labels, Labels],
    intensities: Triple,
    depths: tuple[int, int],
    plane: tuple[float, float, float, float],
    course: tuple[float, int],
) -> None:
    """Move the vertices, (n, 3) in mm, in place."""
    rings, ring_sizes = neighbours
    smoothing, iterations = course
    stiff, soft = 1 / SMALLEST_RADIUS_MM, 1 / LARGEST_RADIUS_MM
    bend, steepness = (stiff + soft) / 2, 6 / (stiff - soft)
    moved = np.empty_like(vertices)
    edge = 0.0
    for iteration in range(iterations):
        if iteration % EDGE_UPDATE == 0:
            edge = mean_edge(vertices, rings, ring_sizes)
        # Smith (2002): stronger for three quarters of the steps, then falling to the plain weight.
        weight = 1 + (smoothing - 1) * min(1.0, 4 * (1 - iteration / iterations))
        for v in range(vertices.shape[0]):
            n0, n1, n2, s0, s1, s2 = _normal_and_pull(vertices, rings, ring_sizes, v)
            along = s0 * n0 + s1 * n1 + s2 * n2
            smooth = 0.5 * (1 + np.tanh(steepness * (2 * abs(along) / (edge * edge) - bend)))
            if along > 0:
                smooth = min(1.0, smooth * weight)
            p0, p1, p2 = vertices[v, 0], vertices[v, 1], vertices[v, 2]
            fraction = min(1.0, max(0.0, plane[0] + p0 * plane[1] + p1 * plane[2] + p2 * plane[3]))
            force = _intensity_force(image, voxel, (p0, p1, p2), (n0, n1, n2), intensities, depths, fraction)
            # 0.5 s_t = 0.5 (s - s_n): the normal part of the pull is weighted by `smooth` instead of by one half.
            normal = (smooth - 0.5) * along + 0.05 * edge * force
            moved[v, 0] = p0 + 0.5 * s0 + normal * n0
            moved[v, 1] = p1 + 0.5 * s1 + normal * n1
            moved[v, 2] = p2 + 0.5 * s2 + normal * n2
        vertices[:] = moved
