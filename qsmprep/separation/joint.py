"""Both kinds of sources from field and R2' at once: regularised, non-negative least squares by ADMM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.arrays import Array, ComplexImage, FloatImage, Scalar
from qsmprep.numerics.fourier import irfftn, is_tensor, rfftn
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.progress import Progress
from qsmprep.numerics.proximal import RELAXATION, fit_harmonic, fit_phase, relative_change, shrink_gradient, zero_split
from qsmprep.numerics.spectral import Spectra

LEAST_ITERATIONS = 5  # the first reproduces the start
LINEAR_ABOVE = 1.0  # change in percent above which the plain difference of field and phase leads, see `admm`


@dataclass(frozen=True)
class SourceProblem:
    """Field, R2' and a total to stay near, as one cost.

    min over p, n >= 0 of 1/2 W |exp(i D (p - n)) - exp(i phase)|^2 + V/2 (a p + b n - s)^2
    + k/2 |p - n - total|^2 + |t grad p|_1 + |t grad n|_1, all in rad, padded, where the solver runs.

    Attributes
    ----------
    phase : (n0, n1, n2) measured phase.
    weights : (n0, n1, n2) W, squared data weights, 0 outside the mask.
    sum : (n0, n1, n2) s, R2' over the mean relaxometric constant, in the unit of the phase.
    sum_weights : (n0, n1, n2) V, squared.
    shares : a, b: either relaxometric constant over their mean.
    thresholds : t / mu_gradient as made by `proximal.threshold_rows`.
    total : (n0, n1, n2) susceptibility that holds what the field does not tell, its mean above all.
    anchor : k, small against W.
    inside : (n0, n1, n2) float32, the mask: sources are >= 0, and an additional harmonic field is held to be one.
    grid : spectra of D and of the Laplacian.
    voxel_size_mm : edge lengths in mm.
    """

    phase: Array
    weights: Array
    sum: Array
    sum_weights: Array
    shares: tuple[float, float]
    thresholds: Array
    total: Array
    anchor: float
    inside: Array
    grid: Spectra
    voxel_size_mm: tuple[float, float, float]


@dataclass(frozen=True)
class SourcePenalties:
    """How the iteration splits the problem.

    Attributes
    ----------
    gradient, data, sum, sign : penalty parameters of the splits of gradients, field, sum, and sign.
    nonlinear : complex data term rather than the one of the plain difference.
    beta : weight of the Laplacian of an additional harmonic field in the mask, beta/2 |M laplacian h|^2: what the
        background left; None: no such field.
    harmonic : penalty parameter of that field's split.
    """

    gradient: float
    data: float = 0.3
    sum: float = 0.1
    sign: float = 0.02
    nonlinear: bool = True
    beta: float | None = None
    harmonic: float = 3.0


def separate_sources(
    problem: SourceProblem,
    penalties: SourcePenalties,
    *,
    start: tuple[Array, Array],
    tolerance_percent: float,
    max_iterations: int,
    progress: Progress | None = None,
) -> tuple[Array, Array, list[float], bool]:
    """Solve a `SourceProblem`: per frequency for both sources at once, then one step for each split.

    Parameters
    ----------
    problem, penalties : what and how.
    start : p and n to begin with, in rad; neither is kept.
    tolerance_percent : stop when the change of p and n falls below it, relative to both.
    max_iterations : cap.
    progress : called as progress(iteration, max_iterations).

    Returns
    -------
    p, n (both >= 0), the change in percent after each iteration, and whether it fell below the tolerance.
    """
    shape, (a, b) = tuple(problem.phase.shape), problem.shares
    mu, dipole = penalties, problem.grid.dipole
    para, dia = start
    field = irfftn(rfftn(para - dia) * dipole, shape)
    total = a * para + b * dia
    data, data_dual = field + 0, field * 0
    target, target_dual = total + 0, total * 0
    signs = [(image + 0, image * 0) for image in (para, dia)]
    splits = [zero_split(image) for image in (para, dia)]
    divergences = [
        shrink_gradient(image, image + 0, split, problem.thresholds, problem.voxel_size_mm)[0]
        for image, split in zip((para, dia), splits, strict=True)
    ]
    anchored = problem.anchor * rfftn(problem.total)
    source, harmonic_split = (field * 0, field * 0) if mu.beta is not None else (None, None)
    nonlinear = False
    history: list[float] = []
    for iteration in range(1, max_iterations + 1):
        top_p, top_n = (
            rfftn(mu.gradient * divergence + (mu.sum * share) * target + mu.sign * sign) + way * anchored
            for divergence, share, way, (sign, _) in zip(divergences, (a, b), (1, -1), signs, strict=True)
        )
        known = _solve(top_p, top_n, rfftn(data), None if source is None else rfftn(source), problem, mu)
        befores, images = (para, dia), tuple(irfftn(spectrum, shape) for spectrum in known[:2])
        para, dia = images
        field = irfftn(known[2], shape)
        if source is not None and mu.beta is not None:
            source = fit_harmonic(irfftn(known[3], shape), harmonic_split, problem.inside, mu.beta, mu.harmonic)
        del known, top_p, top_n
        shrunk = [
            shrink_gradient(image, before, split, problem.thresholds, problem.voxel_size_mm)
            for image, before, split in zip(images, befores, splits, strict=True)
        ]
        divergences = [parts[0] for parts in shrunk]
        change, size = (float(np.hypot(shrunk[0][n], shrunk[1][n])) for n in (1, 2))
        history.append(100 * relative_change(change, size))
        if progress is not None:
            progress(iteration, max_iterations)
        if iteration >= LEAST_ITERATIONS and history[-1] < tolerance_percent and nonlinear == penalties.nonlinear:
            break
        nonlinear = nonlinear or (penalties.nonlinear and history[-1] < LINEAR_ABOVE)
        data = fit_phase(field, data, data_dual, problem.phase, problem.weights, mu.data, nonlinear=nonlinear)
        total = a * para + b * dia
        target = fit_phase(total, target, target_dual, problem.sum, problem.sum_weights, mu.sum, nonlinear=False)
        signs = [
            (fit_sign(image, sign, dual, problem.inside), dual)
            for image, (sign, dual) in zip(images, signs, strict=True)
        ]
    converged = history[-1] < tolerance_percent
    return _positive(para, problem.inside), _positive(dia, problem.inside), history, converged


def fit_sign(image: Array, sign: Array, dual: Array, support: Array) -> Array:
    """Split of an image that is >= 0 on its support, and free elsewhere.

    `sign` (z - s of the iteration before) is overwritten by the new one, which is returned; `dual` (s) is updated in
    place and starts with zeros.
    """
    if is_tensor(image):
        v = RELAXATION * image + (1 - RELAXATION) * sign + (2 - RELAXATION) * dual
        dual.copy_(v.clamp(max=0) * support)
        return v - 2 * dual
    _fit_sign(image.reshape(-1), sign.reshape(-1), dual.reshape(-1), support.reshape(-1), np.float32(RELAXATION))
    return sign


def _positive(image: Array, support: Array) -> Array:
    return image.clamp(min=0) * support if is_tensor(image) else np.maximum(image, 0) * support


def _solve(
    para: Array, dia: Array, data: Array, source: Array | None, problem: SourceProblem, mu: SourcePenalties
) -> tuple[Array, ...]:
    """Half spectra of p, n, D (p - n) + h and L h that minimise the split problem; the first four are overwritten.

    `para` and `dia` hold mu_g grad'z + mu_s share v + mu_y y, `data` the field's split and `source` that of L h, or
    None where there is no harmonic field h. Given p - n, the best h leaves mu_e |D (p - n) - (d - q/L)|^2 of the data
    term, mu_e = mu_d mu_h L^2 / (mu_d + mu_h L^2).
    """
    grid, (a, b) = problem.grid, problem.shares
    if is_tensor(para):
        dipole, laplacian = grid.dipole, grid.laplacian
        stiff, told = mu.data, mu.data * data
        if source is not None:
            stiff = mu.data * mu.harmonic * laplacian**2 / (mu.data + mu.harmonic * laplacian**2)
            told = mu.data * mu.harmonic * laplacian * (laplacian * data - source)
            told = told / (mu.data + mu.harmonic * laplacian**2)
        seen = stiff * dipole**2 + problem.anchor
        diagonal = mu.gradient * laplacian + mu.sign + seen
        pp, nn, pn = diagonal + mu.sum * a * a, diagonal + mu.sum * b * b, mu.sum * a * b - seen
        bottom = pp * nn - pn * pn
        top_p, top_n = para + dipole * told, dia - dipole * told
        x, y = (nn * top_p - pn * top_n) / bottom, (pp * top_n - pn * top_p) / bottom
        field = dipole * (x - y)
        if source is None:
            return x, y, field
        harmonic = mu.data * (data - field) + mu.harmonic * laplacian * source
        harmonic = harmonic / (mu.data + mu.harmonic * laplacian**2)
        return x, y, field + harmonic, laplacian * harmonic
    numbers = [np.float32(v) for v in (mu.gradient, mu.data, mu.sum, mu.sign, mu.harmonic, problem.anchor, a, b)]
    there = para if source is None else source  # a stand-in that is not touched
    _solve_sources(para, dia, data, there, source is not None, grid.dipole, *grid.rows, *numbers)
    return para, dia, data, source


@jit(parallel=True)
def _solve_sources(
    para: ComplexImage,
    dia: ComplexImage,
    data: ComplexImage,
    source: ComplexImage,
    harmonic: bool,
    dipole: FloatImage,
    e0: FloatImage,
    e1: FloatImage,
    e2: FloatImage,
    mu_gradient: Scalar,
    mu_data: Scalar,
    mu_sum: Scalar,
    mu_sign: Scalar,
    mu_harmonic: Scalar,
    anchor: Scalar,
    a: Scalar,
    b: Scalar,
) -> None:
    n0, n1, n2 = data.shape
    for i in prange(n0):
        for j in range(n1):
            for k in range(n2):
                d, e = dipole[i, j, k], e0[i] + e1[j] + e2[k]
                f = data[i, j, k]
                stiff, told_real, told_imag = mu_data, mu_data * f.real, mu_data * f.imag
                q_real, q_imag, share = np.float32(0), np.float32(0), np.float32(0)
                if harmonic:
                    q_real, q_imag = source[i, j, k].real, source[i, j, k].imag
                    share = np.float32(1) / (mu_data + mu_harmonic * e * e)
                    stiff = mu_data * mu_harmonic * e * e * share
                    told_real = mu_data * mu_harmonic * e * (e * f.real - q_real) * share
                    told_imag = mu_data * mu_harmonic * e * (e * f.imag - q_imag) * share
                diagonal = mu_gradient * e + mu_sign
                seen = stiff * d * d + anchor
                # determinant without the terms that cancel: exact also where the field sees nothing
                bottom = diagonal * (diagonal + 2 * seen + mu_sum * (a * a + b * b)) + seen * mu_sum * (a + b) ** 2
                scale = np.float32(1) / bottom
                pp = scale * (diagonal + seen + mu_sum * a * a)
                nn = scale * (diagonal + seen + mu_sum * b * b)
                pn = scale * (mu_sum * a * b - seen)
                u, v = para[i, j, k], dia[i, j, k]
                u_real, u_imag = u.real + d * told_real, u.imag + d * told_imag
                v_real, v_imag = v.real - d * told_real, v.imag - d * told_imag
                x_real, x_imag = nn * u_real - pn * v_real, nn * u_imag - pn * v_imag
                y_real, y_imag = pp * v_real - pn * u_real, pp * v_imag - pn * u_imag
                para[i, j, k] = complex(x_real, x_imag)
                dia[i, j, k] = complex(y_real, y_imag)
                g_real, g_imag = d * (x_real - y_real), d * (x_imag - y_imag)
                if harmonic:
                    h_real = (mu_data * (f.real - g_real) + mu_harmonic * e * q_real) * share
                    h_imag = (mu_data * (f.imag - g_imag) + mu_harmonic * e * q_imag) * share
                    g_real, g_imag = g_real + h_real, g_imag + h_imag
                    source[i, j, k] = complex(e * h_real, e * h_imag)
                data[i, j, k] = complex(g_real, g_imag)


@jit(parallel=True)
def _fit_sign(image: FloatImage, sign: FloatImage, dual: FloatImage, support: FloatImage, relaxation: Scalar) -> None:
    for i in prange(image.size):
        v = relaxation * image[i] + (1 - relaxation) * sign[i] + (2 - relaxation) * dual[i]
        z = np.float32(0) if v < 0 and support[i] > 0 else v
        dual[i] = v - z
        sign[i] = 2 * z - v
