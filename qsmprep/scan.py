"""What every step must know of a scan, as one thing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.arrays import DoubleArray
from qsmprep.numerics.units import GYROMAGNETIC_RATIO_MHZ_PER_T, check_echo_times

Triple = tuple[float, float, float]
# Figures of a voxel's edge that are meant. Files round the others away, each in its way (NIfTI's single precision, the
# decimal text of DICOM), and whether a voxel lies on a sphere of a given radius must not hang on them.
FIGURES = 5


class NotKnownError(ValueError):
    """A step needs what is not known of the scan.

    Attributes
    ----------
    name : the attribute of `Scan` that would tell it.
    """

    def __init__(self, name: str, words: str):
        super().__init__(f"{words} not known: give {name}.")
        self.name = name


@dataclass(frozen=True)
class Scan:
    """Geometry and timing of a scan; it travels through the steps whole.

    Attributes
    ----------
    voxel_size_mm : edge lengths in mm, kept to five figures.
    b0_direction : direction of B0 in voxel axes, of any length.
    echo_times_s : in seconds, ascending; empty where they are not known.
    centre_frequency_mhz : of the scanner; None where it is not known, so that a field in Hz cannot become ppm.
    field_strength_t : in tesla; that of the centre frequency unless given, None where neither is known.

    Raises
    ------
    ValueError : edges that are not positive, no direction of B0, echo times in milliseconds or disorder, a frequency or
        field strength that is not positive.

    Examples
    --------
    >>> scan = Scan((1, 1, 2), echo_times_s=(0.005, 0.011), centre_frequency_mhz=123.25)
    >>> round(scan.field_strength_t, 3), round(scan.echo_spacing_s, 4)
    (2.895, 0.006)
    """

    voxel_size_mm: Triple
    b0_direction: Triple = (0.0, 0.0, 1.0)
    echo_times_s: tuple[float, ...] = ()
    centre_frequency_mhz: float | None = None
    field_strength_t: float | None = None

    def __post_init__(self) -> None:
        """Make plain tuples of floats of what was given, and check them."""
        edges, direction = meant_edges(_triple(self.voxel_size_mm)), _triple(self.b0_direction)
        if not all(0 < edge < math.inf for edge in edges):
            raise ValueError(f"Voxel edges must be three positive numbers in mm; got {self.voxel_size_mm!r}.")
        if not 0 < math.hypot(*direction) < math.inf:
            raise ValueError(f"B0 needs a direction of three numbers, not all 0; got {self.b0_direction!r}.")
        times = tuple(float(time) for time in np.atleast_1d(np.asarray(self.echo_times_s, float)))
        if times:
            check_echo_times(np.array(times))
        for name, value, unit in (
            ("centre frequency", self.centre_frequency_mhz, "MHz"),
            ("field strength", self.field_strength_t, "T"),
        ):
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"The {name} must be positive; got {value!r} {unit}.")
        strength = self.field_strength_t
        if strength is None and self.centre_frequency_mhz is not None:
            strength = self.centre_frequency_mhz / GYROMAGNETIC_RATIO_MHZ_PER_T
        for field, made in (
            ("voxel_size_mm", edges),
            ("b0_direction", direction),
            ("echo_times_s", times),
            ("field_strength_t", strength),
        ):
            object.__setattr__(self, field, made)

    @property
    def frequency_mhz(self) -> float:
        """The centre frequency in MHz; NotKnownError where it is not known."""
        if self.centre_frequency_mhz is None:
            raise NotKnownError("centre_frequency_mhz", "The scan's centre frequency is")
        return self.centre_frequency_mhz

    @property
    def known_echo_times_s(self) -> DoubleArray:
        """(n_echo,) float64 echo times in s; NotKnownError where they are not known."""
        if not self.echo_times_s:
            raise NotKnownError("echo_times_s", "The scan's echo times are")
        return np.array(self.echo_times_s)

    @property
    def echo_spacing_s(self) -> float:
        """Time from the first echo to the second in s; the echo time itself where there is one echo."""
        times = self.known_echo_times_s
        return float(times[1] - times[0] if times.size > 1 else times[0])

    @property
    def last_echo_s(self) -> float:
        """Time of the last echo in s."""
        return float(self.known_echo_times_s[-1])


def meant_edges(edges_mm: Triple) -> Triple:
    """Edges of a voxel to five figures: what of them is meant, and not what a file's rounding made of it.

    >>> meant_edges((4.000005613, 0.9765625, 0.1))
    (4.0, 0.97656, 0.1)
    """
    h0, h1, h2 = (float(f"{edge:.{FIGURES}g}") for edge in edges_mm)
    return h0, h1, h2


def _triple(values: Triple) -> Triple:
    numbers = tuple(float(value) for value in values)
    if len(numbers) != 3:
        raise ValueError(f"Three numbers are needed, one an axis; got {values!r}.")
    return numbers
