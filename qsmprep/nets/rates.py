"""Relaxation rates in the unit that networks take them in: ppm, through one relaxometric constant."""

from __future__ import annotations

from qsmprep.numerics.units import GYROMAGNETIC_RATIO_MHZ_PER_T

RATE_PER_PPM_3T = 114.0  # 1/s/ppm at 3 T
TRAINED_AT_T = 3.0


def rate_per_ppm(centre_frequency_mhz: float) -> float:
    """What rates of a scan are divided by, in 1/s per ppm: 114 at 3 T, in proportion to the field strength.

    Parameters
    ----------
    centre_frequency_mhz : of the scanner; ValueError where it is not positive.

    References
    ----------
    Kim 2025 (114); Yablonskiy and Haacke 1994 (proportion).
    """
    if not centre_frequency_mhz > 0:
        raise ValueError(f"The centre frequency must be positive; got {centre_frequency_mhz!r} MHz.")
    return RATE_PER_PPM_3T * centre_frequency_mhz / GYROMAGNETIC_RATIO_MHZ_PER_T / TRAINED_AT_T
