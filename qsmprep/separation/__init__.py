"""Susceptibility source separation: paramagnetic and diamagnetic sources in one voxel. One method a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qsmprep.findings import Fact, Warning
from qsmprep.numerics.arrays import FloatImage, Mask, RealArray
from qsmprep.numerics.convergence import Convergence
from qsmprep.rooms import make_room

make_room(__name__, chisepnet_r2p="chisepnet", chisepnet_r2s="chisepnet")


@dataclass(frozen=True)
class Separation:
    """Susceptibility of both kinds of sources in ppm, both >= 0 and 0 outside the mask; chi = chi_para - chi_dia.

    Attributes
    ----------
    chi_para, chi_dia : (n0, n1, n2) float32.
    mask : where they are valid.
    convergence : how the iteration ended; None for a closed form.
    facts : results worth stating.
    warnings : what the reader should worry about.
    """

    chi_para: FloatImage
    chi_dia: FloatImage
    mask: Mask
    convergence: Convergence | None = None
    facts: tuple[Fact, ...] = ()
    warnings: tuple[Warning, ...] = ()

    @property
    def chi_ppm(self) -> FloatImage:
        """Total susceptibility of the two."""
        return self.chi_para - self.chi_dia


@dataclass(frozen=True)
class Constants:
    """Relaxometric constants: R2' of 1 ppm of either kind of source, in 1/s per ppm, at the scan's field strength."""

    para: float
    dia: float

    @property
    def mean(self) -> float:
        """Half of their sum."""
        return (self.para + self.dia) / 2


def checked_maps(mask: Mask, **maps: RealArray) -> tuple[Any, ...]:
    """The mask as bool where every map is finite, and the maps as float32, 0 outside it.

    Raises
    ------
    ValueError : shapes that differ, or no voxel left.
    """
    inside = np.asarray(mask) > 0
    for name, image in maps.items():
        if np.shape(image) != inside.shape:
            raise ValueError(f"{name} has shape {np.shape(image)}; the mask has {inside.shape}.")
        inside = inside & np.isfinite(image)
    if not inside.any():
        raise ValueError("No voxel of the mask has finite values: do the maps and the mask belong together?")
    return inside, *(np.where(inside, image, 0).astype(np.float32) for image in maps.values())
