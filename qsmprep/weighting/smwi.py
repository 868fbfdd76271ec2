"""SMWI: magnitude darkened by the susceptibility map, whose contrast is where the iron is and not around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.arrays import Mask, RealArray
from qsmprep.numerics.elementary import whole_power
from qsmprep.options import option
from qsmprep.weighting import Weighted


@dataclass(frozen=True)
class SmwiOptions:
    """Options of susceptibility map-weighted images."""

    threshold: float = option(
        1.0, "susceptibility from which an image weighted by it (SMWI) is black", unit="ppm", low=0.01, high=10
    )
    power: int = option(4, "how often the susceptibility mask multiplies the magnitude", low=1, high=16)


def smwi(magnitude: RealArray, chi_ppm: RealArray, mask: Mask, *, options: SmwiOptions | None = None) -> Weighted:
    """Susceptibility map-weighted image.

    The weight is (1 - chi / threshold)^power, 1 where chi <= 0 and 0 from the threshold on.

    Parameters
    ----------
    magnitude : (n0, n1, n2), root sum of squares of the echoes.
    chi_ppm : (n0, n1, n2), paramagnetic positive.
    mask : (n0, n1, n2) where it is valid; the weight outside is 1.

    References
    ----------
    Gho et al. 2014, Magn Reson Med 72:337-346.
    """
    options = options or SmwiOptions()
    chi = np.where(np.asarray(mask) > 0, chi_ppm, 0)
    weights = whole_power((1 - chi / options.threshold).clip(0, 1).astype(np.float32), options.power)
    image = np.asarray(magnitude, np.float32)
    return Weighted((image * weights).astype(np.float32), image, weights)
