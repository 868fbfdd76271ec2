"""Linear operators that the solvers share: gradients, their adjoints, Laplacian, spherical mean.

Gradients are periodic forward differences divided by the voxel size. Each operator takes numpy arrays (compiled,
threaded loops) or torch tensors, and each has an adjoint that satisfies <A x, y> = <x, A' y>.
"""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any

import numpy as np

from qsmprep.numerics.arrays import Array, FloatImage, RealArray, Scalar
from qsmprep.numerics.fourier import indices, is_tensor, rfftn
from qsmprep.numerics.jit import jit, prange


def gradient(x: Array, voxel_size_mm: tuple[float, float, float], out: Array | None = None) -> Array:
    """Forward differences along each axis per mm, periodic: (n0, n1, n2) -> (3, n0, n1, n2)."""
    if is_tensor(x):
        import torch

        return torch.stack([(x.roll(-1, axis) - x) / h for axis, h in enumerate(voxel_size_mm)])
    out = np.empty((3, *x.shape), x.dtype) if out is None else out
    _gradient(x, *inverse_sizes(voxel_size_mm, x.dtype), out)
    return out


def gradient_adjoint(g: Array, voxel_size_mm: tuple[float, float, float], out: Array | None = None) -> Array:
    """Adjoint of `gradient` (minus the divergence): (3, n0, n1, n2) -> (n0, n1, n2)."""
    if is_tensor(g):
        return sum((g[axis].roll(1, axis) - g[axis]) / h for axis, h in enumerate(voxel_size_mm))
    out = np.empty(g.shape[1:], g.dtype) if out is None else out
    _gradient_adjoint(g, *inverse_sizes(voxel_size_mm, g.dtype), out)
    return out


def laplacian_spectrum(shape: tuple[int, ...], voxel_size_mm: tuple[float, float, float]) -> FloatImage:
    """Half spectrum of gradient_adjoint(gradient(.)) = minus the 7-point Laplacian, per mm^2: float32, >= 0."""
    rows = [
        (2 - 2 * np.cos(2 * np.pi * n / size)) / h**2
        for n, size, h in zip(indices(shape), shape, voxel_size_mm, strict=True)
    ]
    return reduce(add, rows).astype(np.float32)


def sphere_kernel(shape: tuple[int, ...], voxel_size_mm: tuple[float, float, float], radius_mm: float) -> FloatImage:
    """Half spectrum of the spherical mean: voxels whose centre lies within the radius, normalised to sum 1.

    Returns a real float32 array; a radius below every voxel size gives the identity.
    """
    squares = [
        (np.fft.fftfreq(size, 1.0 / size) * h).reshape([-1 if a == axis else 1 for a in range(3)]) ** 2
        for axis, (size, h) in enumerate(zip(shape, voxel_size_mm, strict=True))
    ]
    ball = (reduce(add, squares) <= radius_mm**2 * (1 + 1e-6)).astype(np.float32)
    return np.ascontiguousarray(rfftn(ball / ball.sum(dtype=np.float64).astype(np.float32)).real)


def inverse_sizes(voxel_size_mm: tuple[float, float, float], dtype: np.dtype[Any]) -> tuple[Scalar, Scalar, Scalar]:
    """1 / h of each axis in the precision of an image, as compiled loops take it."""
    i0, i1, i2 = (dtype.type(1.0 / h) for h in voxel_size_mm)
    return i0, i1, i2


@jit(parallel=True)
def _gradient(x: RealArray, i0: Scalar, i1: Scalar, i2: Scalar, out: RealArray) -> None:
    n0, n1, n2 = x.shape
    for a in prange(n0):
        nexta = a + 1 if a + 1 < n0 else 0
        for b in range(n1):
            nextb = b + 1 if b + 1 < n1 else 0
            for c in range(n2 - 1):
                v = x[a, b, c]
                out[0, a, b, c] = (x[nexta, b, c] - v) * i0
                out[1, a, b, c] = (x[a, nextb, c] - v) * i1
                out[2, a, b, c] = (x[a, b, c + 1] - v) * i2
            c = n2 - 1
            v = x[a, b, c]
            out[0, a, b, c] = (x[nexta, b, c] - v) * i0
            out[1, a, b, c] = (x[a, nextb, c] - v) * i1
            out[2, a, b, c] = (x[a, b, 0] - v) * i2


@jit(parallel=True)
def _gradient_adjoint(g: RealArray, i0: Scalar, i1: Scalar, i2: Scalar, out: RealArray) -> None:
    n0, n1, n2 = out.shape
    for a in prange(n0):
        for b in range(n1):
            out[a, b, 0] = (
                (g[0, a - 1, b, 0] - g[0, a, b, 0]) * i0
                + (g[1, a, b - 1, 0] - g[1, a, b, 0]) * i1
                + (g[2, a, b, n2 - 1] - g[2, a, b, 0]) * i2
            )
            for c in range(1, n2):
                out[a, b, c] = (
                    (g[0, a - 1, b, c] - g[0, a, b, c]) * i0
                    + (g[1, a, b - 1, c] - g[1, a, b, c]) * i1
                    + (g[2, a, b, c - 1] - g[2, a, b, c]) * i2
                )
