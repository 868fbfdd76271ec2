"""Truncated k-space division as an input channel of networks; training and use compute it here alike.

Its mean over the mask is taken off: the field does not tell a constant, and a network that is shown a patch cannot.
"""

from __future__ import annotations

import numpy as np

from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.numerics.volume import frame_around
from qsmprep.scan import Scan

# Lower than the 0.15 of the inversion of that name: what is truncated is lost, while noise and streaks can be learnt.
THRESHOLD = 0.07
PADDING = 32  # zeros after each axis, in voxels


def tkd_channel(field_ppm: np.ndarray, mask: np.ndarray, *, scan: Scan) -> np.ndarray:
    """Susceptibility by truncated k-space division, as the inversion `tkd` gives it here, without its mean.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm; values outside the mask do not matter.
    mask : (n0, n1, n2) where it is valid.
    scan : voxel size and direction of B0.

    Returns
    -------
    (n0, n1, n2) float32 in ppm, 0 outside the mask.

    Raises
    ------
    ValueError : an empty mask.

    References
    ----------
    Shmueli 2009; Schweser 2013 (correction of the underestimation).
    """
    inside = np.asarray(mask) > 0
    frame = frame_around(inside, padding=PADDING)
    field = np.where(inside & np.isfinite(field_ppm), field_ppm, 0).astype(np.float32)
    dipole = dipole_kernel(frame.padded_shape, scan.voxel_size_mm, scan.b0_direction, kind="continuous")
    inverse = truncated_inverse(dipole, frame.padded_shape[2])
    chi = frame.restore(irfftn(rfftn(frame.crop(field)) * inverse, frame.padded_shape))
    chi -= chi[inside].mean(dtype=np.float64)
    chi[~inside] = 0
    return chi.astype(np.float32)


def truncated_inverse(dipole: np.ndarray, last_size: int, threshold: float = THRESHOLD) -> np.ndarray:
    """1 / D where |D| > threshold, else sign(D) / threshold, over the mean of D times that; 0 at zero frequency.

    `dipole` is the half spectrum of a grid whose last axis has `last_size` points; the mean runs over the full one.
    """
    lifted = np.where(np.abs(dipole) > threshold, dipole, np.where(dipole < 0, -threshold, threshold))
    inverse = (1 / lifted).astype(np.float32)
    inverse[0, 0, 0] = 0
    twice = np.full(dipole.shape[2], 2.0)
    twice[0] = 1
    if last_size % 2 == 0:
        twice[-1] = 1
    columns = np.einsum("ijk,ijk->k", dipole, inverse, dtype=np.float64)
    return inverse / np.float32((columns * twice).sum() / (dipole.shape[0] * dipole.shape[1] * last_size))
