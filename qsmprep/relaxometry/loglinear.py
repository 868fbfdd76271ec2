"""R2* by a weighted straight line through the logarithm of the magnitude: any echo spacing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.arrays import DoubleArray, Mask, RealArray
from qsmprep.numerics.jit import jit, prange
from qsmprep.relaxometry import Relaxation, fitted


@dataclass(frozen=True)
class LoglinearOptions:
    """The weighted log-linear fit has no options."""


def loglinear(
    magnitude: np.ndarray,
    *,
    echo_times_s: Sequence[float] | DoubleArray,
    mask: np.ndarray | None = None,
    options: LoglinearOptions = LoglinearOptions(),
) -> Relaxation:
    """Fit ln M = ln S0 - R2* TE by least squares with weights M^2, which undo what the logarithm does to the noise.

    Parameters
    ----------
    magnitude : (n_echo, n0, n1, n2), two echoes or more. Echoes of a voxel that are not positive are left out.
    echo_times_s : echo times in s, ascending.
    mask : (n0, n1, n2); outside it the result is 0. None: everywhere.

    Returns
    -------
    Relaxation; 0 and not valid where fewer than two echoes are positive.

    Raises
    ------
    ValueError : for one echo, echo times in milliseconds, shapes that differ or an empty mask.

    Examples
    --------
    >>> times = np.array([0.005, 0.010, 0.015, 0.020])
    >>> magnitude = 100 * np.exp(-40 * times)[:, None, None, None] * np.ones((2, 2, 2))
    >>> round(float(loglinear(magnitude, echo_times_s=times).r2star[0, 0, 0]), 1)
    40.0
    """
    return fitted(magnitude, mask, echo_times_s, _loglinear)


@jit(parallel=True)
def _loglinear(
    magnitude: RealArray, inside: Mask, times: DoubleArray, lowest: float, highest: float, r2star: RealArray,
    t2star: RealArray, s0: RealArray, valid: Mask,
) -> None:  # fmt: skip
    for i in prange(inside.size):
        if not inside[i]:
            continue
        used = 0
        reference = np.float32(0)
        total = 0.0
        time_sum = 0.0
        log_sum = 0.0
        time_square = 0.0
        time_log = 0.0
        for e in range(times.size):
            m = magnitude[e, i]
            if not (np.isfinite(m) and m > 0):
                continue
            if used == 0:
                reference = m
            used += 1
            # Relative to the first echoes, so that the sums below lose no digits.
            height = np.float64(np.log(m / reference))
            delay = times[e] - times[0]
            w = np.float64(m / reference) ** 2
            total += w
            time_sum += w * delay
            log_sum += w * height
            time_square += w * delay * delay
            time_log += w * delay * height
        if used < 2:
            continue
        square = total * time_square - time_sum * time_sum
        rate = (time_sum * log_sum - total * time_log) / square if square > 0 else np.nan
        valid[i] = lowest <= rate <= highest
        rate = min(max(rate, lowest), highest) if np.isfinite(rate) else lowest
        r2star[i] = rate
        t2star[i] = 1 / rate
        s0[i] = reference * np.exp((log_sum + rate * time_sum) / total + rate * times[0])
