"""The mean of a time series of complex images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from qsmprep.masking.robust import signal_threshold
from qsmprep.numerics.arrays import FloatImage
from qsmprep.numerics.phasors import angle


class Series(Protocol):
    """Volumes of a time series, read when they are needed."""

    @property
    def n_coils(self) -> int:
        """Number of volumes."""

    def read(self, coil: int, echo: int) -> tuple[FloatImage, FloatImage]:
        """Magnitude, and phase in rad, of one volume and echo."""


@dataclass(frozen=True)
class MeanVolume:
    """The mean of the volumes of one echo.

    Attributes
    ----------
    magnitude, phase : (n0, n1, n2) float32, the phase in rad.
    coherence : median over the head of |mean of the complex volumes| / mean magnitude, in [0, 1].
    drift_rad : greatest less least mean phase of a volume relative to the first.
    """

    magnitude: FloatImage
    phase: FloatImage
    coherence: float
    drift_rad: float


def mean_of_volumes(series: Series, echo: int) -> MeanVolume:
    """Complex mean over the volumes of an echo, each turned by its mean phase relative to the first.

    What the whole field drifts by is a constant of every echo, to which susceptibility is blind; taken off, it costs
    no signal. The magnitude weights the mean.
    """
    magnitude, phase = series.read(0, echo)
    first = magnitude * np.exp(1j * phase)
    total, strength, turns = first.astype(np.complex64), magnitude.copy(), [0.0]
    for volume in range(1, series.n_coils):
        magnitude, phase = series.read(volume, echo)
        image = magnitude * np.exp(1j * phase)
        turn = float(np.angle(np.vdot(first, image)))
        total += image * np.exp(-1j * turn)
        strength += magnitude
        turns.append(turn)
    head = strength > signal_threshold(strength)
    coherence = float(np.median(np.abs(total[head]) / strength[head])) if head.any() else 0.0
    drift = np.unwrap(turns)
    mean = total / np.float32(series.n_coils)
    return MeanVolume(np.abs(mean).astype(np.float32), angle(mean).astype(np.float32), coherence, float(np.ptp(drift)))
