"""Total generalised variation with a data term in the phase, by alternating directions.

min over x, v of 1/2 W |exp(i D x) - exp(i phase)|^2 + |t1 (grad x - v)|_1 + alpha0 |E v|_1, E the symmetric gradient.
A piecewise linear x costs nothing but its kinks, so that slopes are not broken into the steps of total variation.

x and v are solved for jointly at each frequency: with two blocks the iteration converges whatever the penalty
parameters. That takes five pairs of Fourier transforms an iteration: of x, of D x and of the three components of v.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.admm import Penalties, PhaseProblem, best_of_two_starts
from qsmprep.numerics.arrays import Array, ComplexImage, DoubleArray, FloatImage, Scalar
from qsmprep.numerics.fourier import indices, irfftn, is_tensor, rfftn, to_device
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.operators import gradient, gradient_adjoint, inverse_sizes
from qsmprep.numerics.progress import Progress, continued
from qsmprep.numerics.proximal import RELAXATION, fit_harmonic, fit_phase, relative_change
from qsmprep.numerics.spectral import Spectra
from qsmprep.numerics.symmetric_gradient import symmetric_gradient, symmetric_gradient_adjoint


@dataclass(frozen=True)
class SecondOrder:
    """The second-order part of the problem.

    Attributes
    ----------
    symbols : half spectra of the three forward differences as rows: complex64, n0, n1 and n2 // 2 + 1 values.
    threshold : alpha0 / mu_tensor.
    mu_tensor : penalty parameter of the split of E v.
    """

    symbols: tuple[Array, Array, Array]
    threshold: float
    mu_tensor: float


def second_order(
    alpha0: float, mu_tensor: float, shape: tuple[int, ...], voxel_size_mm: tuple[float, float, float], device: str
) -> SecondOrder:
    """The second-order part for a padded grid, on the device where the solver runs."""
    rows = [
        ((np.exp(2j * np.pi * n / size) - 1) / h).ravel().astype(np.complex64)
        for n, size, h in zip(indices(shape), shape, voxel_size_mm, strict=True)
    ]
    return SecondOrder(tuple(to_device(row, device) for row in rows), alpha0 / mu_tensor, mu_tensor)


def minimise_generalised_variation(
    problem: PhaseProblem,
    second: SecondOrder,
    penalties: Penalties,
    *,
    tolerance_percent: float,
    max_iterations: int,
    progress: Progress | None = None,
) -> tuple[Array, list[float], bool]:
    """Solve a `PhaseProblem` with total generalised variation.

    Parameters
    ----------
    problem, penalties : as in `admm.minimise_total_variation`; the thresholds are those of grad x - v.
    second : thresholds and penalty parameter of E v.
    tolerance_percent : stop when 100 |x - x before| / |x| falls below it.
    max_iterations : cap.
    progress : called as progress(iteration, max_iterations).

    Returns
    -------
    x in rad, the change in percent after each iteration, and whether it fell below the tolerance.

    References
    ----------
    Bredies 2010 (total generalised variation); Milovic 2018, 2019.
    """

    def iterate(eased: Penalties, cap: int, done: int) -> tuple[Array, Array, list[float], bool]:
        counted = continued(progress, done, max_iterations)
        return _iterate(problem, second, eased, cap, tolerance_percent, counted)

    return best_of_two_starts(iterate, problem, penalties, max_iterations)


def _iterate(
    problem: PhaseProblem,
    second: SecondOrder,
    penalties: Penalties,
    max_iterations: int,
    tolerance_percent: float,
    progress: Progress | None,
) -> tuple[Array, Array, list[float], bool]:
    """`minimise_generalised_variation` from zero by one way; returns D x (with the harmonic field) too."""
    phase, weights, shape = problem.phase, problem.weights, tuple(problem.phase.shape)
    mu = (penalties.mu_gradient, second.mu_tensor, penalties.mu_data, penalties.mu_harmonic)
    data = weights * phase / (weights + penalties.mu_data)
    dual, x, divergence = phase * 0, phase * 0, phase * 0
    vector, vector_split, tensor_split = _zeros(phase, 3), _zeros(phase, 3), _zeros(phase, 6)
    beta, harmonic = penalties.beta, penalties.beta is not None
    source, harmonic_split = (phase * 0, phase * 0) if harmonic else (None, None)
    history: list[float] = []
    nonlinear = penalties.nonlinear and math.isinf(penalties.linear_above)
    for iteration in range(1, max_iterations + 1):
        sources = rfftn(source) if harmonic else None
        known = (rfftn(divergence), [rfftn(vector[d]) for d in range(3)], rfftn(data), sources)
        solved, slopes, forward, bent = solve_image_and_vector(*known, problem.grid, second.symbols, mu)
        del known, sources
        before, x, forward = x, irfftn(solved, shape), irfftn(forward, shape)
        for d in range(3):
            vector[d] = irfftn(slopes[d], shape)
        change, size = shrink_generalised(
            x, before, vector, vector_split, tensor_split, problem.thresholds, second.threshold, problem.voxel_size_mm
        )
        history.append(100 * relative_change(change, size))
        if progress is not None:
            progress(iteration, max_iterations)
        if history[-1] < tolerance_percent and nonlinear == penalties.nonlinear:
            return x, forward, history, True
        nonlinear = nonlinear or penalties.complex_term(history[-1])
        divergence = before
        pull_generalised(
            vector_split, tensor_split, problem.thresholds, second.threshold, problem.voxel_size_mm, mu[:2],
            divergence, vector,
        )  # fmt: skip
        data = fit_phase(forward, data, dual, phase, weights, penalties.mu_data, nonlinear=nonlinear)
        if beta is not None:
            source = fit_harmonic(irfftn(bent, shape), harmonic_split, problem.inside, beta, mu[3])
    return x, forward, history, False


def solve_image_and_vector(
    divergence: Array,
    vector: list[Array],
    data: Array,
    source: Array,
    grid: Spectra,
    symbols: tuple[Array, Array, Array],
    mu: tuple[float, float, float, float],
) -> tuple[Array, list[Array], Array, Array]:
    """Minimise, frequency by frequency, for x, v and a harmonic field p (p only where `source` is given)

    mu1/2 |grad x - v - a|^2 + mu0/2 |E v - b|^2 + mu2/2 |D x + p - d|^2 + mu3/2 |L p - q|^2.

    Parameters
    ----------
    divergence : half spectrum of grad' a; overwritten.
    vector : half spectra of the components of mu0 E' b - mu1 a; overwritten.
    data, source : half spectra of d and q (None: no harmonic field); overwritten.
    grid : spectra of D and of L, minus the Laplacian.
    symbols : rows of the forward differences' spectra.
    mu : (mu1, mu0, mu2, mu3).

    Returns
    -------
    Half spectra of x, of v (a list of three), of D x + p, and of L p (None without p).

    With S = sum |e_d|^2, E'E is (S I + B B') / 2 where B = -conj(e), so that the 4 x 4 system has a closed solution.
    """
    mu1, mu0, mu2, mu3 = mu
    if not is_tensor(divergence):
        extra = source if source is not None else np.zeros((1, 1, 1), np.complex64)
        _solve(divergence, vector[0], vector[1], vector[2], data, extra, source is not None, grid.dipole, *grid.rows,
               *symbols, np.float32(mu1), np.float32(mu0), np.float32(mu2), np.float32(mu3))  # fmt: skip
        return divergence, vector, data, source
    dipole, total = grid.dipole, grid.laplacian
    e = (symbols[0][:, None, None], symbols[1][None, :, None], symbols[2][None, None, :])
    square, along = sum(s * s for s in e), sum(s * r for s, r in zip(e, vector, strict=True))
    stiff = mu1 + mu0 / 2 * total
    shared = mu0 / 2 / (stiff + mu0 / 2 * total)
    pulled = (sum(s.conj() * r for s, r in zip(e, vector, strict=True)) - shared * square.conj() * along) / stiff
    keep = mu2 + mu3 * total**2
    trust = mu2 if source is None else mu2 * mu3 * total**2 / keep
    wanted = mu2 * data if source is None else mu2 * mu3 * total * (total * data - source) / keep
    bottom = mu1 * (mu0 / 2 * total**2 + mu1 * shared * square.abs() ** 2) / stiff + trust * dipole**2
    bottom[0, 0, 0] = 1
    x = (mu1 * (divergence + pulled) + dipole * wanted) / bottom
    x[0, 0, 0] = 0
    along = along + mu1 * square * x
    v = [(r + mu1 * s * x - shared * s.conj() * along) / stiff for s, r in zip(e, vector, strict=True)]
    if source is None:
        return x, v, dipole * x, None
    p = (mu2 * (data - dipole * x) + mu3 * total * source) / keep
    return x, v, dipole * x + p, total * p


def shrink_generalised(
    x: Array, before: Array, vector: Array, vector_split: Array, tensor_split: Array, thresholds: Array,
    threshold: float, voxel_size_mm: tuple[float, float, float],
) -> tuple[float, float]:  # fmt: skip
    """Soft threshold and dual update of the splits of grad x - v and of E v, both updated in place.

    The splits keep a = A + s, see `proximal`. Returns |x - before| and |x|.
    """
    if is_tensor(x):
        for split, limit, new in (
            (vector_split, thresholds, gradient(x, voxel_size_mm) - vector),
            (tensor_split, threshold, symmetric_gradient(vector, voxel_size_mm)),
        ):
            split.copy_(RELAXATION * new + (1 - RELAXATION) * split + RELAXATION * _clip(split, limit))
        return _norm(x - before), _norm(x)
    norms = np.empty((2, x.shape[0]))
    _shrink(x, before, vector, vector_split, tensor_split, thresholds, np.float32(threshold),
            *inverse_sizes(voxel_size_mm, np.dtype(np.float32)), np.float32(RELAXATION), norms)  # fmt: skip
    return math.sqrt(math.fsum(norms[0])), math.sqrt(math.fsum(norms[1]))


def pull_generalised(
    vector_split: Array, tensor_split: Array, thresholds: Array, threshold: float,
    voxel_size_mm: tuple[float, float, float], mu: tuple[float, float], divergence: Array, vector: Array,
) -> None:  # fmt: skip
    """For the next solve: grad' a in `divergence`, mu0 E' b - mu1 a in `vector`; a, b are z - s of the splits."""
    if is_tensor(vector):
        a = vector_split - 2 * _clip(vector_split, thresholds)
        b = tensor_split - 2 * _clip(tensor_split, threshold)
        divergence.copy_(gradient_adjoint(a, voxel_size_mm))
        vector.copy_(mu[1] * symmetric_gradient_adjoint(b, voxel_size_mm) - mu[0] * a)
        return
    inverse = inverse_sizes(voxel_size_mm, np.dtype(np.float32))
    _pull(vector_split, tensor_split, thresholds, np.float32(threshold), *inverse, np.float32(mu[0]),
          np.float32(mu[1]), divergence, vector)  # fmt: skip


def _zeros(image: Array, count: int) -> Array:
    if is_tensor(image):
        return image.new_zeros((count, *image.shape))
    return np.zeros((count, *image.shape), image.dtype)


def _clip(a: Array, limit: Array) -> Array:
    return a.clamp(-limit, limit) if isinstance(limit, float) else a.minimum(limit).maximum(-limit)


def _norm(a: Array) -> float:
    import torch

    return math.sqrt(float((a * a).sum(dtype=torch.float64)))


@jit(parallel=True)
def _solve(
    divergence: ComplexImage, r0: ComplexImage, r1: ComplexImage, r2: ComplexImage, data: ComplexImage,
    source: ComplexImage, harmonic: bool, dipole: FloatImage, t0: FloatImage, t1: FloatImage, t2: FloatImage,
    e0: ComplexImage, e1: ComplexImage, e2: ComplexImage, mu1: Scalar, mu0: Scalar, mu2: Scalar, mu3: Scalar,
) -> None:  # fmt: skip
    n0, n1, n2 = data.shape
    half = np.float32(0.5) * mu0
    for i in prange(n0):
        for j in range(n1):
            for k in range(n2):
                d, total = dipole[i, j, k], t0[i] + t1[j] + t2[k]
                f0, f1, f2 = e0[i], e1[j], e2[k]
                g0, g1, g2 = f0.conjugate(), f1.conjugate(), f2.conjugate()
                u0, u1, u2 = r0[i, j, k], r1[i, j, k], r2[i, j, k]
                square, along = f0 * f0 + f1 * f1 + f2 * f2, f0 * u0 + f1 * u1 + f2 * u2
                stiff = mu1 + half * total
                per_stiff = np.float32(1) / stiff
                shared = half / (stiff + half * total)
                pulled = (g0 * u0 + g1 * u1 + g2 * u2 - shared * square.conjugate() * along) * per_stiff
                wanted, trust, keep = mu2 * data[i, j, k], mu2, np.float32(1)
                if harmonic:
                    keep = np.float32(1) / (mu2 + mu3 * total * total)
                    trust = mu2 * mu3 * total * total * keep
                    wanted = (mu2 * mu3 * total * keep) * (total * data[i, j, k] - source[i, j, k])
                size = square.real * square.real + square.imag * square.imag
                bottom = mu1 * (half * total * total + mu1 * shared * size) * per_stiff + trust * d * d
                scale = np.float32(1) / bottom if total > 0 else np.float32(0)
                x = scale * (mu1 * (divergence[i, j, k] + pulled) + d * wanted)
                divergence[i, j, k] = x
                shared_along = shared * (along + mu1 * square * x)
                r0[i, j, k] = per_stiff * (u0 + mu1 * f0 * x - g0 * shared_along)
                r1[i, j, k] = per_stiff * (u1 + mu1 * f1 * x - g1 * shared_along)
                r2[i, j, k] = per_stiff * (u2 + mu1 * f2 * x - g2 * shared_along)
                if harmonic:
                    p = keep * (mu2 * (data[i, j, k] - d * x) + (mu3 * total) * source[i, j, k])
                    data[i, j, k] = d * x + p
                    source[i, j, k] = total * p
                else:
                    data[i, j, k] = d * x


@jit()
def _relax(a: Scalar, new: Scalar, limit: Scalar, relaxation: Scalar) -> Scalar:
    return relaxation * new + a + relaxation * (min(max(a, -limit), limit) - a)


@jit(parallel=True)
def _shrink(
    x: FloatImage, before: FloatImage, v: FloatImage, s: FloatImage, t: FloatImage, limit: FloatImage, bound: Scalar,
    i0: Scalar, i1: Scalar, i2: Scalar, relaxation: Scalar, norms: DoubleArray,
) -> None:  # fmt: skip
    n0, n1, n2 = x.shape
    step0, step1 = min(limit.shape[1] - 1, 1), min(limit.shape[2] - 1, 1)
    half = np.float32(0.5)
    for a in prange(n0):
        after, behind = a + 1 if a + 1 < n0 else 0, a - 1 if a > 0 else n0 - 1
        change, size = np.zeros(n2), np.zeros(n2)  # sums by column vectorise in a fixed order
        for b in range(n1):
            right, left = b + 1 if b + 1 < n1 else 0, b - 1 if b > 0 else n1 - 1
            m0, m1, m2 = limit[0, a * step0, b * step1], limit[1, a * step0, b * step1], limit[2, a * step0, b * step1]
            for c in range(n2):
                value = x[a, b, c]
                size[c] += np.float64(value) ** 2
                change[c] += np.float64(value - before[a, b, c]) ** 2
            for c in range(n2):
                value = x[a, b, c]
                d0 = (x[after, b, c] - value) * i0 - v[0, a, b, c]
                d1 = (x[a, right, c] - value) * i1 - v[1, a, b, c]
                d2 = (x[a, b, c + 1 if c + 1 < n2 else 0] - value) * i2 - v[2, a, b, c]
                s[0, a, b, c] = _relax(s[0, a, b, c], d0, m0[c], relaxation)
                s[1, a, b, c] = _relax(s[1, a, b, c], d1, m1[c], relaxation)
                s[2, a, b, c] = _relax(s[2, a, b, c], d2, m2[c], relaxation)
            for c in range(n2):
                d = c - 1 if c > 0 else n2 - 1
                v0, v1, v2 = v[0, a, b, c], v[1, a, b, c], v[2, a, b, c]
                h01 = half * ((v0 - v[0, a, left, c]) * i1 + (v1 - v[1, behind, b, c]) * i0)
                h02 = half * ((v0 - v[0, a, b, d]) * i2 + (v2 - v[2, behind, b, c]) * i0)
                h12 = half * ((v1 - v[1, a, b, d]) * i2 + (v2 - v[2, a, left, c]) * i1)
                t[0, a, b, c] = _relax(t[0, a, b, c], (v0 - v[0, behind, b, c]) * i0, bound, relaxation)
                t[1, a, b, c] = _relax(t[1, a, b, c], (v1 - v[1, a, left, c]) * i1, bound, relaxation)
                t[2, a, b, c] = _relax(t[2, a, b, c], (v2 - v[2, a, b, d]) * i2, bound, relaxation)
                t[3, a, b, c] = _relax(t[3, a, b, c], h01, bound, relaxation)
                t[4, a, b, c] = _relax(t[4, a, b, c], h02, bound, relaxation)
                t[5, a, b, c] = _relax(t[5, a, b, c], h12, bound, relaxation)
        norms[0, a] = change.sum()
        norms[1, a] = size.sum()


@jit()
def _reflect(a: Scalar, limit: Scalar) -> Scalar:
    return a - 2 * min(max(a, -limit), limit)


@jit(parallel=True)
def _pull(
    s: FloatImage, t: FloatImage, limit: FloatImage, bound: Scalar, i0: Scalar, i1: Scalar, i2: Scalar, mu1: Scalar,
    mu0: Scalar, divergence: FloatImage, vector: FloatImage,
) -> None:  # fmt: skip
    n0, n1, n2 = divergence.shape
    step0, step1 = min(limit.shape[1] - 1, 1), min(limit.shape[2] - 1, 1)
    for a in prange(n0):
        after, behind = a + 1 if a + 1 < n0 else 0, a - 1 if a > 0 else n0 - 1
        for b in range(n1):
            right, left = b + 1 if b + 1 < n1 else 0, b - 1 if b > 0 else n1 - 1
            m0, m1, m2 = limit[0, a * step0, b * step1], limit[1, a * step0, b * step1], limit[2, a * step0, b * step1]
            m0_behind, m1_left = limit[0, behind * step0, b * step1], limit[1, a * step0, left * step1]
            for c in range(n2):
                e = c - 1 if c > 0 else n2 - 1
                w0, w1, w2 = (
                    _reflect(s[0, a, b, c], m0[c]),
                    _reflect(s[1, a, b, c], m1[c]),
                    _reflect(s[2, a, b, c], m2[c]),
                )
                divergence[a, b, c] = (
                    (_reflect(s[0, behind, b, c], m0_behind[c]) - w0) * i0
                    + (_reflect(s[1, a, left, c], m1_left[c]) - w1) * i1
                    + (_reflect(s[2, a, b, e], m2[e]) - w2) * i2
                )
                vector[0, a, b, c] = -mu1 * w0
                vector[1, a, b, c] = -mu1 * w1
                vector[2, a, b, c] = -mu1 * w2
            for c in range(n2):
                d = c + 1 if c + 1 < n2 else 0
                h01, h02, h12 = (
                    _reflect(t[3, a, b, c], bound),
                    _reflect(t[4, a, b, c], bound),
                    _reflect(t[5, a, b, c], bound),
                )
                vector[0, a, b, c] += mu0 * (
                    (_reflect(t[0, a, b, c], bound) - _reflect(t[0, after, b, c], bound)) * i0
                    + (h01 - _reflect(t[3, a, right, c], bound)) * i1
                    + (h02 - _reflect(t[4, a, b, d], bound)) * i2
                )
                vector[1, a, b, c] += mu0 * (
                    (h01 - _reflect(t[3, after, b, c], bound)) * i0
                    + (_reflect(t[1, a, b, c], bound) - _reflect(t[1, a, right, c], bound)) * i1
                    + (h12 - _reflect(t[5, a, b, d], bound)) * i2
                )
                vector[2, a, b, c] += mu0 * (
                    (h02 - _reflect(t[4, after, b, c], bound)) * i0
                    + (h12 - _reflect(t[5, a, right, c], bound)) * i1
                    + (_reflect(t[2, a, b, c], bound) - _reflect(t[2, a, b, d], bound)) * i2
                )
