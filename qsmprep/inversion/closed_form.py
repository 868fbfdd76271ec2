"""What the closed-form inversions share: one factor per frequency, and the correction of the underestimation."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.inputs import checked_field
from qsmprep.numerics.convergence import Convergence
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn, to_device, to_numpy
from qsmprep.numerics.volume import frame_around


def invert_by_filter(
    field_ppm: np.ndarray,
    mask: np.ndarray,
    design: Callable[[np.ndarray, tuple[int, int, int]], np.ndarray],
    *,
    voxel_size_mm: tuple[float, float, float],
    b0_direction: tuple[float, float, float],
    kernel: str,
    padding: int,
    correct: bool,
    progress: Callable[[int, int], None] | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility chi = F^-1 [G F f], in the mask, with a real factor G for each frequency.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    design : (dipole kernel, padded shape) -> G, both half spectra in float32.
    voxel_size_mm : edge lengths in mm.
    b0_direction : direction of B0 in voxel axes.
    kernel : form of the dipole kernel.
    padding : zeros added to each axis.
    correct : divide by `mean_response`.
    progress : called as progress(1, 1).
    device : "cpu", or a torch device.

    Returns
    -------
    Inversion with chi in ppm, 0 outside the mask.

    References
    ----------
    Schweser 2013 (correction).
    """
    begin = time.perf_counter()
    field, inside, _ = checked_field(field_ppm, mask)
    frame = frame_around(inside, padding=padding)
    shape = frame.padded_shape
    dipole = dipole_kernel(shape, voxel_size_mm, b0_direction, kind=kernel)
    inverse = design(dipole, shape)
    if correct:
        inverse /= np.float32(mean_response(dipole, inverse, shape[2]))
    spectrum = rfftn(to_device(frame.crop(field), device)) * to_device(inverse, device)
    chi = frame.restore(to_numpy(irfftn(spectrum, shape)))
    chi[~inside] = 0
    if progress is not None:
        progress(1, 1)
    return Inversion(chi, inside, Convergence(1, True, (), "closed form", time.perf_counter() - begin))


def mean_response(dipole: np.ndarray, inverse: np.ndarray, last_size: int) -> float:
    """Mean over all frequencies of D times its regularised inverse: the point spread function at its origin.

    `dipole` and `inverse` are half spectra of a grid whose last axis has `last_size` points; the mean runs over the
    full spectrum.
    """
    twice = np.full(dipole.shape[2], 2.0)
    twice[0] = 1
    if last_size % 2 == 0:
        twice[-1] = 1
    columns = np.einsum("ijk,ijk->k", dipole, inverse, dtype=np.float64)
    return float((columns * twice).sum() / (dipole.shape[0] * dipole.shape[1] * last_size))
