"""Krylov solvers that every method shares: conjugate gradients and LSMR, on numpy arrays or torch tensors.

Inner products are accumulated in double precision, over pieces of fixed size that are added in a fixed order, so
that the result does not depend on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from qsmprep.numerics.arrays import Array, DoubleArray, RealArray, Scalar
from qsmprep.numerics.fourier import is_tensor
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.progress import Progress

PIECE = 32768  # elements added by one thread before the partial sums meet
LANES = 256  # sums side by side in a piece: they vectorise in a fixed order


class Solution(NamedTuple):
    """How a linear solve ended.

    Attributes
    ----------
    x : the solution, of the shape and kind of the right-hand side.
    iterations : iterations done.
    history : the monitored relative quantity after each iteration.
    converged : whether it fell below the tolerance.
    """

    x: Array
    iterations: int
    history: tuple[float, ...]
    converged: bool


def inner_product(a: Array, b: Array) -> float:
    """Sum of products of two real arrays of one shape, accumulated in double precision in a fixed order."""
    if is_tensor(a):
        import torch

        return float((a * b).sum(dtype=torch.float64))
    parts = np.empty(-(-a.size // PIECE))
    _partial_products(_flat(a), _flat(b), PIECE, parts)
    return math.fsum(parts)


def norm(a: Array) -> float:
    """Euclidean norm, accumulated as in `inner_product`."""
    return math.sqrt(inner_product(a, a))


def conjugate_gradient(
    apply: Callable[[Array], Array],
    rhs: Array,
    *,
    x0: Array | None = None,
    tolerance: float,
    max_iterations: int,
    precondition: Callable[[Array], Array] | None = None,
    progress: Progress | None = None,
) -> Solution:
    """Solve A x = b for a symmetric positive (semi-)definite A by preconditioned conjugate gradients.

    Parameters
    ----------
    apply : x -> A x. It may return a buffer that it uses again.
    rhs : b, a real C-contiguous array or tensor of any shape.
    x0 : where to start, left unchanged; zero when None.
    tolerance : stop when |b - A x| <= tolerance |b|.
    max_iterations : cap on iterations.
    precondition : r -> approximate inverse of A times r, symmetric positive. May return a buffer that it uses again.
    progress : called as progress(iteration, max_iterations) after each iteration.

    Returns
    -------
    Solution, whose history holds the relative residuals |b - A x| / |b|.

    References
    ----------
    Hestenes and Stiefel 1952.
    """
    scale = norm(rhs)
    if scale == 0:
        return Solution(rhs * 0, 0, (), True)
    x = rhs * 0 if x0 is None else _copy(x0)
    residual = _copy(rhs) if x0 is None else rhs - apply(x)
    relative, history = norm(residual) / scale, []
    direction, slope, iteration = None, 0.0, 0
    while relative > tolerance and iteration < max_iterations:
        steepest = residual if precondition is None else precondition(residual)
        previous, slope = slope, inner_product(residual, steepest)
        direction = _copy(steepest) if direction is None else _blend(direction, slope / previous, steepest)
        image = apply(direction)
        curvature = inner_product(direction, image)
        if not curvature > 0:  # the residual lies in A's null space: nothing more to gain
            break
        relative = math.sqrt(_step(x, residual, slope / curvature, direction, image)) / scale
        history.append(relative)
        iteration += 1
        if progress is not None:
            progress(iteration, max_iterations)
    return Solution(x, iteration, tuple(history), relative <= tolerance)


def lsmr(
    apply: Callable[[Array], Array],
    adjoint: Callable[[Array], Array],
    rhs: Array,
    *,
    tolerance: float = 0.0,
    max_iterations: int,
    progress: Progress | None = None,
) -> Solution:
    """Least squares min |A x - b| for any linear A by LSMR, in which |A'(b - A x)| falls with every iteration.

    Parameters
    ----------
    apply, adjoint : x -> A x and y -> A' y. They may return buffers that they use again.
    rhs : b, a real C-contiguous array or tensor of any shape.
    tolerance : stop when |A'(b - A x)| <= tolerance |A' b|.
    max_iterations : cap on iterations; few iterations regularise.
    progress : called as progress(iteration, max_iterations) after each iteration.

    Returns
    -------
    Solution, whose history holds |A'(b - A x)| / |A' b|.

    References
    ----------
    Fong and Saunders, SIAM J Sci Comput 33:2950 (2011).
    """
    beta = norm(rhs)
    u = rhs * (1 / beta if beta else 0.0)
    v = _copy(adjoint(u))
    alpha = norm(v)
    x = v * 0
    if alpha == 0:
        return Solution(x, 0, (), True)
    v = v * (1 / alpha)
    h, h_bar = _copy(v), v * 0
    start = zeta_bar = alpha * beta
    alpha_bar, rho, rho_bar, c_bar, s_bar = alpha, 1.0, 1.0, 1.0, 0.0
    history: list[float] = []
    while len(history) < max_iterations and alpha > 0:
        u, beta = _normalised(_blend(u, -alpha, apply(v)))
        v, alpha = _normalised(_blend(v, -beta, adjoint(u)))
        rho_before, rho = rho, math.hypot(alpha_bar, beta)
        theta, alpha_bar = beta / rho * alpha, alpha_bar / rho * alpha
        rho_bar_before, theta_bar = rho_bar, s_bar * rho
        rho_bar = math.hypot(c_bar * rho, theta)
        c_bar, s_bar = c_bar * rho / rho_bar, theta / rho_bar
        zeta, zeta_bar = c_bar * zeta_bar, -s_bar * zeta_bar
        h_bar = _blend(h_bar, -theta_bar * rho / (rho_before * rho_bar_before), h)
        x = _blend(_copy(h_bar), zeta / (rho * rho_bar), x)
        h = _blend(h, -theta / rho, v)
        history.append(abs(zeta_bar) / start)
        if progress is not None:
            progress(len(history), max_iterations)
        if history[-1] <= tolerance:
            break
    return Solution(x, len(history), tuple(history), alpha == 0 or history[-1] <= tolerance)


def _normalised(a: Array) -> tuple[Array, float]:
    size = norm(a)
    return (a * (1 / size) if size > 0 else a), size


def _copy(a: Array) -> Array:
    return a.clone() if is_tensor(a) else np.array(a, order="C")


def _flat(a: RealArray) -> RealArray:
    return np.ascontiguousarray(a).reshape(-1)


def _blend(a: Array, factor: float, b: Array) -> Array:
    """a <- factor a + b, in place where a is contiguous; returns it."""
    if is_tensor(a):
        return a.mul_(factor).add_(b)
    _scale_add(a.reshape(-1), a.dtype.type(factor), _flat(b))
    return a


def _step(x: Array, residual: Array, length: float, direction: Array, image: Array) -> float:
    """x += length direction; residual -= length image; returns |residual|^2."""
    if is_tensor(x):
        x.add_(direction, alpha=length)
        residual.sub_(image, alpha=length)
        return inner_product(residual, residual)
    flat = x.reshape(-1)
    parts = np.empty(-(-flat.size // PIECE))
    _advance(flat, residual.reshape(-1), flat.dtype.type(length), _flat(direction), _flat(image), PIECE, parts)
    return math.fsum(parts)


@jit(parallel=True)
def _partial_products(a: RealArray, b: RealArray, piece: int, parts: DoubleArray) -> None:
    for part in prange(parts.size):
        sums = np.zeros(LANES)
        for start in range(part * piece, min((part + 1) * piece, a.size), LANES):
            row, other = a[start : start + LANES], b[start : start + LANES]
            for k in range(row.size):
                sums[k] += np.float64(row[k]) * np.float64(other[k])
        parts[part] = sums.sum()


@jit(parallel=True)
def _scale_add(a: RealArray, factor: Scalar, b: RealArray) -> None:
    for i in prange(a.size):
        a[i] = factor * a[i] + b[i]


@jit(parallel=True)
def _advance(
    x: RealArray, residual: RealArray, length: Scalar, direction: RealArray, image: RealArray, piece: int,
    parts: DoubleArray,
) -> None:  # fmt: skip
    for part in prange(parts.size):
        sums = np.zeros(LANES)
        for start in range(part * piece, min((part + 1) * piece, x.size), LANES):
            here, rest = x[start : start + LANES], residual[start : start + LANES]
            along, made = direction[start : start + LANES], image[start : start + LANES]
            for k in range(here.size):
                here[k] += length * along[k]
                left = rest[k] - length * made[k]
                rest[k] = left
                sums[k] += np.float64(left) ** 2
        parts[part] = sums.sum()
