"""R2* by auto-regression on linear operations (ARLO): closed form, close to the best unbiased estimate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.arrays import DoubleArray, Mask, RealArray
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.units import check_echo_times
from qsmprep.relaxometry import Relaxation, arlo_applies, fitted


@dataclass(frozen=True)
class ArloOptions:
    """ARLO has no options."""


def arlo(
    magnitude: np.ndarray,
    *,
    echo_times_s: Sequence[float] | DoubleArray,
    mask: np.ndarray | None = None,
    options: ArloOptions = ArloOptions(),
) -> Relaxation:
    """Fit a mono-exponential decay by ARLO.

    With S_k = (D / 3)(M_k + 4 M_k+1 + M_k+2), Simpson's integral over two echo spacings D, and d_k = M_k - M_k+2, a
    decay obeys S_k = T2* d_k, and weighted least squares give
    T2* = [sum S_k^2 + (D / 3) sum S_k d_k] / [(D / 3) sum d_k^2 + sum S_k d_k].

    Parameters
    ----------
    magnitude : (n_echo, n0, n1, n2), three or more equally spaced echoes.
    echo_times_s : echo times in s, ascending.
    mask : (n0, n1, n2); outside it the result is 0. None: everywhere.

    Returns
    -------
    Relaxation; where the formula gives no finite positive rate the lowest rate, flagged as not valid.

    Raises
    ------
    ValueError : for fewer than three echoes, unequal spacing (use the log-linear fit), echo times in milliseconds,
        shapes that differ or an empty mask.

    References
    ----------
    Pei et al. 2015, doi:10.1002/mrm.25137.

    Examples
    --------
    >>> times = np.array([0.005, 0.010, 0.015, 0.020])
    >>> magnitude = 100 * np.exp(-40 * times)[:, None, None, None] * np.ones((2, 2, 2))
    >>> round(float(arlo(magnitude, echo_times_s=times).r2star[0, 0, 0]), 1)
    40.0
    """
    times = check_echo_times(echo_times_s)
    if not arlo_applies(times):
        raise ValueError(
            f"ARLO needs three or more equally spaced echoes; these are at {(times * 1e3).round(3).tolist()} ms. Use "
            "the log-linear fit."
        )
    return fitted(magnitude, mask, echo_times_s, _arlo)


@jit(parallel=True)
def _arlo(
    magnitude: RealArray, inside: Mask, times: DoubleArray, lowest: float, highest: float, r2star: RealArray,
    t2star: RealArray, s0: RealArray, valid: Mask,
) -> None:  # fmt: skip
    n = magnitude.shape[0]
    first_time, spacing = times[0], (times[n - 1] - times[0]) / (n - 1)
    third = spacing / 3
    for i in prange(inside.size):
        if not inside[i]:
            continue
        positive = 0
        for e in range(n):
            if np.isfinite(magnitude[e, i]) and magnitude[e, i] > 0:
                positive += 1
        if positive < 2:
            continue
        integral_square = 0.0
        product = 0.0
        step_square = 0.0
        for e in range(n - 2):
            last = np.float64(magnitude[e + 2, i])
            integral = third * (magnitude[e, i] + 4.0 * magnitude[e + 1, i] + last)
            step = magnitude[e, i] - last
            integral_square += integral * integral
            product += integral * step
            step_square += step * step
        above = integral_square + third * product
        rate = (third * step_square + product) / above if above > 0 else np.nan
        valid[i] = lowest <= rate <= highest
        rate = min(max(rate, lowest), highest) if np.isfinite(rate) else lowest
        r2star[i] = rate
        t2star[i] = 1 / rate
        # Least-squares amplitude of the decay with this rate.
        decay = np.exp(-rate * first_time)
        ratio = np.exp(-rate * spacing)
        amplitude = 0.0
        norm = 0.0
        for e in range(n):
            if np.isfinite(magnitude[e, i]):
                amplitude += magnitude[e, i] * decay
                norm += decay * decay
            decay *= ratio
        s0[i] = amplitude / norm if norm > 0 else 0.0
