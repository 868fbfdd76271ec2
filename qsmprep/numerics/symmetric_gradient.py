"""Symmetric gradient of a vector field, the second-order part of total generalised variation, and its adjoint.

Tensors are (6, n0, n1, n2): the diagonal 00, 11, 22, then 01, 02, 12. Each mixed component stands for two equal
elements, so it counts twice in norms and inner products. The vector's components are forward differences of an image;
the differences here are backward ones, which puts second differences back on the voxels.
"""

from __future__ import annotations

import numpy as np

from qsmprep.numerics.arrays import Array, RealArray, Scalar
from qsmprep.numerics.fourier import is_tensor
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.krylov import inner_product
from qsmprep.numerics.operators import inverse_sizes

PAIRS = ((0, 1), (0, 2), (1, 2))  # axes of the mixed components


def symmetric_gradient(v: Array, voxel_size_mm: tuple[float, float, float], out: Array | None = None) -> Array:
    """E v = (J + J') / 2 with J the periodic backward differences per mm: (3, n0, n1, n2) -> (6, n0, n1, n2)."""
    if is_tensor(v):
        import torch

        def back(component: int, axis: int) -> Array:
            return (v[component] - v[component].roll(1, axis)) / voxel_size_mm[axis]

        mixed = [(back(i, j) + back(j, i)) / 2 for i, j in PAIRS]
        return torch.stack([back(0, 0), back(1, 1), back(2, 2), *mixed])
    out = np.empty((6, *v.shape[1:]), v.dtype) if out is None else out
    _symmetric_gradient(v, *inverse_sizes(voxel_size_mm, v.dtype), v.dtype.type(0.5), out)
    return out


def symmetric_gradient_adjoint(t: Array, voxel_size_mm: tuple[float, float, float], out: Array | None = None) -> Array:
    """Adjoint of `symmetric_gradient` under `tensor_inner_product`: (6, n0, n1, n2) -> (3, n0, n1, n2)."""
    if is_tensor(t):
        import torch

        def fall(component: int, axis: int) -> Array:
            return (t[component] - t[component].roll(-1, axis)) / voxel_size_mm[axis]

        rows = ((0, 3, 4), (3, 1, 5), (4, 5, 2))
        return torch.stack([sum(fall(component, axis) for axis, component in enumerate(row)) for row in rows])
    out = np.empty((3, *t.shape[1:]), t.dtype) if out is None else out
    _symmetric_gradient_adjoint(t, *inverse_sizes(voxel_size_mm, t.dtype), out)
    return out


def tensor_inner_product(a: Array, b: Array) -> float:
    """Sum of products of two tensor fields, mixed components counted twice, in double precision."""
    return inner_product(a[:3], b[:3]) + 2 * inner_product(a[3:], b[3:])


@jit(parallel=True)
def _symmetric_gradient(v: RealArray, i0: Scalar, i1: Scalar, i2: Scalar, half: Scalar, out: RealArray) -> None:
    n0, n1, n2 = v.shape[1:]
    for a in prange(n0):
        before = a - 1 if a > 0 else n0 - 1
        for b in range(n1):
            left = b - 1 if b > 0 else n1 - 1
            for c in range(n2):
                d = c - 1 if c > 0 else n2 - 1
                v0, v1, v2 = v[0, a, b, c], v[1, a, b, c], v[2, a, b, c]
                out[0, a, b, c] = (v0 - v[0, before, b, c]) * i0
                out[1, a, b, c] = (v1 - v[1, a, left, c]) * i1
                out[2, a, b, c] = (v2 - v[2, a, b, d]) * i2
                out[3, a, b, c] = half * ((v0 - v[0, a, left, c]) * i1 + (v1 - v[1, before, b, c]) * i0)
                out[4, a, b, c] = half * ((v0 - v[0, a, b, d]) * i2 + (v2 - v[2, before, b, c]) * i0)
                out[5, a, b, c] = half * ((v1 - v[1, a, b, d]) * i2 + (v2 - v[2, a, left, c]) * i1)


@jit(parallel=True)
def _symmetric_gradient_adjoint(t: RealArray, i0: Scalar, i1: Scalar, i2: Scalar, out: RealArray) -> None:
    n0, n1, n2 = t.shape[1:]
    for a in prange(n0):
        after = a + 1 if a + 1 < n0 else 0
        for b in range(n1):
            right = b + 1 if b + 1 < n1 else 0
            for c in range(n2):
                d = c + 1 if c + 1 < n2 else 0
                t01, t02, t12 = t[3, a, b, c], t[4, a, b, c], t[5, a, b, c]
                out[0, a, b, c] = (
                    (t[0, a, b, c] - t[0, after, b, c]) * i0
                    + (t01 - t[3, a, right, c]) * i1
                    + (t02 - t[4, a, b, d]) * i2
                )
                out[1, a, b, c] = (
                    (t01 - t[3, after, b, c]) * i0
                    + (t[1, a, b, c] - t[1, a, right, c]) * i1
                    + (t12 - t[5, a, b, d]) * i2
                )
                out[2, a, b, c] = (
                    (t02 - t[4, after, b, c]) * i0
                    + (t12 - t[5, a, right, c]) * i1
                    + (t[2, a, b, c] - t[2, a, b, d]) * i2
                )
