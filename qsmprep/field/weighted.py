"""Field as a weighted mean of the unwrapped echoes, each divided by its echo time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import overload

import numpy as np

from qsmprep.field import FieldMap
from qsmprep.numerics.arrays import DoubleArray, FloatImage, Mask, RealArray
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.units import TWO_PI
from qsmprep.options import check_options, option
from qsmprep.scan import Scan

# Weight of an echo = magnitude ** power * factor(TE in s)
_WEIGHTINGS: dict[str, tuple[int, Callable[[DoubleArray], DoubleArray]]] = {
    "phase-snr": (1, lambda te: te),
    "phase-variance": (2, lambda te: te**2),
    "uniform": (0, np.ones_like),
    "echo-time": (0, lambda te: te),
    "magnitude": (1, np.ones_like),
    "simulated-magnitude": (0, lambda te: te * np.exp(-te / 0.020)),
}


@dataclass(frozen=True)
class WeightedFieldOptions:
    """Options of the weighted echo combination."""

    weighting: str = option(
        "phase-snr",
        "weight of an echo; phase-snr: magnitude x TE; phase-variance: its square (least variance); "
        "simulated-magnitude: TE exp(-TE / 20 ms), for phase without magnitude",
        choices=tuple(_WEIGHTINGS),
    )


def weighted_field(
    unwrapped_phase: np.ndarray,
    *,
    scan: Scan,
    magnitude: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    options: WeightedFieldOptions = WeightedFieldOptions(),
) -> FieldMap:
    """Combine unwrapped echoes, free of phase offset, to a field: sum_e w_e phase_e / (2 pi TE_e) / sum_e w_e.

    The noise follows from the weights actually used: var = sum_e (w_e / (2 pi TE_e M_e))^2 / (sum_e w_e)^2 for unit
    complex noise, and s.d. 1 rad in each echo without magnitude.

    Parameters
    ----------
    unwrapped_phase : (n_echo, n0, n1, n2) in rad.
    scan : one echo time an echo.
    magnitude : same shape as the phase; needed by the weightings that use it.
    mask : (n0, n1, n2); outside it the result is 0. None: everywhere.
    options : which weights.

    Returns
    -------
    FieldMap without residual. Echoes that are not finite in a voxel are left out there; where none is left it is 0.

    Raises
    ------
    ValueError : for echo times in milliseconds, shapes that differ, an empty mask, or a weighting that lacks its
        magnitude.

    References
    ----------
    Dymerska et al. 2021, doi:10.1002/mrm.28563 (weights of ROMEO's field map).

    Examples
    --------
    >>> scan = Scan((1, 1, 1), echo_times_s=(0.005, 0.011))
    >>> phase = np.stack([np.full((2, 2, 2), TWO_PI * 30 * time) for time in scan.echo_times_s])
    >>> found = weighted_field(phase, scan=scan, magnitude=np.ones_like(phase))
    >>> round(float(found.field_hz[0, 0, 0]), 3)
    30.0
    """
    check_options(options)
    power, factor = _WEIGHTINGS[options.weighting]
    if power and magnitude is None:
        raise ValueError(f"Weighting {options.weighting!r} needs magnitudes; without them use 'simulated-magnitude'.")
    times = scan.known_echo_times_s
    phase, magnitude, inside = flat_echoes(unwrapped_phase, magnitude, mask, times)
    field, noise = np.zeros((2, phase.shape[1]), np.float32)
    _weighted_mean(
        phase,
        phase if magnitude is None else magnitude,
        inside,
        factor(times),
        1 / (TWO_PI * times),
        power,
        magnitude is not None,
        field,
        noise,
    )
    shape = unwrapped_phase.shape[1:]
    return FieldMap(field.reshape(shape), noise.reshape(shape))


@overload
def flat_echoes(
    phase: np.ndarray, magnitude: np.ndarray, mask: np.ndarray | None, times: np.ndarray
) -> tuple[FloatImage, FloatImage, Mask]: ...


@overload
def flat_echoes(
    phase: np.ndarray, magnitude: np.ndarray | None, mask: np.ndarray | None, times: np.ndarray
) -> tuple[FloatImage, FloatImage | None, Mask]: ...


def flat_echoes(
    phase: np.ndarray, magnitude: np.ndarray | None, mask: np.ndarray | None, times: np.ndarray
) -> tuple[FloatImage, FloatImage | None, Mask]:
    """Check that shapes agree and flatten space: float32 (n_echo, n) phase and magnitude, bool (n,) mask."""
    if phase.ndim != 4 or len(phase) != len(times):
        raise ValueError(f"Phase of shape {phase.shape} does not have the {len(times)} echo times as its first axis.")
    if magnitude is not None and magnitude.shape != phase.shape:
        raise ValueError(f"Magnitude {magnitude.shape} and phase {phase.shape} differ in shape.")
    inside = np.ones(phase.shape[1:], bool) if mask is None else np.asarray(mask) > 0
    if inside.shape != phase.shape[1:]:
        raise ValueError(f"Mask {inside.shape} and phase {phase.shape} differ in shape.")
    if not inside.any():
        raise ValueError("The mask is empty: no voxel to work on.")

    def flat(image: np.ndarray) -> FloatImage:
        return np.ascontiguousarray(image, dtype=np.float32).reshape(len(times), -1)

    return flat(phase), None if magnitude is None else flat(magnitude), inside.reshape(-1)


@jit(parallel=True)
def _weighted_mean(
    phase: RealArray, magnitude: RealArray, inside: Mask, factors: DoubleArray, per_time: DoubleArray, power: int,
    has_magnitude: bool, field: RealArray, noise: RealArray,
) -> None:  # fmt: skip
    for i in prange(phase.shape[1]):
        if not inside[i]:
            continue
        total = 0.0
        mean = 0.0
        variance = 0.0
        for e in range(phase.shape[0]):
            m = magnitude[e, i] if has_magnitude else 1.0
            if not (np.isfinite(phase[e, i]) and np.isfinite(m)):
                continue
            w = factors[e] * m**power
            total += w
            mean += w * per_time[e] * phase[e, i]
            variance += (w * per_time[e] / m) ** 2 if m > 0 else (0.0 if w == 0 else np.inf)
        if total > 0:
            field[i] = mean / total
            if np.isfinite(variance):
                noise[i] = np.sqrt(variance) / total
