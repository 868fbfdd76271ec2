"""Total variation as a quadratic penalty whose weights lag one iteration behind, for Gauss-Newton methods."""

from __future__ import annotations

from typing import Any

import numpy as np

from qsmprep.fourier import is_tensor
from qsmprep.jit import jit, prange
from qsmprep.operators import gradient, gradient_adjoint


def diffusivity(x: Any, penalised: Any, voxel_size_mm: tuple[float, float, float], smoothing: float) -> Any:
    """Weights w / sqrt(w |d x|^2 + smoothing) of each gradient component d x, w = 1 where penalised, else 0.

    x : (n0, n1, n2); penalised : (3, n0, n1, n2) bool; returns (3, n0, n1, n2) of x's type.
    """
    steps = gradient(x, voxel_size_mm)
    if is_tensor(x):
        return penalised / (steps**2 + smoothing).sqrt()
    _diffusivity(steps.reshape(-1), penalised.reshape(-1), np.float32(smoothing))
    return steps


def diffuse(x: Any, weights: Any, voxel_size_mm: tuple[float, float, float], out: Any = None) -> Any:
    """Adjoint gradient of (weights times gradient of x), in one pass."""
    if is_tensor(x):
        return gradient_adjoint(weights * gradient(x, voxel_size_mm), voxel_size_mm)
    out = np.empty_like(x) if out is None else out
    _diffuse(x, weights, *(np.float32(1 / h**2) for h in voxel_size_mm), out)
    return out


@jit(parallel=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
def _diffusivity(steps, penalised, smoothing):
    one, zero = np.float32(1), np.float32(0)
    for i in prange(steps.size):
        steps[i] = (one if penalised[i] else zero) / np.sqrt(steps[i] * steps[i] + smoothing)


@jit(parallel=True, fastmath={"reassoc", "contract", "nsz"})
def _diffuse(x, weights, i0, i1, i2, out):
    n0, n1, n2 = x.shape
    for p in prange(n0):
        after = p + 1 if p + 1 < n0 else 0
        for b in range(n1):
            right = b + 1 if b + 1 < n1 else 0
            row, result = x[p, b], out[p, b]
            here, front = weights[0, p, b], weights[0, p - 1, b]
            there, behind = x[after, b], x[p - 1, b]
            for c in range(n2):
                result[c] = i0 * (front[c] * (row[c] - behind[c]) - here[c] * (there[c] - row[c]))
            here, front = weights[1, p, b], weights[1, p, b - 1]
            there, behind = x[p, right], x[p, b - 1]
            for c in range(n2):
                result[c] += i1 * (front[c] * (row[c] - behind[c]) - here[c] * (there[c] - row[c]))
            here = weights[2, p, b]
            flow = here[n2 - 1] * (row[0] - row[n2 - 1])
            result[0] += i2 * (flow - here[0] * (row[1 if n2 > 1 else 0] - row[0]))
            result[n2 - 1] -= i2 * flow
            for c in range(1, n2 - 1):
                result[c] += i2 * (here[c - 1] * (row[c] - row[c - 1]) - here[c] * (row[c + 1] - row[c]))
            if n2 > 1:
                result[n2 - 1] += i2 * here[n2 - 2] * (row[n2 - 1] - row[n2 - 2])
