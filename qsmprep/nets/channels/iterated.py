"""Masked inversion by a few returns to the field, as an input channel of networks; training and use compute it alike.

Unlike a division of the whole k-space it takes nothing for granted beyond the mask, where the field is not known.
"""

from __future__ import annotations

import numpy as np

from qsmprep.numerics.data_return import returned_to_field
from qsmprep.scan import Scan

TIMES = 6  # later ones bring back more of noise and of leftovers than of susceptibility


def iterated_channel(field_ppm: np.ndarray, mask: np.ndarray, *, scan: Scan) -> np.ndarray:
    """Susceptibility by six returns to the tissue field in k-space, from nought: (n0, n1, n2) in ppm, 0 outside.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm; values outside the mask do not matter.
    mask : (n0, n1, n2) where it is valid.
    scan : voxel size and direction of B0.

    Raises
    ------
    ValueError : an empty mask.
    """
    inside = np.asarray(mask) > 0
    field = np.where(inside & np.isfinite(field_ppm), field_ppm, 0).astype(np.float32)
    return returned_to_field(np.zeros_like(field), field, inside, scan=scan, times=TIMES)
