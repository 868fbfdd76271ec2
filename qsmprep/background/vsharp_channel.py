"""V-SHARP's tissue field as an input channel of networks that are given the total field.

Training and use prepare it here alike: whoever has a network to train or to apply hands this function to it.
"""

from __future__ import annotations

import numpy as np

from qsmprep.background.vsharp import vsharp
from qsmprep.scan import Scan


def vsharp_channel(field_ppm: np.ndarray, mask: np.ndarray, scan: Scan) -> tuple[np.ndarray, np.ndarray]:
    """Tissue field by V-SHARP with its defaults, and where it is valid; linear in the field.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) total field in ppm, or a part of it; values outside the mask do not matter.
    mask : (n0, n1, n2) where it is valid.
    scan : with its voxel size.

    Returns
    -------
    field, valid : (n0, n1, n2) float32 in ppm, 0 where not valid; (n0, n1, n2) bool.

    Raises
    ------
    ValueError : an empty mask, or one in which no sphere fits.
    """
    found = vsharp(np.where(mask, field_ppm, 0), mask, scan=scan)
    return found.tissue_field.astype(np.float32), found.mask
