"""Relaxometric constants: how fast a susceptibility source dephases the signal."""

from __future__ import annotations

from dataclasses import dataclass

from qsmprep.findings import Fact
from qsmprep.options import check_options, option
from qsmprep.separation import Constants

REFERENCE_FIELD_T = 3.0


@dataclass(frozen=True)
class RelaxometricOptions:
    """Relaxometric constants of both kinds of sources."""

    para: float = option(
        114.0, "R2' of 1 ppm of paramagnetic sources at 3 T; it grows with the field strength",
        unit="1/s/ppm", low=1, high=2000,
    )  # fmt: skip
    dia: float = option(
        114.0, "R2' of 1 ppm of diamagnetic sources at 3 T; it grows with the field strength",
        unit="1/s/ppm", low=1, high=2000,
    )  # fmt: skip


def constants_at(options: RelaxometricOptions, field_strength_t: float) -> Constants:
    """The constants at a field strength, in proportion to it: static dephasing, an assumption away from 3 T.

    References
    ----------
    Kim 2025 (114 1/s/ppm at 3 T by regression of R2' on COSMOS over five deep grey nuclei); Yablonskiy and Haacke 1994.
    """
    check_options(options)
    if not field_strength_t > 0:
        raise ValueError(f"The field strength must be positive; got {field_strength_t!r} T.")
    growth = field_strength_t / REFERENCE_FIELD_T
    return Constants(options.para * growth, options.dia * growth)


def constant_facts(constants: Constants) -> tuple[Fact, ...]:
    """The relaxometric constants that a separation used."""
    return (
        Fact("relaxometric_para", "relaxometric constant, paramagnetic", "1/s/ppm", constants.para),
        Fact("relaxometric_dia", "relaxometric constant, diamagnetic", "1/s/ppm", constants.dia),
    )
