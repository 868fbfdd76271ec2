"""The deformable surface of BET: it swells from inside the head until it meets the dark rim of the brain."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from qsmprep.masking.head import HeadEstimate
from qsmprep.masking.surface import Tessellation, mean_edge, winding_numbers
from qsmprep.numerics.arrays import DoubleArray, Labels, RealArray
from qsmprep.numerics.jit import jit
from qsmprep.scan import Triple

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
class Forces:
    """What moves the surface.

    Attributes
    ----------
    fractional_intensity, slope : local threshold b of Smith (2002) at the head's centre, and its change by mm (3,).
    depths_mm : how deep the darkest and the brightest voxel are searched for.
    iterations : number of steps.
    """

    fractional_intensity: float
    slope: np.ndarray
    depths_mm: tuple[int, int]
    iterations: int


def swell(
    image: RealArray, voxel: DoubleArray, head: HeadEstimate, sphere: Tessellation, radii_mm: Any, forces: Forces
) -> np.ndarray:
    """What the final surface encloses: grown once, and again with more smoothing while it crosses itself.

    Parameters
    ----------
    image : (n0, n1, n2) float32.
    voxel : (3,) edge lengths in mm.
    head : its intensities, and the centre from which the surface starts.
    sphere : the surface's triangles.
    radii_mm : distance of the vertices from the centre at the start, one number or (n,).
    forces : see `Forces`.

    Returns
    -------
    (n0, n1, n2) bool.
    """
    intensities = (head.darkest, head.threshold, head.median)
    slope = forces.slope
    plane = (forces.fractional_intensity - slope @ head.centre_mm, slope[0], slope[1], slope[2])
    for run in range(1 + len(SMOOTHER)):
        course = (1.0 if run == 0 else SMOOTHER[run - 1], forces.iterations)
        vertices = sphere.vertices * np.reshape(radii_mm, (-1, 1)) + head.centre_mm
        neighbours = (sphere.rings, sphere.ring_sizes)
        _evolve(image, voxel, vertices, neighbours, intensities, forces.depths_mm, plane, course)
        winding = winding_numbers(vertices / voxel, sphere.faces, image.shape)
        crossed = np.count_nonzero(winding & ~1)
        if crossed <= TOLERATED_CROSSING * np.count_nonzero(winding):
            return np.asarray(winding > 0)
        _LOGGER.info("The brain surface crosses itself in %d voxels (run %d).", crossed, run + 1)
    _LOGGER.warning("The brain surface still crosses itself in %d voxels after %d runs.", crossed, run + 1)
    return np.asarray(winding > 0)


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
