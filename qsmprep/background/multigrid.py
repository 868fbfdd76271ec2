"""Laplace's operator inside a mask, and a multigrid cycle that nearly inverts it.

The 7-point Laplacian of the voxel size acts on the interior voxels; the value everywhere else is held at 0. Coarser
grids keep every second voxel (of the axes along which voxels are short), with the same mask at the kept voxels. A
cycle of Gauss-Seidel sweeps over them, mirrored in its second half, is a symmetric positive approximate inverse: a
preconditioner for conjugate gradients, whose iterations then hardly depend on the size of the grid.

Arrays have one voxel of zeros on every side, so that no loop asks whether a neighbour exists.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.arrays import Labels, RealArray, Scalar
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.threads import use_threads

SHORT = 1.5  # an axis is coarsened while its voxels are at most this much longer than the shortest
SMALLEST = 3  # a coarse grid has at least this many voxels along an axis
SERIAL = 50_000  # waking threads for a grid of fewer voxels costs more than they save
COARSEST_SWEEPS = 12  # mirrored pairs of sweeps that stand for a solution on the coarsest grid


@dataclass(frozen=True)
class MultigridLevel:
    """One level of the hierarchy.

    Attributes
    ----------
    inside : (n0, n1, n2) uint8, 1 in the interior; 0 on the outermost layer of every side.
    scales : 1 / h^2 of each axis, float32.
    factors : by which each axis shrinks towards the next level, 1 or 2; (1, 1, 1) on the last.
    values, right, residual : buffers of the same shape, float32, 0 outside the interior.
    """

    inside: np.ndarray
    scales: tuple[np.float32, np.float32, np.float32]
    factors: tuple[int, int, int]
    values: np.ndarray
    right: np.ndarray
    residual: np.ndarray


class InteriorLaplacian:
    """Minus the 7-point Laplacian on the interior of a mask, 0 elsewhere, with a multigrid preconditioner.

    Parameters
    ----------
    interior : (n0, n1, n2) bool, the voxels whose value is unknown.
    voxel_size_mm : edge lengths in mm.
    sweeps : Gauss-Seidel sweeps before and after the coarser grid at each level.
    """

    def __init__(self, interior: np.ndarray, voxel_size_mm: tuple[float, float, float], sweeps: int = 2):
        self.sweeps = sweeps
        self.grids = _hierarchy(with_border(interior.astype(np.uint8)), voxel_size_mm)
        self._image = np.zeros_like(self.grids[0].values)

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Minus the Laplacian per mm^2 in the interior of a bordered float32 array; a buffer that is used again."""
        grid = self.grids[0]
        _negative_laplacian(values, grid.inside, *grid.scales, self._image)
        return self._image

    def precondition(self, right: np.ndarray) -> np.ndarray:
        """One cycle for A x = right from x = 0; a buffer that is used again."""
        return self._cycle(0, right)

    def _cycle(self, level: int, right: np.ndarray) -> np.ndarray:
        if self.grids[level].inside.size < SERIAL:
            with use_threads(1):
                return self._smooth_and_correct(level, right)
        return self._smooth_and_correct(level, right)

    def _smooth_and_correct(self, level: int, right: np.ndarray) -> np.ndarray:
        grid = self.grids[level]
        values = grid.values
        first = (grid.inside, *grid.scales)
        last = level == len(self.grids) - 1
        values.fill(0)
        for _ in range(COARSEST_SWEEPS if last else self.sweeps):
            for colour in (0, 1):
                _relax(values, right, *first, colour)
        if not last:
            _residual(values, right, *first, grid.residual)
            coarse = self.grids[level + 1]
            _restrict(grid.residual, coarse.inside, *grid.factors, coarse.right)
            _interpolate(self._cycle(level + 1, coarse.right), grid.inside, *grid.factors, values)
        for _ in range(COARSEST_SWEEPS if last else self.sweeps):
            for colour in (1, 0):
                _relax(values, right, *first, colour)
        return values


def with_border(array: np.ndarray) -> np.ndarray:
    """The array with one layer of zeros on every side."""
    return np.pad(array, 1)


def without_border(array: np.ndarray) -> np.ndarray:
    """What `with_border` was given."""
    return array[1:-1, 1:-1, 1:-1]


def interior(mask: np.ndarray, layers: int = 1) -> np.ndarray:
    """The mask without its outermost layers: voxels go that have a face neighbour outside the mask or the volume."""
    inside = np.pad(mask, 1)
    for _ in range(layers):
        kept = inside.copy()
        for axis in range(inside.ndim):
            kept &= np.roll(inside, 1, axis) & np.roll(inside, -1, axis)
        inside = kept
    return np.ascontiguousarray(without_border(inside))


def peeled(mask: np.ndarray, depth_mm: float, voxel_size_mm: tuple[float, float, float]) -> np.ndarray:
    """The mask without layers of voxels up to a depth, counted along the axes and rounded to whole voxels."""
    inside = np.pad(mask, 1)
    smallest, done = min(voxel_size_mm), [0, 0, 0]
    for step in range(1, int(depth_mm / smallest + 0.5) + 1):
        kept = inside.copy()
        for axis, h in enumerate(voxel_size_mm):
            if int(step * smallest / h + 0.5) > done[axis]:
                done[axis] += 1
                kept &= np.roll(inside, 1, axis) & np.roll(inside, -1, axis)
        inside = kept
    return np.ascontiguousarray(without_border(inside))


def _hierarchy(inside: np.ndarray, voxel_size_mm: tuple[float, float, float]) -> list[MultigridLevel]:
    grids, sizes = [], [float(h) for h in voxel_size_mm]
    while True:
        short = [h <= SHORT * min(sizes) for h in sizes]
        f0, f1, f2 = (2 if s and n // 2 - 1 >= SMALLEST else 1 for s, n in zip(short, inside.shape, strict=True))
        factors = (f0, f1, f2)
        coarse = _coarser(inside, factors)
        if factors == (1, 1, 1) or not coarse.any():
            factors = (1, 1, 1)
        w0, w1, w2 = (np.float32(1 / h**2) for h in sizes)
        buffers = (np.zeros(inside.shape, np.float32) for _ in range(3))
        grids.append(MultigridLevel(inside, (w0, w1, w2), factors, *buffers))
        if factors == (1, 1, 1):
            return grids
        inside, sizes = coarse, [h * f for h, f in zip(sizes, factors, strict=True)]


def _coarser(inside: np.ndarray, factors: tuple[int, int, int]) -> np.ndarray:
    """The mask at the voxels that stay: 0, 2, 4 ... of each axis that shrinks, always with a border of zeros."""
    kept = inside[tuple(slice(None, None, f) for f in factors)]
    end = [(0, 1 if f == 2 and n % 2 == 0 else 0) for f, n in zip(factors, inside.shape, strict=True)]
    return np.ascontiguousarray(np.pad(kept, end))


@jit(parallel=True)
def _negative_laplacian(x: RealArray, inside: Labels, w0: Scalar, w1: Scalar, w2: Scalar, out: RealArray) -> None:
    n0, n1, n2 = x.shape
    centre = 2 * (w0 + w1 + w2)
    for a in prange(1, n0 - 1):
        for b in range(1, n1 - 1):
            for c in range(1, n2 - 1):
                value = (
                    centre * x[a, b, c]
                    - w0 * (x[a - 1, b, c] + x[a + 1, b, c])
                    - w1 * (x[a, b - 1, c] + x[a, b + 1, c])
                    - w2 * (x[a, b, c - 1] + x[a, b, c + 1])
                )
                out[a, b, c] = value if inside[a, b, c] else np.float32(0)


@jit(parallel=True)
def _residual(
    x: RealArray,
    right: RealArray,
    inside: Labels,
    w0: Scalar,
    w1: Scalar,
    w2: Scalar,
    out: RealArray,
) -> None:
    n0, n1, n2 = x.shape
    centre = 2 * (w0 + w1 + w2)
    for a in prange(1, n0 - 1):
        for b in range(1, n1 - 1):
            for c in range(1, n2 - 1):
                value = (
                    right[a, b, c]
                    - centre * x[a, b, c]
                    + w0 * (x[a - 1, b, c] + x[a + 1, b, c])
                    + w1 * (x[a, b - 1, c] + x[a, b + 1, c])
                    + w2 * (x[a, b, c - 1] + x[a, b, c + 1])
                )
                out[a, b, c] = value if inside[a, b, c] else np.float32(0)


@jit(parallel=True)
def _relax(x: RealArray, right: RealArray, inside: Labels, w0: Scalar, w1: Scalar, w2: Scalar, colour: int) -> None:
    """Solve each equation of one colour of the chequerboard for its own voxel."""
    n0, n1, n2 = x.shape
    inverse = np.float32(1) / (2 * (w0 + w1 + w2))
    for a in prange(1, n0 - 1):
        for b in range(1, n1 - 1):
            for c in range(1 + (a + b + 1 + colour) % 2, n2 - 1, 2):
                if inside[a, b, c]:
                    x[a, b, c] = inverse * (
                        right[a, b, c]
                        + w0 * (x[a - 1, b, c] + x[a + 1, b, c])
                        + w1 * (x[a, b - 1, c] + x[a, b + 1, c])
                        + w2 * (x[a, b, c - 1] + x[a, b, c + 1])
                    )


@jit(parallel=True)
def _interpolate(coarse: RealArray, inside: Labels, f0: int, f1: int, f2: int, x: RealArray) -> None:
    """x += linear interpolation of the coarse values, in the interior."""
    n0, n1, n2 = x.shape
    for a in prange(1, n0 - 1):
        row = np.empty(coarse.shape[2], np.float32)
        a0, a1 = a // f0, (a + f0 - 1) // f0
        for b in range(1, n1 - 1):
            b0, b1 = b // f1, (b + f1 - 1) // f1
            for c in range(row.size):
                row[c] = np.float32(0.125) * (
                    coarse[a0, b0, c] + coarse[a0, b1, c] + coarse[a1, b0, c] + coarse[a1, b1, c]
                )
            for c in range(1, n2 - 1):
                if inside[a, b, c]:
                    x[a, b, c] += row[c // f2] + row[(c + f2 - 1) // f2]


@jit(parallel=True)
def _restrict(fine: RealArray, inside: Labels, f0: int, f1: int, f2: int, out: RealArray) -> None:
    """The adjoint of `_interpolate`, divided by the product of the factors: a weighted mean."""
    n0, n1, n2 = inside.shape
    for a in prange(1, n0 - 1):
        row = np.empty(fine.shape[2], np.float32)
        for b in range(1, n1 - 1):
            row[:] = 0
            for i in range(f0 * a - (f0 - 1), min(f0 * a + f0, fine.shape[0])):
                for j in range(f1 * b - (f1 - 1), min(f1 * b + f1, fine.shape[1])):
                    weight = np.float32(1.0 / ((f0 + abs(i - f0 * a) * f0) * (f1 + abs(j - f1 * b) * f1)))
                    for c in range(row.size):
                        row[c] += weight * fine[i, j, c]
            for c in range(1, n2 - 1):
                total = np.float32(0)
                if inside[a, b, c]:
                    for k in range(f2 * c - (f2 - 1), min(f2 * c + f2, row.size)):
                        total += row[k] * np.float32(1.0 / (f2 + abs(k - f2 * c) * f2))
                out[a, b, c] = total
