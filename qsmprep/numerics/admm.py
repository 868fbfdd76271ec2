"""The iterations that the total variation methods share, by alternating directions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from qsmprep.numerics.arrays import Array
from qsmprep.numerics.fourier import irfftn, is_tensor, rfftn
from qsmprep.numerics.operators import gradient
from qsmprep.numerics.progress import Progress, continued
from qsmprep.numerics.proximal import (
    fit_harmonic,
    fit_phase,
    fit_phase_l1,
    relative_change,
    shrink_gradient,
    zero_split,
)
from qsmprep.numerics.spectral import (
    Spectra,
    solve_field_and_gradient,
    solve_gradient_and_known,
    solve_with_harmonic,
)

STEEP_SHARE = 1e-5  # share of neighbours more than half a turn apart above which another start is tried


@dataclass(frozen=True)
class PhaseProblem:
    """min over x of 1/2 W |exp(i D x) - exp(i phase)|^2 + |t grad x|_1, padded, where the solver runs.

    Attributes
    ----------
    phase : (n0, n1, n2) measured phase in rad; for a linear data term the field in any unit.
    weights : (n0, n1, n2) W, the squared data weights, 0 outside the mask; for an L1 data term not squared.
    thresholds : t / mu_gradient as made by `proximal.threshold_rows`.
    inside : (n0, n1, n2) float32, 1 in the mask.
    grid : spectra of D and of the Laplacian.
    voxel_size_mm : edge lengths in mm.
    """

    phase: Array
    weights: Array
    thresholds: Array
    inside: Array
    grid: Spectra
    voxel_size_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Penalties:
    """How the iteration splits the problem.

    Attributes
    ----------
    mu_gradient, mu_data : penalty parameters of the splits z = grad x and z = D x.
    nonlinear : complex data term rather than the one of the plain difference.
    linear_above : change of x in percent above which the plain difference serves even so, see `best_of_two_starts`.
    robust : L1 data term W |exp(i D x) - exp(i phase)|, or W |D x - phase|, rather than half the square.
    beta : weight of the Laplacian of an additional harmonic field in the mask; None: no such field.
    mu_harmonic : penalty parameter of that field's split.
    """

    mu_gradient: float
    mu_data: float
    nonlinear: bool = True
    linear_above: float = 1.0
    robust: bool = False
    beta: float | None = None
    mu_harmonic: float = 1.0

    def complex_term(self, change_percent: float) -> bool:
        """Whether the complex data term is wanted, and x is settled enough for it."""
        return self.nonlinear and change_percent < self.linear_above


# More than 8 parameters: what is solved and how is grouped already; the others are hooks, and few callers want any.
def minimise_total_variation(
    problem: PhaseProblem,
    penalties: Penalties,
    *,
    tolerance_percent: float,
    max_iterations: int,
    reweight: Callable[[int, Array, Array], Array] | None = None,
    correct: Callable[[Array, Array], tuple[Array, Array]] | None = None,
    progress: Progress | None = None,
    start: tuple[Array, Array] | None = None,
    floor: float = 0.0,
) -> tuple[Array, list[float], bool]:
    """Solve a `PhaseProblem`: per frequency for x (jointly with the harmonic field), then one step for each split.

    Parameters
    ----------
    problem, penalties : what and how.
    tolerance_percent : stop when 100 |x - x before| / |x| falls below it.
    max_iterations : cap.
    reweight : (iteration, weights, D x) -> weights for the iterations to come.
    correct : (x, D x) -> (x, D x), half spectra, of each solve: for one more quadratic term; not with a harmonic field.
    progress : called as progress(iteration, max_iterations).
    start : an image x, and a split array of `shrink_gradient` with the same thresholds, to go on from; both may be
        overwritten. None: zero.
    floor : least |x| that the change is taken relative to, for an x that may be 0.

    Returns
    -------
    x in the unit of the phase, the change in percent after each iteration, and whether it fell below the tolerance.
    """

    def iterate(eased: Penalties, cap: int, done: int) -> tuple[Array, Array, list[float], bool]:
        counted = continued(progress, done, max_iterations)
        return _iterate(
            problem, eased, cap, tolerance_percent=tolerance_percent, reweight=reweight, correct=correct,
            progress=counted, start=start, floor=floor,
        )  # fmt: skip

    if start is not None:
        x, _, history, converged = iterate(penalties, max_iterations, 0)
        return x, history, converged
    return best_of_two_starts(iterate, problem, penalties, max_iterations)


def fit_with_harmonic(
    problem: PhaseProblem,
    penalties: Penalties,
    *,
    tolerance_percent: float,
    max_iterations: int,
    progress: Progress | None = None,
) -> tuple[Array, Array, list[float]]:
    """`minimise_total_variation` from zero with a linear data term, for the harmonic field that it fits along.

    Returns x, the harmonic field p (0 without one), both (n0, n1, n2), and the change in percent of each iteration.
    """
    linear = replace(penalties, nonlinear=False)
    x, forward, history, _ = _iterate(
        problem, linear, max_iterations, tolerance_percent=tolerance_percent, reweight=None, correct=None,
        progress=progress, start=None, floor=0.0,
    )  # fmt: skip
    if penalties.beta is None:
        return x, x * 0, history
    forward -= irfftn(rfftn(x) * problem.grid.dipole, tuple(x.shape))
    return x, forward, history


def best_of_two_starts(
    iterate: Callable[[Penalties, int, int], tuple[Array, Array, list[float], bool]],
    problem: PhaseProblem,
    penalties: Penalties,
    max_iterations: int,
) -> tuple[Array, list[float], bool]:
    """Solve a problem whose complex data term has several minima.

    From zero, the complex term leads strong sources into a minimum in which D x misses whole turns of the phase. The
    plain difference leads close to the right one, so it leads at first, unless the phase itself has turns too many or
    too few. Either can be only where neighbours are more than half a turn apart: then the complex term leads from zero
    too, and the fit of lower cost is kept: of data term and first-order total variation, without the harmonic part.

    Parameters
    ----------
    iterate : penalties, cap on iterations, iterations done before -> x, D x, history, converged; from zero.
    problem, penalties : what and how.
    max_iterations : cap on the iterations of both together; the second start gets at most twice those of the first.

    Returns
    -------
    x, the history of all iterations, those that led to x last, and whether these converged.
    """
    x, forward, history, converged = iterate(penalties, max_iterations, 0)
    left = min(max_iterations - len(history), 2 * len(history))
    if left > 0 and penalties.nonlinear and _steep_share(problem) > STEEP_SHARE:
        published = replace(penalties, linear_above=math.inf)
        other, its_forward, its_history, its_converged = iterate(published, left, len(history))
        if _cost(other, its_forward, problem, penalties) < _cost(x, forward, problem, penalties):
            return other, history + its_history, its_converged
        history = its_history + history
    return x, history, converged


def _steep_share(problem: PhaseProblem) -> float:
    """Share of the neighbours with data whose phases are more than half a turn apart."""
    steep = pairs = 0
    for axis in range(3):
        low = tuple(slice(0, -1) if a == axis else slice(None) for a in range(3))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        both = (problem.weights[low] > 0) & (problem.weights[high] > 0)
        steep += int((both & (abs(problem.phase[high] - problem.phase[low]) > math.pi)).sum())
        pairs += int(both.sum())
    return steep / max(pairs, 1)


def _cost(x: Array, forward: Array, problem: PhaseProblem, penalties: Penalties) -> float:
    """Half sum of W |exp(i D x) - exp(i phase)|^2, or sum of W |...|, plus the total variation of x."""
    half = (forward - problem.phase) / 2
    sine = abs(half.sin() if is_tensor(half) else np.sin(half))
    data = 2 * _sum(problem.weights * (sine if penalties.robust else sine * sine))
    return data + penalties.mu_gradient * _sum(problem.thresholds * abs(gradient(x, problem.voxel_size_mm)))


def _sum(image: Array) -> float:
    return float(image.double().sum()) if is_tensor(image) else float(image.sum(dtype=np.float64))


# More than 8 parameters: all of those of `minimise_total_variation`, which splits the iterations between its starts.
def _iterate(
    problem: PhaseProblem,
    penalties: Penalties,
    max_iterations: int,
    *,
    tolerance_percent: float,
    reweight: Callable[[int, Array, Array], Array] | None,
    correct: Callable[[Array, Array], tuple[Array, Array]] | None,
    progress: Progress | None,
    start: tuple[Array, Array] | None,
    floor: float,
) -> tuple[Array, Array, list[float], bool]:
    """`minimise_total_variation` from one start; returns D x (with the harmonic field) too."""
    phase, weights, grid = problem.phase, problem.weights, problem.grid
    shape = tuple(phase.shape)
    mu_gradient, mu_data, mu_harmonic = penalties.mu_gradient, penalties.mu_data, penalties.mu_harmonic
    fit = fit_phase_l1 if penalties.robust else fit_phase
    dual = phase * 0
    nonlinear = penalties.nonlinear and (start is not None or math.isinf(penalties.linear_above))
    if start is None:
        data = weights * phase / (weights + mu_data)
        x, divergence, split = phase * 0, phase * 0, zero_split(phase)
    else:
        x, split = start
        data = irfftn(rfftn(x) * grid.dipole, shape)
        data = fit(data + 0, data, dual, phase, weights, mu_data, nonlinear=nonlinear)
        divergence, _, _ = shrink_gradient(x, x + 0, split, problem.thresholds, problem.voxel_size_mm)
    beta, harmonic = penalties.beta, penalties.beta is not None
    source, harmonic_split = (phase * 0, phase * 0) if harmonic else (None, None)
    history: list[float] = []
    for iteration in range(1, max_iterations + 1):
        solved, forward = rfftn(divergence), rfftn(data)
        if harmonic:
            solved, forward, bent = solve_with_harmonic(
                solved, forward, rfftn(source), grid, mu_gradient, mu_data, mu_harmonic
            )
            source = irfftn(bent, shape)
        else:
            solved, forward = solve_field_and_gradient(solved, forward, grid, mu_gradient, mu_data)
            solved, forward = (solved, forward) if correct is None else correct(solved, forward)
        before, x = x, irfftn(solved, shape)
        forward = irfftn(forward, shape)
        divergence, change, size = shrink_gradient(x, before, split, problem.thresholds, problem.voxel_size_mm)
        history.append(100 * relative_change(change, max(size, floor)))
        if progress is not None:
            progress(iteration, max_iterations)
        if history[-1] < tolerance_percent and nonlinear == penalties.nonlinear:
            return x, forward, history, True
        nonlinear = nonlinear or penalties.complex_term(history[-1])
        if reweight is not None:
            weights = reweight(iteration, weights, forward)
        data = fit(forward, data, dual, phase, weights, mu_data, nonlinear=nonlinear)
        if beta is not None:
            source = fit_harmonic(source, harmonic_split, problem.inside, beta, mu_harmonic)
    return x, forward, history, False


# More than 8 parameters: the problem's arrays and the stopping rule, which one caller gives.
def minimise_over_spectrum(
    known: Array,
    trusted: Array,
    thresholds: Array,
    grid: Spectra,
    voxel_size_mm: tuple[float, float, float],
    *,
    mu_gradient: float,
    tolerance_percent: float,
    max_iterations: int,
    progress: Progress | None = None,
) -> tuple[tuple[Array, Array], list[float], bool]:
    """Minimise 1/2 sum T |x - x0|^2 + |t grad x|_1 over x, T a weight of each frequency: one transform pair a step.

    Parameters
    ----------
    known, trusted : half spectra T x0 and T, see `spectral.solve_gradient_and_known`.
    thresholds : t / mu_gradient as made by `proximal.threshold_rows`.
    grid : spectra of the padded grid.
    voxel_size_mm : edge lengths in mm.
    mu_gradient : penalty parameter of the split z = grad x.
    tolerance_percent, max_iterations, progress : as in `minimise_total_variation`.

    Returns
    -------
    x and the split array, the change in percent after each iteration, and whether it fell below the tolerance.
    """
    shape = (*known.shape[:2], thresholds.shape[3])
    divergence = irfftn(known * 0, shape)
    x, split = divergence * 0, zero_split(divergence)
    history: list[float] = []
    for iteration in range(1, max_iterations + 1):
        solved = solve_gradient_and_known(rfftn(divergence), known, trusted, grid, 1.0, mu_gradient)
        before, x = x, irfftn(solved, shape)
        divergence, change, size = shrink_gradient(x, before, split, thresholds, voxel_size_mm)
        history.append(100 * relative_change(change, size))
        if progress is not None:
            progress(iteration, max_iterations)
        if history[-1] < tolerance_percent:
            return (x, split), history, True
    return (x, split), history, False
