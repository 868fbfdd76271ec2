"""Thresholded k-space division (TKD)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qsmprep.convergence import Convergence
from qsmprep.dipole import KINDS, dipole_kernel
from qsmprep.fourier import irfftn, rfftn, to_device, to_numpy
from qsmprep.inversion import Inversion
from qsmprep.inversion.inputs import checked_field
from qsmprep.options import check_options, option
from qsmprep.volume import frame_around


@dataclass(frozen=True)
class TkdOptions:
    """Options of TKD."""

    threshold: float = option(0.15, "Smallest |D| that is divided by as it is.", low=1e-3, high=2 / 3)
    correct: bool = option(True, "Divide by the mean of the point spread function, against underestimation.")
    kernel: str = option("continuous", "Form of the dipole kernel.", choices=KINDS)
    padding: int = option(32, "Zeros added to each axis before the transform.", unit="voxels", low=0, high=1024)


def tkd(
    field_ppm: np.ndarray,
    mask: np.ndarray,
    *,
    voxel_size_mm: tuple[float, float, float],
    b0_direction: tuple[float, float, float],
    options: TkdOptions = TkdOptions(),
    progress: Callable[[int, int], None] | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility by dividing the field's spectrum by the dipole kernel, whose small values are lifted.

    chi = F^-1 [F f / D_t] / c with D_t = D where |D| > t, else sign(D) t, and c = mean over k of D / D_t.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    voxel_size_mm : edge lengths in mm.
    b0_direction : direction of B0 in voxel axes.
    options : threshold and correction.
    progress : called as progress(done, total).
    device : "cpu", or a torch device.

    Returns
    -------
    Inversion with chi in ppm, 0 outside the mask; its zero frequency is 0, so reference it afterwards.

    References
    ----------
    Shmueli 2009; Schweser 2013 (correction).
    """
    check_options(options)
    begin = time.perf_counter()
    field, inside, _ = checked_field(field_ppm, mask)
    frame = frame_around(inside, padding=options.padding)
    inverse, correction = division_filter(
        dipole_kernel(frame.padded_shape, voxel_size_mm, b0_direction, kind=options.kernel),
        options.threshold,
        frame.padded_shape[2],
    )
    if options.correct:
        inverse /= np.float32(correction)
    spectrum = rfftn(to_device(frame.crop(field), device)) * to_device(inverse, device)
    chi = frame.restore(to_numpy(irfftn(spectrum, frame.padded_shape)))
    chi[~inside] = 0
    if progress is not None:
        progress(1, 1)
    return Inversion(chi, inside, Convergence(1, True, (), "closed form", time.perf_counter() - begin))


def division_filter(dipole: np.ndarray, threshold: float, last_size: int) -> tuple[np.ndarray, float]:
    """1 / D where |D| > threshold, else sign(D) / threshold, 0 at zero frequency; and the mean of D times that.

    The sign of 0 is +. `dipole` is a half spectrum of a grid whose last axis has `last_size` points; the mean runs
    over the full spectrum.
    """
    lifted = np.where(np.abs(dipole) > threshold, dipole, np.where(dipole < 0, -threshold, threshold))
    inverse = (1 / lifted).astype(np.float32)
    inverse[0, 0, 0] = 0
    twice = np.full(dipole.shape[2], 2.0)
    twice[0] = 1
    if last_size % 2 == 0:
        twice[-1] = 1
    columns = np.einsum("ijk,ijk->k", dipole, inverse, dtype=np.float64)
    return inverse, float((columns * twice).sum() / (dipole.shape[0] * dipole.shape[1] * last_size))
