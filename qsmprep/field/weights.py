"""How much each voxel of a field map counts in the inversion, and how well the signal model explains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qsmprep.field.weighted import flat_echoes
from qsmprep.numerics.arrays import DoubleArray, FloatImage, Mask, RealArray
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.units import TWO_PI, check_echo_times
from qsmprep.options import check_options, option


@dataclass(frozen=True)
class WeightOptions:
    """Options of the data weights of the inversion."""

    kind: str = option(
        "noise",
        "data weights of the inversion; noise: 1 / field noise, mean 1 in the mask; noise-median: the same, median "
        "1 and outliers smoothed; magnitude: the magnitude, maximum 1; none: 1 everywhere",
        choices=("noise", "noise-median", "magnitude", "none"),
    )


def data_weights(
    *,
    noise_hz: np.ndarray | None = None,
    magnitude: np.ndarray | None = None,
    mask: np.ndarray,
    options: WeightOptions = WeightOptions(),
) -> np.ndarray:
    """Weights of the voxels in the inversion, float32 (n0, n1, n2), 0 outside the mask.

    Parameters
    ----------
    noise_hz : s.d. of the field, arbitrary scale; 0 or non-finite means no weight. For the kinds made of noise.
    magnitude : (n0, n1, n2), or (n_echo, n0, n1, n2) of which the root of the sum of squares is used.
    mask : (n0, n1, n2).
    options : kind of weight.

    Raises
    ------
    ValueError : if the mask is empty, what the kind needs is missing, or no voxel would be left.

    References
    ----------
    de Rochefort et al. 2010, doi:10.1002/mrm.22187 (weighting by noise); Chan & Marques 2021 (median form, SEPIA).

    Examples
    --------
    >>> noise_hz = np.array([1.0, 1.0, 2.0, 0.0]).reshape(1, 1, 4)  # the last is not known
    >>> print(data_weights(noise_hz=noise_hz, mask=np.ones((1, 1, 4))).ravel())
    [1.6 1.6 0.8 0. ]
    """
    check_options(options)
    inside = np.asarray(mask) > 0
    if not inside.any():
        raise ValueError("The mask is empty: no voxel to work on.")
    if options.kind == "none":
        return inside.astype(np.float32)
    if options.kind == "magnitude":
        return _magnitude_weights(_needed(magnitude, "magnitude", options.kind), inside)
    weights = _inverse_noise(_needed(noise_hz, "noise_hz", options.kind), inside)
    return _median_one(weights) if options.kind == "noise-median" else _mean_one(weights, inside)


def relative_residual(
    phase: np.ndarray,
    magnitude: np.ndarray,
    *,
    r2star: np.ndarray,
    field_hz: np.ndarray,
    echo_times_s: Sequence[float] | DoubleArray,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Share of the signal's energy that field and R2* do not explain: sum_e |model_e - S_e|^2 / sum_e |S_e|^2.

    The model M_1 exp((TE_e - TE_1)(2 pi i field - R2*)) starts from the first echo, whose phase is taken off the data.

    Parameters
    ----------
    phase, magnitude : (n_echo, n0, n1, n2), phase in rad, wrapped or not.
    r2star : (n0, n1, n2) in 1/s.
    field_hz : total field (n0, n1, n2) in Hz, with the sign of the phase.
    echo_times_s : echo times in s, ascending.
    mask : (n0, n1, n2); outside it the result is 0. None: everywhere.

    Returns
    -------
    float32 (n0, n1, n2) >= 0; 1 where there is no signal or an input is not finite. 0 everywhere for one echo.
    """
    times = check_echo_times(echo_times_s)
    phases, magnitudes, inside = flat_echoes(phase, magnitude, mask, times)
    for name, image in (("R2*", r2star), ("field", field_hz)):
        if image.shape != phase.shape[1:]:
            raise ValueError(f"The {name} map {image.shape} and the phase {phase.shape} differ in shape.")
    rate, field = (np.ascontiguousarray(image, dtype=np.float32).reshape(-1) for image in (r2star, field_hz))
    share = np.zeros(inside.size, np.float32)
    _residual_share(phases, magnitudes, inside, rate, field, times - times[0], share)
    return share.reshape(phase.shape[1:])


def _needed(array: RealArray | None, name: str, kind: str) -> RealArray:
    if array is None:
        raise ValueError(f"Weights of the kind {kind!r} need {name}, which was not given.")
    return array


def _magnitude_weights(magnitude: RealArray, inside: Mask) -> FloatImage:
    if magnitude.ndim == 4:
        squares = np.zeros(inside.shape, np.float32)
        for echo in magnitude:
            squares += np.square(echo, dtype=np.float32)
        magnitude = np.sqrt(squares)
    magnitude = np.where(np.isfinite(magnitude), magnitude, 0).astype(np.float32)
    # The brightest voxels are vessels with inflow: they must not set the scale for all others.
    highest = np.percentile(magnitude[inside], 99.9, method="lower")
    if highest <= 0:
        raise ValueError("The magnitude is zero in the mask: there is no signal to weight by.")
    return np.where(inside, np.clip(magnitude / np.float32(highest), 0, 1), 0).astype(np.float32)


def _inverse_noise(noise: RealArray, explained: Mask) -> FloatImage:
    good = explained & np.isfinite(noise) & (noise > 0)
    if not good.any():
        raise ValueError("The noise map has no positive finite value in the mask.")
    weights = np.zeros(noise.shape, np.float32)
    np.divide(1, noise, out=weights, where=good)
    return weights


def _mean_one(weights: FloatImage, inside: Mask) -> FloatImage:
    weights /= np.float32(weights[inside].mean(dtype=np.float64))
    return weights


def _median_one(weights: FloatImage) -> FloatImage:
    """Scale by median + 3 interquartile ranges, move the median to 1, smooth what lies above the range."""
    from scipy.ndimage import uniform_filter

    valid = weights > 0
    lower, median, upper = np.percentile(weights[valid], (25, 50, 75))
    scale = median + 3 * (upper - lower)
    weights /= np.float32(scale)
    weights[valid] += np.float32(1 - median / scale)
    outliers = valid & (weights > 1 + 3 * (upper - lower) / scale)
    if outliers.any():
        weights[outliers] = uniform_filter(weights, 3, mode="nearest")[outliers]
    return weights


@jit(parallel=True)
def _residual_share(
    phase: RealArray,
    magnitude: RealArray,
    inside: Mask,
    r2star: RealArray,
    field: RealArray,
    delays: DoubleArray,
    share: RealArray,
) -> None:
    for i in prange(inside.size):
        if not inside[i]:
            continue
        first = magnitude[0, i]
        energy = 0.0
        misfit = 0.0
        for e in range(delays.size):
            m = magnitude[e, i]
            model = first * np.exp(-delays[e] * r2star[i])
            angle = TWO_PI * field[i] * delays[e] - (phase[e, i] - phase[0, i])
            energy += m * m
            misfit += model * model + m * m - 2 * model * m * np.cos(angle)
        if energy > 0 and np.isfinite(misfit):
            share[i] = max(misfit, 0.0) / energy
        else:
            share[i] = 1
