"""Susceptibility that varies smoothly within tissue and hardly shows in the magnitude.

A head of uniform tissues flatters methods that look for piecewise constant maps, and its magnitude has an edge
wherever susceptibility has one. In a real brain fibre direction, myelin and iron vary within a tissue.
"""

from __future__ import annotations

import numpy as np

from qsmprep.phantom.tissues import RELAXOMETRIC_CONSTANT_3T

CORRELATION_LENGTH_MM = 4.0
WAVES = 64


def add_texture(
    maps: dict[str, np.ndarray],
    deviation_ppm: float,
    *,
    voxel_size_mm: tuple[float, float, float],
    first_centre_mm: tuple[float, float, float],
    field_strength_t: float,
    random: np.random.Generator,
) -> None:
    """Add a random smooth susceptibility to the brain's tissues, and the R2' that goes with it; in place.

    Parameters
    ----------
    maps : property maps as `render` makes them, (n0, n1, n2) each.
    deviation_ppm : s.d. of the addition; its positive part goes to chi_para, its negative part to chi_dia.
    voxel_size_mm, first_centre_mm : where the voxels lie in the head, so that the addition does not depend on the grid.
    field_strength_t : for R2'.
    random : draws the waves.
    """
    texture = smooth_random(maps["brain"].shape, voxel_size_mm, first_centre_mm, random)
    texture *= np.float32(deviation_ppm)
    texture *= maps["brain"]
    maps["chi_para"] += np.maximum(texture, 0)
    maps["chi_dia"] -= np.minimum(texture, 0)
    maps["r2prime"] += np.float32(RELAXOMETRIC_CONSTANT_3T * field_strength_t / 3) * np.abs(texture)


def smooth_random(
    shape: tuple[int, int, int],
    voxel_size_mm: tuple[float, float, float],
    first_centre_mm: tuple[float, float, float],
    random: np.random.Generator,
) -> np.ndarray:
    """A Gaussian random field of unit s.d. and Gaussian correlation, as a sum of plane waves: float32 of `shape`."""
    frequency = random.standard_normal((WAVES, 3)) / CORRELATION_LENGTH_MM  # rad/mm
    phase = random.uniform(0, 2 * np.pi, WAVES)
    axes = [first + size * np.arange(n) for first, size, n in zip(first_centre_mm, voxel_size_mm, shape, strict=True)]
    waves = [np.exp(1j * np.outer(frequency[:, d], axes[d])).astype(np.complex64) for d in range(3)]
    waves[0] *= (np.sqrt(2 / WAVES) * np.exp(1j * phase)).astype(np.complex64)[:, None]
    return np.einsum("ti,tj,tk->ijk", *waves, optimize=["einsum_path", (0, 1), (0, 1)]).real.copy()
