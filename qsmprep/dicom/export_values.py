"""Values of a map as DICOM stores them: whole numbers of 16 bits, a slope, a unit and a window."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from qsmprep.numerics.arrays import FloatImage

LARGEST = 32767  # stored numbers run from its negative to it, so that zero is stored as zero
DIGITS = 9  # of a slope: a decimal string has 16 characters
COARSE = 1e-3  # of the window: a step above it is told


@dataclass(frozen=True)
class Unit:
    """A unit.

    Attributes
    ----------
    code, meaning : in UCUM.
    stored : the unit in which an archive is given the values, and how many of it are one of this.
    """

    code: str
    meaning: str
    stored: str = ""
    factor: float = 1.0


@dataclass(frozen=True)
class Kind:
    """What is known of maps of one BIDS suffix: unit, what they show, and the window in the stored unit."""

    unit: str
    title: str
    window: tuple[float, float] | None = None
    image_type: str = "OTHER"


# Viewers show whole numbers where the mouse points, and a linear window must be 1 wide: hence ppb and ms.
UNITS: Mapping[str, Unit] = MappingProxyType(
    {
        "ppm": Unit("[ppm]", "parts per million", "ppb", 1000.0),
        "ppb": Unit("[ppb]", "parts per billion"),
        "s": Unit("s", "second", "ms", 1000.0),
        "ms": Unit("ms", "millisecond"),
        "1/s": Unit("/s", "per second"),
        "Hz": Unit("Hz", "hertz"),
        "rad": Unit("rad", "radian"),
        "arbitrary": Unit("[arb'U]", "arbitrary unit"),
        "1": Unit("1", "no units"),
    }
)
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "Chimap": Kind("ppm", "QSM", (-200.0, 200.0)),
        "R2starmap": Kind("1/s", "R2*", (0.0, 50.0), "T2 MAP"),
        "R2map": Kind("1/s", "R2", (0.0, 50.0), "T2 MAP"),
        "T2starmap": Kind("s", "T2*", (0.0, 100.0), "T2 MAP"),
        "fieldmap": Kind("Hz", "Field"),
        "S0map": Kind("arbitrary", "S0"),
        "magnitude": Kind("arbitrary", "Magnitude"),
        "swi": Kind("arbitrary", "SWI"),
        "minIP": Kind("arbitrary", "SWI minIP"),
        "smwi": Kind("arbitrary", "SMWI"),
    }
)


@dataclass(frozen=True)
class Stored:
    """A map as it is stored; a value is slope * number.

    Attributes
    ----------
    numbers : int16, of the map's shape.
    slope : in `unit` a step.
    unit : key of UNITS.
    window : darkest and brightest value in that unit.
    not_finite : voxels that were NaN, stored as 0.
    cut : voxels beyond the range asked for, stored as its nearer end.
    """

    numbers: NDArray[np.int16]
    slope: float
    unit: str
    window: tuple[float, float]
    not_finite: int = 0
    cut: int = 0

    @property
    def is_coarse(self) -> bool:
        """Whether a step would be seen in the window."""
        return self.slope > COARSE * (self.window[1] - self.window[0])


def store(
    volume: FloatImage,
    unit: str,
    *,
    keep_unit: bool = False,
    limits: tuple[float, float] | None = None,
    window: tuple[float, float] | None = None,
) -> Stored:
    """A map as whole numbers.

    Every finite value is kept to within half a step of a 32767th of the largest; NaN becomes 0, which in a map of
    qsmprep means "outside of the mask".

    Parameters
    ----------
    volume : in `unit`.
    unit : key of UNITS.
    keep_unit : store ppm as ppm and s as s, not as ppb and ms.
    limits : values beyond are cut, in the stored unit; None keeps all.
    window : in the stored unit; None takes the 2nd to the 98th percentile of what is not 0.

    Raises
    ------
    ValueError : an infinite value, a window or range that is none, or nothing but NaN.
    """
    stored = UNITS[unit].stored or unit
    values = np.asarray(volume, np.float64) * (1.0 if keep_unit else UNITS[unit].factor)
    nan = np.isnan(values)
    if np.isinf(values).any() or nan.all():
        what = "only NaN" if nan.all() else f"{int(np.isinf(values).sum())} infinite values"
        raise ValueError(f"The map holds {what}, which no DICOM image can store. Mend the map.")
    values[nan] = 0
    for name, ends in (("range", limits), ("window", window)):
        if ends is not None and not -math.inf < ends[0] < ends[1] < math.inf:
            raise ValueError(f"The {name} {ends[0]:g},{ends[1]:g} is none: its first number must be the smaller one.")
    kept = values if limits is None else np.clip(values, *limits)
    cut = int(np.count_nonzero(kept != values))
    slope = _rounded_up(float(np.abs(kept).max()) / LARGEST) or 1.0
    numbers = np.rint(kept / slope).astype(np.int16)
    if window is None:
        shown = kept[kept != 0]
        low, high = (float(end) for end in np.percentile(shown, (2, 98))) if shown.size else (0.0, 1.0)
        window = (low, high) if high - low > slope else (low - slope, low + slope)
    return Stored(numbers, slope, unit if keep_unit else stored, window, int(nan.sum()), cut)


def _rounded_up(slope: float) -> float:
    """The slope as a decimal string can hold it, none smaller, so that no stored number is too large."""
    if slope <= 0:
        return 0.0
    rounded = float(f"{slope:.{DIGITS - 1}e}")
    if rounded < slope:
        rounded = float(f"{slope * (1 + 10.0 ** (1 - DIGITS)):.{DIGITS - 1}e}")
    return rounded
