"""Field as the slope of a straight line with offset through the unwrapped phases."""

from __future__ import annotations

import numpy as np

from qsmprep.field import FieldMap
from qsmprep.field.weighted import flat_echoes
from qsmprep.numerics.arrays import DoubleArray, Mask, RealArray, Scalar
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.units import TWO_PI
from qsmprep.scan import Scan


def linear_field(
    unwrapped_phase: np.ndarray,
    *,
    scan: Scan,
    magnitude: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> FieldMap:
    """Fit phase = offset + 2 pi field TE by least squares with weights magnitude^2 (equal ones without magnitude).

    Immune to a phase offset, at the price of more noise than `weighted_field`.

    Parameters
    ----------
    unwrapped_phase : (n_echo, n0, n1, n2) in rad, two echoes or more.
    scan : one echo time an echo.
    magnitude : same shape as the phase, or None.
    mask : (n0, n1, n2); outside it the result is 0. None: everywhere.

    Returns
    -------
    FieldMap without residual; noise = 1 / (2 pi sqrt(sum_e M_e^2 (TE_e - mean TE)^2)). 0 where fewer than two echoes
    have finite phase and signal.

    Raises
    ------
    ValueError : for one echo, echo times in milliseconds, shapes that differ or an empty mask.

    Examples
    --------
    An offset of 1 rad in every echo does not matter:

    >>> scan = Scan((1, 1, 1), echo_times_s=(0.005, 0.011, 0.017))
    >>> phase = np.stack([np.full((2, 2, 2), TWO_PI * 30 * time + 1) for time in scan.echo_times_s])
    >>> round(float(linear_field(phase, scan=scan).field_hz[0, 0, 0]), 3)
    30.0
    """
    times = scan.known_echo_times_s
    if len(times) < 2:
        raise ValueError("A line with offset needs at least two echoes; for one use the weighted combination.")
    phase, magnitude, inside = flat_echoes(unwrapped_phase, magnitude, mask, times)
    field, noise = np.zeros((2, phase.shape[1]), np.float32)
    _slope(phase, phase if magnitude is None else magnitude, inside, times, magnitude is not None, field, noise)
    shape = unwrapped_phase.shape[1:]
    return FieldMap(field.reshape(shape), noise.reshape(shape))


@jit(parallel=True)
def _slope(
    phase: RealArray,
    magnitude: RealArray,
    inside: Mask,
    times: DoubleArray,
    has_magnitude: bool,
    field: RealArray,
    noise: RealArray,
) -> None:
    for i in prange(phase.shape[1]):
        if not inside[i]:
            continue
        total: Scalar = 0.0
        time_sum: Scalar = 0.0
        used = 0
        for e in range(phase.shape[0]):
            m = magnitude[e, i] if has_magnitude else np.float32(1.0)
            if np.isfinite(phase[e, i]) and np.isfinite(m) and m > 0:
                total += m * m
                time_sum += m * m * times[e]
                used += 1
        if used < 2:
            continue
        mean_time = time_sum / total
        square = 0.0
        product = 0.0
        for e in range(phase.shape[0]):
            m = magnitude[e, i] if has_magnitude else np.float32(1.0)
            if np.isfinite(phase[e, i]) and np.isfinite(m) and m > 0:
                distance = times[e] - mean_time
                square += m * m * distance * distance
                product += m * m * distance * phase[e, i]
        field[i] = product / square / TWO_PI
        noise[i] = 1 / (TWO_PI * np.sqrt(square))
