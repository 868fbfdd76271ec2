"""Voxel-wise source separation: two unknowns from susceptibility and R2'."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.findings import Fact
from qsmprep.numerics.arrays import FloatImage, Mask, RealArray
from qsmprep.separation import Constants, Separation, checked_maps


@dataclass(frozen=True)
class ClosedFormOptions:
    """The closed form has no options."""


def closed_form(
    chi_ppm: RealArray,
    r2prime: RealArray,
    mask: Mask,
    *,
    constants: Constants,
    options: ClosedFormOptions = ClosedFormOptions(),
) -> Separation:
    """Solve chi = para - dia and R2' = D_para para + D_dia dia in every voxel.

    Where R2' is too small for the susceptibility, one of the two would be negative: it is 0 then, and the other holds
    all of the susceptibility.

    Parameters
    ----------
    chi_ppm : (n0, n1, n2) susceptibility in ppm; what it is referenced to shifts the shares of both.
    r2prime : (n0, n1, n2) in 1/s.
    mask : (n0, n1, n2).
    constants : D_para and D_dia at the scan's field strength.

    References
    ----------
    Shin 2021.

    Examples
    --------
    0.05 ppm of paramagnetic and 0.03 ppm of diamagnetic sources in one voxel:

    >>> import numpy as np
    >>> from qsmprep.separation import Constants
    >>> chi, r2prime = np.full((1, 1, 1), 0.05 - 0.03), np.full((1, 1, 1), 114 * (0.05 + 0.03))
    >>> found = closed_form(chi, r2prime, np.ones((1, 1, 1), bool), constants=Constants(114.0, 114.0))
    >>> round(float(found.chi_para.item()), 3), round(float(found.chi_dia.item()), 3)
    (0.05, 0.03)
    """
    inside, chi, rate = checked_maps(mask, chi_ppm=chi_ppm, r2prime=r2prime)
    para, dia = both_sources(chi, rate, constants)
    lacking = float((constants.dia * -chi > rate)[inside].mean() + (constants.para * chi > rate)[inside].mean())
    told = Fact("one_source_share", "voxels of one source alone", "%", 100 * lacking)
    return Separation(para, dia, inside, facts=(told,))


def both_sources(chi: FloatImage, rate: FloatImage, constants: Constants) -> tuple[FloatImage, FloatImage]:
    """Paramagnetic and diamagnetic susceptibility, float32, of a total and of R2'."""
    total = np.float32(constants.para + constants.dia)
    para = (rate + np.float32(constants.dia) * chi) / total
    dia = para - chi
    one = (para < 0) | (dia < 0)
    return np.where(one, np.maximum(chi, 0), para), np.where(one, np.maximum(-chi, 0), dia)
