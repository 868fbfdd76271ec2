"""Physical constants, conversions, and range checks that catch a wrong unit."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from qsmprep.numerics.arrays import DoubleArray, FloatImage, Mask, RealArray

GYROMAGNETIC_RATIO_MHZ_PER_T = 42.577478  # proton gamma / 2 pi
TWO_PI = 2 * math.pi  # a turn in rad; a plain float, so that float32 arrays stay float32

LONGEST_ECHO_TIME_S = 0.9  # of a long train of spin echoes


def centre_frequency_mhz(field_strength_t: float, imaging_frequency_mhz: float | None = None) -> float:
    """The scanner's centre frequency in MHz: as recorded, else nominal from the field strength in tesla.

    A "3 T" magnet may stand at 2.89 T, 3.6 % away from nominal (consensus paper, table 4).
    """
    return float(imaging_frequency_mhz or GYROMAGNETIC_RATIO_MHZ_PER_T * field_strength_t)


def hz_to_ppm(field_hz: FloatImage, centre_frequency: float) -> FloatImage:
    """Field in ppm of the centre frequency given in MHz."""
    return field_hz / np.float32(centre_frequency)


def check_echo_times(echo_times_s: ArrayLike) -> DoubleArray:
    """Echo times in seconds, ascending, as float64. Raises ValueError for milliseconds, disorder or <= 0."""
    times = np.atleast_1d(np.asarray(echo_times_s, float))
    if not np.all(np.isfinite(times)) or np.any(times <= 0) or np.any(np.diff(times) <= 0):
        raise ValueError(f"Echo times must be positive and ascending; got {times.tolist()} s.")
    if times.max() > LONGEST_ECHO_TIME_S:
        raise ValueError(
            f"Echo time {times.max():g} s is above {LONGEST_ECHO_TIME_S:g} s: are echo times given in milliseconds?"
        )
    return times


def check_field_ppm(field_ppm: RealArray) -> None:
    """Raise ValueError if a field is too strong to be in ppm (above 20 ppm: probably Hz or rad)."""
    strongest = float(np.nanmax(np.abs(field_ppm))) if field_ppm.size else 0.0
    if strongest > 20:
        raise ValueError(f"The field reaches {strongest:.3g}, above 20 ppm: is it in Hz or radians instead of ppm?")


def check_susceptibility_ppm(chi_ppm: RealArray, mask: Mask) -> None:
    """Raise ValueError if the 99th percentile of |chi| in the mask exceeds 5 ppm (a wrong unit)."""
    inside = np.abs(chi_ppm[mask > 0])
    if inside.size and np.percentile(inside, 99) > 5:
        raise ValueError(f"|chi| reaches {np.percentile(inside, 99):.3g} ppm (99th percentile), above 5: wrong unit?")
