"""How far the phase step between two neighbours can be trusted: the edge weights of ROMEO and of best-path.

An edge joins a voxel with its next neighbour along one axis. Weights lie in [0, 1] (1 is best) and are stored as
integer costs, 1 (best) to 255 (worst), 0 where there is no edge.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qsmprep.numerics.arrays import Labels, Mask, RealArray, Scalar
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.units import TWO_PI

PRESETS = ("romeo", "romeo2", "romeo3", "romeo4", "romeo6", "bestpath")
_TERMS = {
    "romeo2": (1, 4),
    "romeo3": (1, 2, 4),
    "romeo4": (1, 2, 3, 4),
    "romeo6": (1, 2, 3, 4, 5, 6),
}
_QUANTILE_SAMPLE = 100_000
_BESTPATH_SCALE = np.float32(10)


def edge_costs(
    phase: np.ndarray,
    *,
    mask: np.ndarray,
    preset: str = "romeo",
    second_phase: np.ndarray | None = None,
    time_ratio: float = 1.0,
    magnitude: np.ndarray | None = None,
) -> np.ndarray:
    """Costs of the three forward edges of every voxel.

    Edges are weighted when at least one end lies in the mask. ROMEO.jl tests the first end only, so that paths may
    leave the mask on one side; here region growing never leaves it, and the edges across the border serve the
    quality map alone.

    Parameters
    ----------
    phase : (n0, n1, n2) float32, rad.
    mask : (n0, n1, n2) bool.
    preset : set of terms. "romeo" is that of the ROMEO application: romeo3 with a magnitude, romeo4 without (the
        Julia library calls romeo4 "romeo").
    second_phase : phase of another echo, rad; without it the gradient coherence is left out.
    time_ratio : echo time of `phase` divided by that of `second_phase`.
    magnitude : magnitude of the same echo, finite and >= 0; without it the magnitude terms are left out.

    Returns
    -------
    (n0, n1, n2, 3) uint8.

    References
    ----------
    Dymerska et al. 2021, Magn Reson Med 85:2294. Abdul-Rahman et al. 2007, Appl Opt 46:6623 (best path).
    """
    costs = np.empty((*phase.shape, 3), np.uint8)
    if preset == "bestpath":
        reliability = np.empty(phase.shape, np.float32)
        _reliability(phase, reliability)
        _bestpath_costs(reliability, mask, costs)
        return costs
    terms = active_terms(preset, second_phase is not None, magnitude is not None)
    none, half_bright = phase[:0], np.float32(1)
    if magnitude is not None and (terms[4] or terms[5]):
        half_bright = np.float32(0.5 * _bright(magnitude, mask))
    _romeo_costs(
        phase,
        none if second_phase is None else second_phase,
        none if magnitude is None else magnitude,
        mask,
        terms,
        np.float32(time_ratio),
        half_bright,
        costs,
    )
    return costs


def active_terms(preset: str, has_second_phase: bool, has_magnitude: bool) -> np.ndarray:
    """Which of the six terms a preset uses with the data at hand: (6,) bool."""
    if preset == "romeo":
        preset = "romeo3" if has_magnitude else "romeo4"
    available = (True, has_second_phase, True, has_magnitude, has_magnitude, has_magnitude)
    return np.array([k + 1 in _TERMS[preset] and available[k] for k in range(6)])


def _bright(magnitude: RealArray, mask: Mask) -> float:
    """95 % quantile of the magnitude in the mask, from at most 1e5 voxels."""
    inside = magnitude[mask]
    sample = inside[:: max(1, inside.size // _QUANTILE_SAMPLE)]
    return max(float(np.quantile(sample, 0.95)), float(np.finfo(np.float32).tiny))


@jit(parallel=True)
def _romeo_costs(
    phase: RealArray,
    second: RealArray,
    magnitude: RealArray,
    mask: Mask,
    terms: Mask,
    ratio: Scalar,
    half_bright: Scalar,
    costs: Labels,
) -> None:
    n0, n1, n2 = phase.shape
    steps = (n1 * n2, n2, 1)
    p, m, c = phase.reshape(-1), mask.reshape(-1), costs.reshape(-1)
    p2, mag = second.reshape(-1), magnitude.reshape(-1)
    use_phase, use_gradient, use_linear = terms[0], terms[1], terms[2]
    use_coherence, use_dark, use_bright = terms[3], terms[4], terms[5]
    for a in prange(n0):
        for b in range(n1):
            for k in range(n2):
                i = (a * n1 + b) * n2 + k
                for d in range(3):
                    position, size, step = a, n0, steps[0]
                    if d == 1:
                        position, size, step = b, n1, steps[1]
                    elif d == 2:
                        position, size, step = k, n2, steps[2]
                    j = i + step
                    if position + 1 >= size or not (m[i] or m[j]):
                        c[3 * i + d] = 0
                        continue
                    weight: Any = np.float32(1)
                    difference = _wrap(p[i] - p[j])
                    if not np.isfinite(difference):
                        c[3 * i + d] = 0
                        continue
                    if use_phase:
                        weight *= _scaled(1 - abs(difference) / np.float32(np.pi))
                    if use_gradient:
                        weight *= _scaled(1 - abs(difference - _wrap(p2[i] - p2[j]) * ratio))
                    if use_linear:
                        linear: Any = np.float32(0.9)
                        if position >= 1 and position + 2 < size:
                            linear = _linearity(p[i - step], p[i], p[j]) * _linearity(p[i], p[j], p[j + step])
                        weight *= _scaled(linear)
                    if use_coherence:
                        weight *= _scaled(_magnitude_coherence(mag[i], mag[j]))
                    if use_dark:
                        weight *= _scaled(0.5 + 0.5 * min(np.float32(1), min(mag[i], mag[j]) / half_bright))
                    if use_bright:
                        brightest = max(mag[i], mag[j], np.float32(1e-30))
                        weight *= _scaled(0.5 + 0.5 * min(np.float32(1), half_bright / brightest))
                    c[3 * i + d] = np.uint8(max(np.float32(1), np.rint((1 - weight) * 255)))


@jit()
def _wrap(x: Scalar) -> Any:
    return x - np.float32(TWO_PI) * np.rint(x / np.float32(TWO_PI))


@jit()
def _scaled(term: Scalar) -> Any:
    # A poor term, or one that cannot be told (NaN), must not veto an edge that the others like.
    return np.float32(0.1) + np.float32(0.9) * (np.float32(term) if term > 0 else np.float32(0))


@jit()
def _linearity(before: Scalar, here: Scalar, after: Scalar) -> Any:
    curvature = abs(_wrap(before - here - here + after))
    return np.float32(0.5) if np.isnan(curvature) else max(np.float32(0), 1 - curvature / 2)


@jit()
def _magnitude_coherence(one: Any, other: Any) -> Any:
    # Two voxels without signal have no coherence. In ROMEO.jl 0/0 removes the edge and leaves them wrapped.
    largest = max(one, other)
    quotient = min(one, other) / largest if largest > 0 else np.float32(0)
    return quotient * quotient


@jit(parallel=True)
def _reliability(phase: RealArray, reliability: RealArray) -> None:
    n0, n1, n2 = phase.shape
    for a in prange(n0):
        for b in range(n1):
            for k in range(n2):
                here = phase[a, b, k]
                total = np.float32(0)
                for number in range(14, 27):  # the 13 directions after the centre of the 3 x 3 x 3 block
                    x, y, z = number // 9 - 1, (number // 3) % 3 - 1, number % 3 - 1
                    inside = a + x < n0 and a - x >= 0 and 0 <= b + y < n1 and 0 <= b - y < n1
                    if inside and 0 <= k + z < n2 and 0 <= k - z < n2:
                        bend = _wrap(phase[a - x, b - y, k - z] - here) - _wrap(here - phase[a + x, b + y, k + z])
                        if not np.isnan(bend):
                            total += bend * bend
                reliability[a, b, k] = 1 / max(np.sqrt(total), np.float32(1e-6)) if np.isfinite(here) else np.nan


@jit(parallel=True)
def _bestpath_costs(reliability: RealArray, mask: Mask, costs: Labels) -> None:
    # ROMEO.jl writes these costs one voxel away from the edge they belong to; here they sit on their own edge.
    n0, n1, n2 = reliability.shape
    for a in prange(n0):
        for b in range(n1):
            for k in range(n2):
                for d in range(3):
                    a2, b2, k2 = a + (d == 0), b + (d == 1), k + (d == 2)
                    costs[a, b, k, d] = 0
                    if a2 >= n0 or b2 >= n1 or k2 >= n2 or not (mask[a, b, k] or mask[a2, b2, k2]):
                        continue
                    both = reliability[a, b, k] + reliability[a2, b2, k2]
                    if not np.isnan(both):
                        scaled = np.rint((1 - both / _BESTPATH_SCALE) * 255)
                        costs[a, b, k, d] = np.uint8(min(max(scaled, np.float32(1)), np.float32(255)))
