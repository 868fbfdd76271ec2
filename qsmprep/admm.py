"""The iterations that the total variation methods share, by alternating directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qsmprep.fourier import irfftn, rfftn
from qsmprep.proximal import fit_harmonic, fit_phase, fit_phase_l1, relative_change, shrink_gradient, zero_split
from qsmprep.spectral import (
    Spectra,
    solve_field_and_gradient,
    solve_gradient_and_known,
    solve_with_harmonic,
)


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

    phase: Any
    weights: Any
    thresholds: Any
    inside: Any
    grid: Spectra
    voxel_size_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Penalties:
    """How the iteration splits the problem.

    Attributes
    ----------
    mu_gradient, mu_data : penalty parameters of the splits z = grad x and z = D x.
    nonlinear : complex data term rather than the one of the plain difference.
    robust : L1 data term W |exp(i D x) - exp(i phase)|, or W |D x - phase|, rather than half the square.
    beta : weight of the Laplacian of an additional harmonic field in the mask; None: no such field.
    mu_harmonic : penalty parameter of that field's split.
    """

    mu_gradient: float
    mu_data: float
    nonlinear: bool = True
    robust: bool = False
    beta: float | None = None
    mu_harmonic: float = 1.0


def minimise_total_variation(
    problem: PhaseProblem,
    penalties: Penalties,
    *,
    tolerance_percent: float,
    max_iterations: int,
    reweight: Callable[[int, Any, Any], Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    start: tuple[Any, Any] | None = None,
    floor: float = 0.0,
) -> tuple[Any, list[float], bool]:
    """Solve a `PhaseProblem`: per frequency for x (jointly with the harmonic field), then one step for each split.

    Parameters
    ----------
    problem, penalties : what and how.
    tolerance_percent : stop when 100 |x - x before| / |x| falls below it.
    max_iterations : cap.
    reweight : (iteration, weights, D x) -> weights for the iterations to come.
    progress : called as progress(iteration, max_iterations).
    start : an image x, and a split array of `shrink_gradient` with the same thresholds, to go on from; both may be
        overwritten. None: zero.
    floor : least |x| that the change is taken relative to, for an x that may be 0.

    Returns
    -------
    x in the unit of the phase, the change in percent after each iteration, and whether it fell below the tolerance.
    """
    phase, weights, grid = problem.phase, problem.weights, problem.grid
    shape = tuple(phase.shape)
    mu_gradient, mu_data, mu_harmonic = penalties.mu_gradient, penalties.mu_data, penalties.mu_harmonic
    fit = fit_phase_l1 if penalties.robust else fit_phase
    dual = phase * 0
    if start is None:
        data = weights * phase / (weights + mu_data)
        x, divergence, split = phase * 0, phase * 0, zero_split(phase)
    else:
        x, split = start
        data = irfftn(rfftn(x) * grid.dipole, shape)
        data = fit(data + 0, data, dual, phase, weights, mu_data, nonlinear=penalties.nonlinear)
        divergence, _, _ = shrink_gradient(x, x + 0, split, problem.thresholds, problem.voxel_size_mm)
    harmonic = penalties.beta is not None
    source, harmonic_split = (phase * 0, phase * 0) if harmonic else (None, None)
    history: list[float] = []
    for iteration in range(1, max_iterations + 1):
        known = (rfftn(divergence), rfftn(data))
        if harmonic:
            known = solve_with_harmonic(*known, rfftn(source), grid, mu_gradient, mu_data, mu_harmonic)
            source = irfftn(known[2], shape)
        else:
            known = solve_field_and_gradient(*known, grid, mu_gradient, mu_data)
        before, x = x, irfftn(known[0], shape)
        forward = irfftn(known[1], shape)
        divergence, change, size = shrink_gradient(x, before, split, problem.thresholds, problem.voxel_size_mm)
        history.append(100 * relative_change(change, max(size, floor)))
        if progress is not None:
            progress(iteration, max_iterations)
        if history[-1] < tolerance_percent:
            return x, history, True
        if reweight is not None:
            weights = reweight(iteration, weights, forward)
        data = fit(forward, data, dual, phase, weights, mu_data, nonlinear=penalties.nonlinear)
        if harmonic:
            source = fit_harmonic(source, harmonic_split, problem.inside, penalties.beta, mu_harmonic)
    return x, history, False


def minimise_over_spectrum(
    known: Any,
    trusted: Any,
    thresholds: Any,
    grid: Spectra,
    voxel_size_mm: tuple[float, float, float],
    *,
    mu_gradient: float,
    tolerance_percent: float,
    max_iterations: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[tuple[Any, Any], list[float], bool]:
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


def continued(progress: Callable[[int, int], None] | None, done: int, total: int) -> Callable[[int, int], None] | None:
    """The progress callback of a stage that follows `done` iterations, out of `total` of all stages together."""
    if progress is None:
        return None
    return lambda iteration, _: progress(done + iteration, total)
