"""Transverse relaxation from multi-echo magnitude: R2* of gradient echoes, R2 of spin echoes. One method a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.arrays import DoubleArray, Mask, RealArray
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.units import check_echo_times
from qsmprep.rooms import make_room

make_room(__name__, dictionary_match="dictionary")


@dataclass(frozen=True)
class Relaxation:
    """Maps of a mono-exponential decay M = s0 exp(-r2star TE), each (n0, n1, n2), 0 outside the mask.

    Attributes
    ----------
    r2star : rate in 1/s, clipped to the range that the echo times can tell (`r2star_range`); 0 where fewer than two
        echoes have signal.
    t2star_s : 1 / r2star in s; 0 where r2star is 0.
    s0 : signal at TE = 0 in the magnitude's unit.
    valid : where the fit succeeded without clipping.
    misfit : root sum of squares of what the decay leaves unexplained over that of the signal, in [0, 1].
    """

    r2star: np.ndarray
    t2star_s: np.ndarray
    s0: np.ndarray
    valid: np.ndarray
    misfit: np.ndarray


@dataclass(frozen=True)
class SpinEchoRelaxation:
    """Maps from spin echoes, each (n0, n1, n2), 0 outside the mask.

    Attributes
    ----------
    r2 : rate in 1/s; 0 where there is no signal to fit.
    b1 : refocusing angle over the nominal one, or None where it was not fitted; 1 stands for 1 and for its mirror.
    valid : where the fit succeeded within the range looked at.
    misfit : as in `Relaxation`.
    """

    r2: np.ndarray
    b1: np.ndarray | None
    valid: np.ndarray
    misfit: np.ndarray


def r2star_range(echo_times_s: Sequence[float] | DoubleArray) -> tuple[float, float]:
    """Lowest and highest rate, in 1/s, that echoes can tell: 1 / (20 TE_last) and 20 / TE_first."""
    times = check_echo_times(echo_times_s)
    return float(1 / (20 * times[-1])), float(20 / times[0])


def spacing_is_equal(echo_times_s: Sequence[float] | DoubleArray, tolerance: float = 0.01) -> bool:
    """Whether all echo spacings lie within a share `tolerance` of their mean; True for two echoes or one."""
    spacings = np.diff(check_echo_times(echo_times_s))
    return bool(spacings.size < 2 or np.all(np.abs(spacings - spacings.mean()) <= tolerance * spacings.mean()))


def arlo_applies(echo_times_s: Sequence[float] | DoubleArray) -> bool:
    """Whether ARLO can be used: three or more equally spaced echoes; else use the log-linear fit."""
    return len(echo_times_s) >= 3 and spacing_is_equal(echo_times_s)


def usual_method(echo_times_s: Sequence[float] | DoubleArray) -> str:
    """The method that `auto` stands for with these echoes."""
    return "arlo" if arlo_applies(echo_times_s) else "log-linear"


def flat_magnitude(magnitude: np.ndarray, mask: np.ndarray | None, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Check that shapes agree and flatten space: float32 (n_echo, n) magnitude and bool (n,) mask."""
    if magnitude.ndim != 4 or len(magnitude) != len(times):
        raise ValueError(
            f"Magnitude of shape {magnitude.shape} does not have the {len(times)} echo times as its first axis."
        )
    inside = np.ones(magnitude.shape[1:], bool) if mask is None else np.asarray(mask) > 0
    if inside.shape != magnitude.shape[1:]:
        raise ValueError(f"Mask {inside.shape} and magnitude {magnitude.shape} differ in shape.")
    if not inside.any():
        raise ValueError("The mask is empty: no voxel to work on.")
    return np.ascontiguousarray(magnitude, dtype=np.float32).reshape(len(times), -1), inside.reshape(-1)


def fitted(
    magnitude: np.ndarray,
    mask: np.ndarray | None,
    echo_times_s: Sequence[float] | DoubleArray,
    fit: Callable[..., None],
    *arguments: float,
) -> Relaxation:
    """Run a compiled loop over the voxels and gather its maps.

    Parameters
    ----------
    magnitude, mask, echo_times_s : as the methods take them.
    fit : fit(echoes, inside, times, lowest, highest, *arguments, r2star, t2star, s0, valid), the last four to fill.
    arguments : what else the loop takes.

    Raises
    ------
    ValueError : for one echo, echo times in milliseconds, shapes that differ or an empty mask.
    """
    times = check_echo_times(echo_times_s)
    if len(times) < 2:
        raise ValueError("A relaxation rate needs at least two echoes; there is one.")
    echoes, inside = flat_magnitude(magnitude, mask, times)
    r2star, t2star, s0, misfit = np.zeros((4, inside.size), np.float32)
    valid = np.zeros(inside.size, bool)
    fit(echoes, inside, times, *r2star_range(times), *arguments, r2star, t2star, s0, valid)
    _misfit(echoes, inside, times, r2star, s0, misfit)
    return Relaxation(*(image.reshape(magnitude.shape[1:]) for image in (r2star, t2star, s0, valid, misfit)))


@jit(parallel=True)
def _misfit(
    echoes: RealArray,
    inside: Mask,
    times: DoubleArray,
    rate: RealArray,
    s0: RealArray,
    misfit: RealArray,
) -> None:
    for i in prange(inside.size):
        if not inside[i] or s0[i] <= 0:
            continue
        left, total = 0.0, 0.0
        for e in range(times.size):
            m = np.float64(echoes[e, i])
            if np.isfinite(m):
                left += (m - s0[i] * np.exp(-rate[i] * times[e])) ** 2
                total += m * m
        misfit[i] = min(np.sqrt(left / total), 1.0) if total > 0 else 0.0
