"""R2* by non-linear least squares on the magnitude, with the noise floor of magnitude images as an option."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.arrays import DoubleArray, Mask, RealArray
from qsmprep.numerics.jit import jit, prange
from qsmprep.options import check_options, option
from qsmprep.relaxometry import Relaxation, fitted


@dataclass(frozen=True)
class NllsOptions:
    """Options of the non-linear fit."""

    rician_floor: bool = option(
        True,
        "fit sqrt(S^2 + s^2), s the standard deviation of the noise in the last echo, instead of the decay S alone",
    )
    max_iterations: int = option(20, "cap on iterations in a voxel", low=1, high=1000)
    tolerance: float = option(1e-5, "relative change of the rate at which a voxel is done", low=1e-10, high=0.1)


def nlls(
    magnitude: np.ndarray,
    *,
    echo_times_s: Sequence[float] | DoubleArray,
    mask: np.ndarray | None = None,
    options: NllsOptions = NllsOptions(),
) -> Relaxation:
    """Fit M = sqrt((S0 exp(-R2* TE))^2 + s^2) by Levenberg-Marquardt from the weighted log-linear fit.

    Noise lifts a magnitude that falls towards it, and a decay fitted without it comes out slow there.

    Parameters
    ----------
    magnitude : (n_echo, n0, n1, n2), two echoes or more; non-finite values of a voxel are left out.
    echo_times_s : echo times in s, ascending.
    mask : (n0, n1, n2); outside it the result is 0. None: everywhere.
    options : parameters; without `rician_floor` s is 0.

    Returns
    -------
    Relaxation; 0 and not valid where fewer than two echoes are positive.

    Raises
    ------
    ValueError : for one echo, echo times in milliseconds, shapes that differ or an empty mask.

    References
    ----------
    Gudbjartsson 1995 (noise of magnitude images).

    Examples
    --------
    >>> times = np.array([0.005, 0.010, 0.015, 0.020])
    >>> magnitude = 100 * np.exp(-40 * times)[:, None, None, None] * np.ones((2, 2, 2))
    >>> round(float(nlls(magnitude, echo_times_s=times).r2star[0, 0, 0]), 1)
    40.0
    """
    check_options(options)
    floor = noise_deviation(magnitude[-1], mask) if options.rician_floor and magnitude.ndim == 4 else 0.0
    return fitted(magnitude, mask, echo_times_s, _nlls, floor, options.max_iterations, options.tolerance)


def noise_deviation(image: np.ndarray, mask: np.ndarray | None = None) -> float:
    """S.d. of the noise of an image from second differences along its first axis, robust against anatomy.

    Parameters
    ----------
    image : (n0, n1, n2).
    mask : (n0, n1, n2) of the voxels to look at; None: all.

    Returns
    -------
    1.4826 times the median size of x[i-1] - 2 x[i] + x[i+1], over sqrt(6); 0 for fewer than three planes.
    """
    image = np.asarray(image, np.float32)
    if image.shape[0] < 3:
        return 0.0
    bend = image[:-2] - 2 * image[1:-1] + image[2:]
    inside = np.isfinite(bend)
    if mask is not None:
        mask = np.asarray(mask) > 0
        inside &= mask[:-2] & mask[1:-1] & mask[2:]
    return 1.4826 * float(np.median(np.abs(bend[inside]))) / 6**0.5 if inside.any() else 0.0


@jit(parallel=True)
def _nlls(
    magnitude: RealArray, inside: Mask, times: DoubleArray, lowest: float, highest: float, floor: float,
    max_iterations: int, tolerance: float, r2star: RealArray, t2star: RealArray, s0: RealArray, valid: Mask,
) -> None:  # fmt: skip
    n = times.size
    for i in prange(inside.size):
        if not inside[i]:
            continue
        # Start: weighted straight line through the logarithm.
        used, reference = 0, 0.0
        total, time_sum, log_sum, time_square, time_log = 0.0, 0.0, 0.0, 0.0, 0.0
        for e in range(n):
            m = np.float64(magnitude[e, i])
            if not (np.isfinite(m) and m > 0):
                continue
            if used == 0:
                reference = m
            used += 1
            height, w = np.log(m / reference), (m / reference) ** 2
            total += w
            time_sum += w * times[e]
            log_sum += w * height
            time_square += w * times[e] ** 2
            time_log += w * times[e] * height
        if used < 2:
            continue
        square = total * time_square - time_sum * time_sum
        rate = (time_sum * log_sum - total * time_log) / square if square > 0 else lowest
        rate = min(max(rate, lowest), highest)
        amplitude = np.exp((log_sum + rate * time_sum) / total)  # in units of the reference
        sigma = (floor / reference) ** 2
        damping, cost = 1e-3, np.inf
        next_rate, next_amplitude = rate, amplitude
        for _ in range(max_iterations):
            aa, ar, rr, ga, gr, trial = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            for e in range(n):
                m = np.float64(magnitude[e, i]) / reference
                if not np.isfinite(m):
                    continue
                decay = np.exp(-next_rate * times[e])
                signal = next_amplitude * decay
                model = np.sqrt(signal * signal + sigma)
                slope = signal / model if model > 0 else 1.0
                da, dr = slope * decay, -slope * signal * times[e]
                miss = m - model
                trial += miss * miss
                aa += da * da
                ar += da * dr
                rr += dr * dr
                ga += da * miss
                gr += dr * miss
            done = False
            if trial <= cost:
                done = abs(next_rate - rate) <= tolerance * rate and cost < np.inf
                rate, amplitude, cost = next_rate, next_amplitude, trial
                kaa, kar, krr, kga, kgr = aa, ar, rr, ga, gr
                damping = max(damping / 10, 1e-9)
            else:
                damping *= 10
            if done or damping > 1e6:
                break
            paa, prr = kaa * (1 + damping), krr * (1 + damping)
            determinant = paa * prr - kar * kar
            if not determinant > 0:
                break
            next_amplitude = max(amplitude + (prr * kga - kar * kgr) / determinant, 0.0)
            next_rate = min(max(rate + (paa * kgr - kar * kga) / determinant, lowest), highest)
        valid[i] = lowest < rate < highest
        r2star[i] = rate
        t2star[i] = 1 / rate
        s0[i] = amplitude * reference
