"""The images of the single coils, one at a time: 32 coils of five echoes do not fit into memory together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from qsmprep.numerics.arrays import FloatImage


class CoilImages(Protocol):
    """Magnitude and phase of every coil and echo, read when they are needed.

    A combination goes through the coils more than once, each time in their order, and through the echoes of each.
    """

    @property
    def n_coils(self) -> int:
        """Number of coils."""

    @property
    def n_echoes(self) -> int:
        """Number of echoes."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of every image."""

    def read(self, coil: int, echo: int) -> tuple[FloatImage, FloatImage]:
        """Magnitude, and phase in rad, of one coil and echo: two float32 arrays (n0, n1, n2), finite."""


@dataclass(frozen=True)
class CoilArrays:
    """Images of the coils that are in memory already.

    Attributes
    ----------
    magnitude, phase : (n_coil, n_echo, n0, n1, n2), the phase in rad.
    """

    magnitude: np.ndarray
    phase: np.ndarray

    def __post_init__(self) -> None:
        """Refuse what has not an axis of coils and one of echoes in front."""
        if self.magnitude.ndim != 5 or self.magnitude.shape != self.phase.shape:
            raise ValueError(
                "Magnitude and phase of the coils must be (n_coil, n_echo, n0, n1, n2); got "
                f"{self.magnitude.shape} and {self.phase.shape}."
            )

    @property
    def n_coils(self) -> int:
        """Number of coils."""
        return len(self.magnitude)

    @property
    def n_echoes(self) -> int:
        """Number of echoes."""
        return int(self.magnitude.shape[1])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of every image."""
        n0, n1, n2 = self.magnitude.shape[2:]
        return n0, n1, n2

    def read(self, coil: int, echo: int) -> tuple[FloatImage, FloatImage]:
        """Magnitude and phase of one coil and echo."""
        magnitude, phase = (np.ascontiguousarray(a[coil, echo], np.float32) for a in (self.magnitude, self.phase))
        return magnitude, phase
