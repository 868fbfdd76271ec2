"""Extended phase graphs: the echoes of a train of imperfect refocusing pulses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.arrays import DoubleArray, Scalar
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.units import TWO_PI

LOBES = 2  # zero crossings of the windowed sinc pulse on either side
POSITIONS = 15  # across half a slice, the profile being symmetric
REACH = 1.5  # of the slice thickness, from its centre, to which positions extend


@dataclass(frozen=True)
class SliceProfile:
    """Flip angles across a slice.

    Attributes
    ----------
    excitation, refocusing : (n,) angle at each position over the nominal one.
    weights : (n,) share of each position, summing to 1.
    """

    excitation: np.ndarray
    refocusing: np.ndarray
    weights: np.ndarray


# A 3D scan, or hard pulses: one angle everywhere.
UNIFORM = SliceProfile(np.ones(1), np.ones(1), np.ones(1))


def sinc_profile(refocusing_width: float = 1.75) -> SliceProfile:
    """Profile of a 2D scan by the Fourier transform of a Hamming-windowed sinc pulse.

    Parameters
    ----------
    refocusing_width : thickness of the refocused slice over that of the excited one.

    References
    ----------
    McPhee and Wilman 2015; Pauly 1989 (small-tip approximation).
    """
    position = (np.arange(POSITIONS) + 0.5) / POSITIONS * REACH
    excitation = _pulse_spectrum(position)
    return SliceProfile(excitation, _pulse_spectrum(position / refocusing_width), np.full(POSITIONS, 1 / POSITIONS))


def _pulse_spectrum(position: np.ndarray) -> np.ndarray:
    """Flip angle over its value at the centre, at positions in slice thicknesses."""
    time = np.linspace(-1, 1, 401)
    pulse = np.sinc(LOBES * time) * (0.54 + 0.46 * np.cos(np.pi * time))
    spectrum = np.cos(TWO_PI * np.outer(position * LOBES, time)) @ pulse
    return np.asarray(spectrum / pulse.sum())


def echo_train(
    t2_s: np.ndarray,
    t1_s: np.ndarray,
    b1: np.ndarray,
    *,
    echo_spacing_s: float,
    n_echoes: int,
    refocusing_angle_deg: float = 180.0,
    excitation_angle_deg: float = 90.0,
    profile: SliceProfile = UNIFORM,
) -> np.ndarray:
    """Echo amplitudes of a Carr-Purcell-Meiboom-Gill train by extended phase graphs.

    States F+, F-, Z of each order start at F+_0 = F-_0 = sin(excitation). Half a spacing of relaxation and a shift of
    orders, a refocusing pulse of angle a about the axis of the magnetisation, and another half spacing make one echo
    |F_0|. Z_0 does not recover: what it gives is crushed. F is real and Z imaginary all along.

    Parameters
    ----------
    t2_s, t1_s : relaxation times in s, arrays of one size.
    b1 : transmit field over the nominal one, of the same size; it scales both angles.
    echo_spacing_s : in s; the first echo comes after one spacing.
    n_echoes : of the train.
    refocusing_angle_deg, excitation_angle_deg : nominal angles.
    profile : of the slice.

    Returns
    -------
    (size, n_echoes) float64, for a magnetisation of 1 before excitation.

    References
    ----------
    Hennig 1988; Weigel 2015; Lebel and Wilman 2010.
    """
    t2, t1, scale = (np.ascontiguousarray(a, np.float64).ravel() for a in np.broadcast_arrays(t2_s, t1_s, b1))
    if not (t2 > 0).all() or not (t1 > 0).all():
        raise ValueError("Relaxation times must be positive.")
    echoes = np.zeros((t2.size, n_echoes))
    _trains(
        np.exp(-echo_spacing_s / 2 / t2), np.exp(-echo_spacing_s / 2 / t1), scale,
        np.deg2rad(refocusing_angle_deg), np.deg2rad(excitation_angle_deg),
        profile.refocusing, profile.excitation, profile.weights, echoes,
    )  # fmt: skip
    return echoes


@jit(parallel=True)
def _trains(
    half_e2: DoubleArray, half_e1: DoubleArray, scale: DoubleArray, refocusing: Scalar, excitation: Scalar,
    refocused: DoubleArray, excited: DoubleArray, weights: DoubleArray, echoes: DoubleArray,
) -> None:  # fmt: skip
    n_echoes = echoes.shape[1]
    orders = n_echoes + 2
    for i in prange(scale.size):
        plus, minus, along = np.empty(orders), np.empty(orders), np.empty(orders)
        e2, e1 = half_e2[i], half_e1[i]
        for p in range(weights.size):
            start = np.sin(excitation * scale[i] * excited[p])
            angle = refocusing * scale[i] * refocused[p]
            sine, cosine = np.sin(angle), np.cos(angle)
            stay, swap = (1 + cosine) / 2, (1 - cosine) / 2
            plus[:], minus[:], along[:] = 0.0, 0.0, 0.0
            plus[0] = minus[0] = start
            for echo in range(n_echoes):
                for half in range(2):
                    # shift of orders after half a spacing, F+ up and F- down
                    for k in range(orders - 1, 0, -1):
                        plus[k] = e2 * plus[k - 1]
                    for k in range(orders - 1):
                        minus[k] = e2 * minus[k + 1]
                    minus[orders - 1] = 0.0
                    plus[0] = minus[0]
                    for k in range(orders):
                        along[k] *= e1
                    if half == 1:
                        break
                    for k in range(orders):
                        u, v, w = plus[k], minus[k], along[k]
                        plus[k] = stay * u + swap * v + sine * w
                        minus[k] = swap * u + stay * v - sine * w
                        along[k] = -0.5 * sine * (u - v) + cosine * w
                echoes[i, echo] += weights[p] * plus[0]
        for echo in range(n_echoes):
            echoes[i, echo] = abs(echoes[i, echo])
