"""Dipole inversion: from the tissue field to susceptibility. One method a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qsmprep.findings import Fact, Warning
from qsmprep.numerics.arrays import FloatImage, Mask
from qsmprep.numerics.convergence import Convergence
from qsmprep.rooms import make_room

make_room(__name__)


@dataclass(frozen=True)
class Inversion:
    """Susceptibility in ppm (0 outside the mask), how the iteration ended, warnings to its reader, and facts.

    `beside` holds what a network gives besides, by quantity (of `nets.spec.QUANTITIES`), each an image in ppm.
    """

    chi_ppm: FloatImage
    mask: Mask
    convergence: Convergence | None = None
    warnings: tuple[Warning, ...] = ()
    facts: tuple[Fact, ...] = ()
    beside: Mapping[str, FloatImage] = field(default_factory=dict)
