"""Images for the eye: magnitude darkened by phase (SWI) or by susceptibility (SMWI). One method a file."""

from __future__ import annotations

from dataclasses import dataclass

from qsmprep.findings import Fact, Warning
from qsmprep.numerics.arrays import FloatImage
from qsmprep.rooms import make_room

make_room(__name__)


@dataclass(frozen=True)
class Weighted:
    """A weighted image.

    Attributes
    ----------
    image : (n0, n1, n2) float32, >= 0, in arbitrary units: magnitude times weights.
    magnitude : the magnitude that was weighted.
    weights : in [0, 1]; low where sources are paramagnetic.
    facts : results worth stating.
    warnings : what the reader should worry about.
    """

    image: FloatImage
    magnitude: FloatImage
    weights: FloatImage
    facts: tuple[Fact, ...] = ()
    warnings: tuple[Warning, ...] = ()
