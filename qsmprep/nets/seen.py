"""What a network is shown of a scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.scan import Scan


@dataclass(frozen=True)
class PhaseTerm:
    """What a non-linear data term |W (exp(i r A x) - exp(i r f))| needs beside the field f.

    Attributes
    ----------
    weights : (n0, n1, n2) data weights W >= 0; None: the mask.
    radians : phase r of 1 ppm; field differences of more than pi / r are taken for wraps.
    """

    weights: np.ndarray | None
    radians: float


@dataclass(frozen=True)
class Seen:
    """A scan, or a lattice of it, as the network sees it.

    Attributes
    ----------
    inputs_ppm : (channels, n0, n1, n2) float32 in the order of the network's inputs, 0 outside the mask.
    mask : (n0, n1, n2) bool.
    scan : geometry of this grid.
    term : of a non-linear data term on this grid, or None.
    """

    inputs_ppm: np.ndarray
    mask: np.ndarray
    scan: Scan
    term: PhaseTerm | None = None
