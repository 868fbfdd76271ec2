"""Field by a non-linear fit of the complex signal, which keeps the noise Gaussian where the signal is weak."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from qsmprep.field import FieldMap
from qsmprep.field.weighted import flat_echoes
from qsmprep.numerics.arrays import DoubleArray, Labels, Mask, RealArray, Scalar
from qsmprep.numerics.convergence import Convergence, ended
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.units import TWO_PI
from qsmprep.options import check_options, option
from qsmprep.scan import Scan


@dataclass(frozen=True)
class NonlinearFieldOptions:
    """Options of the non-linear complex fit."""

    max_iterations: int = option(30, "cap on Gauss-Newton iterations in a voxel", low=1, high=1000)
    tolerance: float = option(
        1e-4, "change of the phase increment at which a voxel is done", unit="rad", low=1e-6, high=1
    )


@dataclass(frozen=True)
class PhaseIncrement:
    """Phase gained from the first echo to the second, fitted to all echoes; wrapped in space.

    Attributes
    ----------
    increment_rad : (n0, n1, n2) in [-pi, pi], 0 outside the mask.
    noise_rad : its s.d. for complex noise of s.d. 1 in the magnitude's unit; 0 where not defined.
    residual : sum_e |S_e - model_e|^2 / sum_e |S_e|^2.
    spacing_s : time over which the phase is gained, TE2 - TE1 (TE1 for a single echo).
    convergence : of the fit; history is the norm of the change of the increment over that of its first estimate.
    unfinished : number of voxels that used up the iterations.
    """

    increment_rad: np.ndarray
    noise_rad: np.ndarray
    residual: np.ndarray
    spacing_s: float
    convergence: Convergence
    unfinished: int


def nonlinear_field(
    phase: np.ndarray,
    magnitude: np.ndarray,
    *,
    scan: Scan,
    mask: np.ndarray | None = None,
    options: NonlinearFieldOptions = NonlinearFieldOptions(),
) -> PhaseIncrement:
    """Fit S_e = M_e exp(i (p0 + p1 t_e)), t_e = (TE_e - TE_1) / (TE_2 - TE_1), to the complex echoes of each voxel.

    Gauss-Newton with weights M_e^2, started from a line through the first three echoes. Unwrap the increment p1 in
    space, then `increment_to_field` gives the field. For equally spaced echoes p1 may wrap freely; for others 2 pi is
    no symmetry of the model, so the fit also tries p1 +- 2 pi and keeps the best, which covers three periods.
    A single echo is paired with an echo of zero phase at TE = 0.

    Parameters
    ----------
    phase : wrapped phase (n_echo, n0, n1, n2) in rad.
    magnitude : same shape.
    scan : one echo time an echo.
    mask : (n0, n1, n2); outside it the result is 0. None: everywhere.
    options : when to stop.

    Raises
    ------
    ValueError : for echo times in milliseconds, shapes that differ or an empty mask.

    References
    ----------
    Liu et al. 2013, doi:10.1002/mrm.24272 (non-linear field fit and its noise); Kressler et al. 2010 (error).

    Examples
    --------
    >>> scan = Scan((1, 1, 1), echo_times_s=(0.005, 0.011, 0.017))
    >>> phase = np.stack([np.full((2, 2, 2), TWO_PI * 30 * time + 1) for time in scan.echo_times_s])
    >>> fit = nonlinear_field(phase, np.ones_like(phase), scan=scan)
    >>> found = increment_to_field(fit.increment_rad, fit)  # nothing to unwrap in space here
    >>> round(float(found.field_hz[0, 0, 0]), 3)
    30.0
    """
    check_options(options)
    started = time.perf_counter()
    times = scan.known_echo_times_s
    echoes, magnitudes, inside = flat_echoes(phase, magnitude, mask, times)
    increment, noise, residual = np.zeros((3, echoes.shape[1]), np.float32)
    if len(times) == 1:
        _single_echo(echoes[0], magnitudes[0], inside, increment, noise)
        changes, unfinished, spacing = np.zeros(1), 0, times[0]
    else:
        spacing = times[1] - times[0]
        steps = (times - times[0]) / spacing
        turns = 0 if np.allclose(steps, np.rint(steps), atol=0.01) else 1
        limits = (options.max_iterations, options.tolerance, turns)
        sums, left = _fit_slabs(
            echoes, magnitudes, inside, steps.astype(np.float32), *limits, increment, noise, residual
        )
        sums, unfinished = sums.sum(axis=0), int(left.sum())
        changes = np.sqrt(sums[1:] / max(sums[0], 1e-30))
        changes = changes[: max(1, np.flatnonzero(changes).max(initial=-1) + 1)]
    shape = phase.shape[1:]
    convergence = ended(
        started,
        [float(change) for change in changes],
        bool(changes[-1] <= options.tolerance),
        monitored="norm of the change of the phase increment over that of its first estimate",
    )
    return PhaseIncrement(
        increment.reshape(shape),
        noise.reshape(shape),
        residual.reshape(shape),
        float(spacing),
        convergence,
        unfinished,
    )


def increment_to_field(unwrapped_increment: np.ndarray, fit: PhaseIncrement) -> FieldMap:
    """Field map of a fit whose increment (rad) has been unwrapped in space: field = increment / (2 pi spacing)."""
    per_second = np.float32(1 / (TWO_PI * fit.spacing_s))
    field = increment_to_hz(unwrapped_increment, fit.spacing_s)
    return FieldMap(field, fit.noise_rad * per_second, fit.residual, fit.convergence)


def increment_to_hz(unwrapped_increment: RealArray, spacing_s: float) -> RealArray:
    """Field in Hz, float32, whose phase grows by an increment in rad over a time in s."""
    field: RealArray = np.asarray(unwrapped_increment, np.float32) / np.float32(TWO_PI * spacing_s)
    return field


def _single_echo(phase: RealArray, magnitude: RealArray, inside: Mask, increment: RealArray, noise: RealArray) -> None:
    """One echo determines the increment without a fit; the zero-phase echo before it has no noise."""
    good = inside & np.isfinite(phase) & np.isfinite(magnitude) & (magnitude > 0)
    increment[good] = (phase[good] + np.pi) % TWO_PI - np.pi
    noise[good] = 1 / magnitude[good]


@jit(parallel=True)
def _fit_slabs(
    phase: RealArray, magnitude: RealArray, inside: Mask, steps: RealArray, max_iterations: int, tolerance: float,
    turns: int, increment: RealArray, noise: RealArray, residual: RealArray,
) -> tuple[DoubleArray, Labels]:  # fmt: skip
    """Fit every voxel; returns, for each slab, sums of p1_initial^2 and of dp1^2 by iteration, and the unfinished."""
    slabs = 64
    size = (inside.size + slabs - 1) // slabs
    sums = np.zeros((slabs, max_iterations + 1))
    unfinished = np.zeros(slabs, np.int64)
    n = steps.size
    for slab in prange(slabs):
        angle = np.empty(n, np.float32)
        weight = np.empty(n, np.float32)
        history = sums[slab, 1:]
        for i in range(slab * size, min(inside.size, (slab + 1) * size)):
            if not inside[i]:
                continue
            a = np.float32(0)
            b = np.float32(0)
            c = np.float32(0)
            # Relative to the first echo: magnitudes of 1e7 (Philips) squared and multiplied would overflow float32.
            unit = 1 / magnitude[0, i] if magnitude[0, i] > 0 else np.float32(0)
            for e in range(n):
                angle[e] = phase[e, i]
                m = magnitude[e, i] * unit
                if not (np.isfinite(angle[e]) and np.isfinite(m) and m > 0):
                    angle[e] = 0
                    m = np.float32(0)
                weight[e] = m * m
                a += weight[e]
                b += weight[e] * steps[e]
                c += weight[e] * steps[e] * steps[e]
            determinant = a * c - b * b
            if weight[0] == 0 or weight[1] == 0 or determinant <= 0:
                continue  # the start rests on the first two echoes
            noise[i] = np.sqrt(a / determinant) * unit
            first = _wrapped(angle[1] - angle[0])
            best = np.float32(np.inf)
            found = np.float32(0)
            for turn in range(-turns, turns + 1):
                p0, p1 = _start_line(angle, weight, steps, first + np.float32(turn * TWO_PI))
                if turn == 0:
                    sums[slab, 0] += p1 * p1
                p0, p1, last = _refine(
                    angle, weight, steps, a, b, c, p0, p1, max_iterations, tolerance, history, turn == 0
                )
                if turn == 0 and last > tolerance:
                    unfinished[slab] += 1
                misfit = _misfit(angle, weight, steps, p0, p1)
                if misfit < best:
                    best = misfit
                    found = p1
            increment[i] = _wrapped(found)
            residual[i] = best / a
    return sums, unfinished


@jit(inline="always")
def _refine(
    angle: RealArray, weight: RealArray, steps: RealArray, a: Scalar, b: Scalar, c: Scalar, p0: Scalar, p1: Scalar,
    max_iterations: int, tolerance: float, sums: DoubleArray, record: bool,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """Gauss-Newton with the normal matrix [[a, b], [b, c]]; returns offset, increment and its last change."""
    inverse = 1 / (a * c - b * b)
    change = np.float32(0)
    for iteration in range(max_iterations):
        s0 = np.float32(0)
        s1 = np.float32(0)
        for e in range(steps.size):
            s = weight[e] * _sine(angle[e] - p0 - steps[e] * p1)
            s0 += s
            s1 += s * steps[e]
        change = (a * s1 - b * s0) * inverse
        p0 += (c * s0 - b * s1) * inverse
        p1 += change
        if record:
            sums[iteration] += change * change
        if abs(change) <= tolerance:
            break
    return p0, p1, abs(change)


@jit(inline="always")
def _misfit(angle: RealArray, weight: RealArray, steps: RealArray, p0: Scalar, p1: Scalar) -> Any:
    """Sum of |S - model|^2, whose magnitudes are the same: 4 M^2 sin^2 of half the angle between them."""
    total = np.float32(0)
    for e in range(steps.size):
        half = _sine(np.float32(0.5) * _wrapped(angle[e] - p0 - steps[e] * p1))
        total += 4 * weight[e] * half * half
    return total


@jit(inline="always")
def _wrapped(x: Scalar) -> Any:
    return x - np.float32(TWO_PI) * np.rint(x * np.float32(1 / TWO_PI))


@jit(inline="always")
def _sine(x: Scalar) -> Any:
    """Sine to 1e-6: Taylor polynomial to the 9th order of the angle folded into [-pi/2, pi/2]."""
    turns = np.rint(x * np.float32(1 / np.pi))
    y = x - np.float32(np.pi) * turns
    square = y * y
    value = y * (
        1
        + square
        * (
            np.float32(-1 / 6)
            + square * (np.float32(1 / 120) + square * (np.float32(-1 / 5040) + square * np.float32(1 / 362880)))
        )
    )
    return value if np.float32(0.5) * turns == np.rint(np.float32(0.5) * turns) else -value


@jit(inline="always")
def _start_line(angle: RealArray, weight: RealArray, steps: RealArray, first: Scalar) -> tuple[Any, Any]:
    """Offset and slope of a line through the first three echoes, the third unwrapped to the slope of the first two."""
    if steps.size == 2 or weight[2] == 0:
        return angle[0], first
    expected = angle[0] + first * steps[2]
    third = expected + _wrapped(angle[2] - expected) - angle[0]
    t = steps[2]
    mean = (1 + t) / 3
    square = 1 + t * t - 3 * mean * mean
    slope = (first + t * third - mean * (first + third)) / square
    return angle[0] + (first + third) / 3 - slope * mean, slope
