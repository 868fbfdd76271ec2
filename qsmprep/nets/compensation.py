"""Susceptibility that a network made of interleaved lattices, brought to what the field of the fine grid asks for.

A lattice of every n-th voxel folds the field's high frequencies onto low ones, and the network divides them by the
dipole kernel of where they were folded to. Interleaved again they are where they belong, but wrong by the ratio of both
kernels, which is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add

import numpy as np

from qsmprep.numerics.fourier import fast_shape, frequencies, irfftn, rfftn
from qsmprep.scan import Scan

SMALLEST_KERNEL = 0.15  # of the fine grid, below which nothing is known and the network's answer stays
LARGEST_FACTOR = 2.0  # so that noise is not blown up
PADDING = 8  # zeros around the volume, on each side


def compensate_lattices(chi_ppm: np.ndarray, *, combs: tuple[int, ...], scan: Scan) -> np.ndarray:
    """Multiply k-space by D(k folded) / D(k), D(k) = 1/3 - (k.b)^2 / k^2, where |D(k)| is not small.

    Frequencies that the lattices hold are not changed, as they are not folded.

    Parameters
    ----------
    chi_ppm : (n0, n1, n2) in ppm, interleaved, 0 outside the mask.
    combs : lattices along each axis.
    scan : voxel size of the fine grid and direction of B0 in its axes.

    Returns
    -------
    (n0, n1, n2) float32 in ppm; not 0 outside the mask.

    References
    ----------
    Ji 2023 (dipole compensation of networks at other resolutions); threshold and largest factor are ours.
    """
    shape = fast_shape(tuple(n + 2 * PADDING for n in chi_ppm.shape))
    inside = tuple(slice(PADDING, PADDING + n) for n in chi_ppm.shape)
    padded = np.zeros(shape, np.float32)
    padded[inside] = chi_ppm
    fine = frequencies(shape, scan.voxel_size_mm)
    folded = [_folded(k, 1 / (n * h)) if n > 1 else k for k, n, h in zip(fine, combs, scan.voxel_size_mm, strict=True)]
    true, seen = _kernel(fine, scan.b0_direction), _kernel(folded, scan.b0_direction)
    known = np.abs(true) > SMALLEST_KERNEL
    factor = np.clip(np.divide(seen, true, out=np.ones_like(seen), where=known), -LARGEST_FACTOR, LARGEST_FACTOR)
    compensated: np.ndarray = irfftn(rfftn(padded) * factor, shape)[inside]
    return compensated


def _folded(k: np.ndarray, width: float) -> np.ndarray:
    """Frequencies brought into [-width / 2, width / 2) by whole widths; those inside keep their bits."""
    return np.where(np.abs(k) < width / 2, k, (k + width / 2) % width - width / 2)


def _kernel(k: Sequence[np.ndarray], b0_direction: tuple[float, float, float]) -> np.ndarray:
    b = np.asarray(b0_direction, float) / np.linalg.norm(b0_direction)
    total: np.ndarray = reduce(add, (kd**2 for kd in k))
    along: np.ndarray = reduce(add, (bd * kd for bd, kd in zip(b, k, strict=True))) ** 2
    share = np.divide(along, total, out=np.full_like(along, 1 / 3), where=total > 0)
    return np.asarray(1 / 3 - share, np.float32)
