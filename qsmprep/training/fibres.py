"""Anisotropic susceptibility of white matter: what a scalar map cannot explain of the field."""

from __future__ import annotations

import numpy as np

from qsmprep.numerics.fourier import fast_shape
from qsmprep.orientation.sti import offdiagonal_field, unit_frequencies
from qsmprep.phantom.texture import smooth_random


def fibre_tensor(
    where: np.ndarray, strength_ppm: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Elements 33, 13 and 23 of the anisotropic part of the tensor, strength (v v' - I / 3) along random fibres v.

    Parameters
    ----------
    where : (n0, n1, n2) share of the voxel that is white matter, 1 mm voxels.
    strength_ppm : difference of susceptibility along and across the fibres.
    random : draws the directions, which vary over some centimetres.

    Returns
    -------
    Three float32 arrays in ppm, in the frame whose third axis is the array's.
    """
    # Waves are of 4 mm correlation; a voxel size of 0.3 stretches them to 13 mm.
    v = np.stack([smooth_random(where.shape, (0.3,) * 3, (0.0,) * 3, random) for _ in range(3)])
    v /= np.maximum(np.linalg.norm(v, axis=0), 1e-6)
    share = np.float32(strength_ppm) * where
    return share * (v[2] ** 2 - np.float32(1 / 3)), share * v[0] * v[2], share * v[1] * v[2]


def off_diagonal_field(chi13: np.ndarray, chi23: np.ndarray) -> np.ndarray:
    """Field in ppm of the elements 13 and 23, B0 along the third axis: -F^-1 [k3 (k1 F chi13 + k2 F chi23) / |k|^2].

    References
    ----------
    Liu 2010 (susceptibility tensor imaging), with B0 along the third axis.
    """
    shape = chi13.shape
    n0, n1, n2 = fast_shape(tuple(2 * n for n in shape))
    padded = (n0, n1, n2)
    inner = tuple(slice(0, n) for n in shape)
    wide = []
    for chi in (chi13, chi23):
        wide.append(np.zeros(padded, np.float32))
        wide[-1][inner] = chi
    field = offdiagonal_field(wide, np.eye(3), unit_frequencies(padded, (1.0, 1.0, 1.0)), padded)
    return np.ascontiguousarray(field[inner])
