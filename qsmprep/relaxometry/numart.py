"""R2* by numerical integration of the decay (NumART2*): closed form, any echo spacing, biased low at high rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.arrays import DoubleArray, Mask, RealArray
from qsmprep.numerics.jit import jit, prange
from qsmprep.relaxometry import Relaxation, fitted


@dataclass(frozen=True)
class NumartOptions:
    """NumART2* has no options."""


def numart(
    magnitude: np.ndarray,
    *,
    echo_times_s: Sequence[float] | DoubleArray,
    mask: np.ndarray | None = None,
    options: NumartOptions = NumartOptions(),
) -> Relaxation:
    """Fit a decay by the trapezoidal rule: T2* = sum_k (M_k + M_k+1)(TE_k+1 - TE_k) / 2 / (M_first - M_last).

    The rule overestimates the area under a convex curve, so R2* comes out low: 60 as 59.6 and 150 as 141 per second for
    five echoes 6 ms apart. ARLO and the weighted log-linear fit are not biased.

    Parameters
    ----------
    magnitude : (n_echo, n0, n1, n2), two echoes or more.
    echo_times_s : echo times in s, ascending.
    mask : (n0, n1, n2); outside it the result is 0. None: everywhere.

    Returns
    -------
    Relaxation; the lowest rate, flagged as not valid, where the signal does not fall from first to last echo.

    Raises
    ------
    ValueError : for one echo, echo times in milliseconds, shapes that differ or an empty mask.

    References
    ----------
    Hagberg 2002.

    Examples
    --------
    >>> times = np.array([0.005, 0.010, 0.015, 0.020])
    >>> magnitude = 100 * np.exp(-40 * times)[:, None, None, None] * np.ones((2, 2, 2))
    >>> round(float(numart(magnitude, echo_times_s=times).r2star[0, 0, 0]), 1)
    39.9
    """
    return fitted(magnitude, mask, echo_times_s, _numart)


@jit(parallel=True)
def _numart(
    magnitude: RealArray, inside: Mask, times: DoubleArray, lowest: float, highest: float, r2star: RealArray,
    t2star: RealArray, s0: RealArray, valid: Mask,
) -> None:  # fmt: skip
    n = times.size
    for i in prange(inside.size):
        if not inside[i]:
            continue
        area, positive = 0.0, 0
        for e in range(n):
            m = np.float64(magnitude[e, i])
            if np.isfinite(m) and m > 0:
                positive += 1
            if e > 0:
                area += (m + magnitude[e - 1, i]) * (times[e] - times[e - 1]) / 2
        if positive < 2:
            continue
        fall = np.float64(magnitude[0, i]) - magnitude[n - 1, i]
        rate = fall / area if area > 0 else np.nan
        valid[i] = lowest <= rate <= highest
        rate = min(max(rate, lowest), highest) if np.isfinite(rate) else lowest
        r2star[i] = rate
        t2star[i] = 1 / rate
        amplitude, norm = 0.0, 0.0
        for e in range(n):
            if np.isfinite(magnitude[e, i]):
                decay = np.exp(-rate * times[e])
                amplitude += magnitude[e, i] * decay
                norm += decay * decay
        s0[i] = amplitude / norm if norm > 0 else 0.0
