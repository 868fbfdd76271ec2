"""A closed triangle surface: the tessellated sphere and the voxels that a surface encloses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from qsmprep.numerics.arrays import DoubleArray, Labels
from qsmprep.numerics.jit import jit


@dataclass(frozen=True)
class Tessellation:
    """A unit sphere of triangles and who is whose neighbour.

    Attributes
    ----------
    vertices : (n, 3) float64, on the unit sphere.
    faces : (m, 3) int32 vertex numbers, anticlockwise seen from outside.
    rings : (n, 6) int32, the neighbours of each vertex anticlockwise seen from outside.
    ring_sizes : (n,) int32, 5 at the twelve corners of the icosahedron, else 6.
    """

    vertices: np.ndarray
    faces: np.ndarray
    rings: np.ndarray
    ring_sizes: np.ndarray


@lru_cache(maxsize=2)
def tessellated_sphere(subdivisions: int) -> Tessellation:
    """The icosahedron with every triangle split into four `subdivisions` times, pushed onto the unit sphere.

    Parameters
    ----------
    subdivisions : 0 gives 12 vertices; 4 gives 2562, as in Smith (2002).
    """
    vertices, faces = _icosahedron()
    for _ in range(subdivisions):
        vertices, faces = _split(vertices, faces)
    rings, ring_sizes = _rings(len(vertices), faces)
    for array in (vertices, faces, rings, ring_sizes):
        array.setflags(write=False)
    return Tessellation(vertices, faces, rings, ring_sizes)


def _icosahedron() -> tuple[np.ndarray, np.ndarray]:
    golden = (1 + 5**0.5) / 2
    vertices = np.array([c for a in (-1, 1) for b in (-golden, golden) for c in ((0, a, b), (a, b, 0), (b, 0, a))])
    distances = np.linalg.norm(vertices[:, None] - vertices[None], axis=-1)
    touching = np.isclose(distances, 2)
    faces = []
    for i in range(12):
        for j in range(i + 1, 12):
            for k in range(j + 1, 12):
                if touching[i, j] and touching[j, k] and touching[i, k]:
                    outward = np.linalg.det(vertices[[i, j, k]]) > 0
                    faces.append((i, j, k) if outward else (i, k, j))
    return vertices / np.linalg.norm(vertices[0]), np.array(faces, dtype=np.int32)


def _split(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    unique, where = np.unique(edges, axis=0, return_inverse=True)
    middles = vertices[unique].sum(axis=1)
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    ab, bc, ca = (where.reshape(3, -1) + len(vertices)).astype(np.int32)
    a, b, c = faces.T
    corners = [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
    return np.concatenate([vertices, middles]), np.concatenate([np.stack(corner, axis=1) for corner in corners])


def _rings(count: int, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    following: list[dict[int, int]] = [{} for _ in range(count)]
    for a, b, c in faces.tolist():
        following[a][b], following[b][c], following[c][a] = c, a, b
    rings = np.zeros((count, 6), dtype=np.int32)
    for ring, successor in zip(rings, following, strict=True):
        neighbour = min(successor)
        for place in range(len(successor)):
            ring[place] = neighbour
            neighbour = successor[neighbour]
    return rings, np.array([len(successor) for successor in following], dtype=np.int32)


@jit()
def mean_edge(vertices: DoubleArray, rings: Labels, ring_sizes: Labels) -> Any:
    """Mean distance of a vertex to its neighbours, over the whole surface."""
    total = 0.0
    for v in range(vertices.shape[0]):
        mean = 0.0
        for place in range(ring_sizes[v]):
            w = rings[v, place]
            x = vertices[w, 0] - vertices[v, 0]
            y = vertices[w, 1] - vertices[v, 1]
            z = vertices[w, 2] - vertices[v, 2]
            mean += np.sqrt(x * x + y * y + z * z)
        total += mean / ring_sizes[v]
    return total / vertices.shape[0]


@jit()
def _crossings(vertices: DoubleArray, faces: Labels, steps: Labels) -> None:
    # Rays run along the last axis through the voxel centres. Where one enters the surface the winding number rises
    # by one, where it leaves it falls. An edge is evaluated from its lower to its higher vertex number so that the
    # two triangles that share it agree on which side a ray passes.
    for face in range(faces.shape[0]):
        low0 = low1 = 1e30
        high0 = high1 = -1e30
        for corner in range(3):
            p0, p1 = vertices[faces[face, corner], 0], vertices[faces[face, corner], 1]
            low0, high0, low1, high1 = min(low0, p0), max(high0, p0), min(low1, p1), max(high1, p1)
        for i in range(max(0, int(np.ceil(low0))), min(steps.shape[0] - 1, int(np.floor(high0))) + 1):
            for j in range(max(0, int(np.ceil(low1))), min(steps.shape[1] - 1, int(np.floor(high1))) + 1):
                left = 0
                weighted = area = 0.0
                for corner in range(3):
                    a, b = faces[face, corner], faces[face, (corner + 1) % 3]
                    start, end = min(a, b), max(a, b)
                    side = (vertices[end, 0] - vertices[start, 0]) * (j - vertices[start, 1]) - (
                        vertices[end, 1] - vertices[start, 1]
                    ) * (i - vertices[start, 0])
                    direction = 1 if a == start else -1
                    left += direction if side >= 0 else -direction
                    opposite = faces[face, (corner + 2) % 3]
                    weighted += direction * side * vertices[opposite, 2]
                    area += direction * side
                if (left == 3 or left == -3) and area != 0:
                    height = int(np.ceil(weighted / area))
                    if height < steps.shape[2]:
                        steps[i, j, max(height, 0)] += -1 if left == 3 else 1


@jit()
def _accumulate(steps: Labels) -> None:
    for i in range(steps.shape[0]):
        for j in range(steps.shape[1]):
            for k in range(1, steps.shape[2]):
                steps[i, j, k] += steps[i, j, k - 1]


def winding_numbers(vertices: np.ndarray, faces: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """How often a closed surface goes round the centre of each voxel.

    A surface that does not cross itself gives 1 inside and 0 outside; where it folds over itself there are others.

    Parameters
    ----------
    vertices : (n, 3) float64 positions in voxels; voxel (i, j, k) has its centre at (i, j, k).
    faces : (m, 3) int32, anticlockwise seen from outside.
    shape : of the volume; parts of the surface outside it are cut off.

    Returns
    -------
    int8 array of that shape.
    """
    # A hair's breadth keeps vertices off the rays, where an edge test alone could count a crossing twice.
    shifted = vertices + np.array([1.7e-6, 2.3e-6, 0.0])
    steps = np.zeros(shape, dtype=np.int8)
    _crossings(shifted, faces, steps)
    _accumulate(steps)
    return steps
