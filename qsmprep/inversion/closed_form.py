"""What the closed-form inversions share: one factor per frequency, and the correction of the underestimation."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.inputs import checked_field
from qsmprep.inversion.solving import Solved, Workspace
from qsmprep.numerics.arrays import FloatImage, Mask, RealArray
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn, to_device
from qsmprep.numerics.progress import Progress
from qsmprep.numerics.volume import frame_around
from qsmprep.scan import Scan


class FilterOptions(Protocol):
    """Options that all closed forms have."""

    @property
    def kernel(self) -> str:
        """Form of the dipole kernel."""

    @property
    def padding(self) -> int:
        """Zeros added to each axis."""

    @property
    def correct(self) -> bool:
        """Whether to divide by `mean_response`."""


def invert_by_filter(
    field_ppm: RealArray,
    mask: Mask,
    design: Callable[[FloatImage, tuple[int, ...]], FloatImage],
    *,
    scan: Scan,
    options: FilterOptions,
    progress: Progress | None,
    device: str,
) -> Inversion:
    """Susceptibility chi = F^-1 [G F f], in the mask, with a real factor G for each frequency.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    design : (dipole kernel, padded shape) -> G, both half spectra in float32.
    scan : geometry.
    options : of the method.
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
    work = Workspace(frame_around(inside, padding=options.padding), inside, device, begin)
    shape = work.frame.padded_shape
    dipole = dipole_kernel(shape, scan.voxel_size_mm, scan.b0_direction, kind=options.kernel)
    inverse = design(dipole, shape)
    if options.correct:
        inverse /= np.float32(mean_response(dipole, inverse, shape[2]))
    spectrum = rfftn(work.there(field)) * to_device(inverse, device)
    if progress is not None:
        progress(1, 1)
    return work.inversion(Solved(irfftn(spectrum, shape), (), True, "closed form", unlisted=1))


def mean_response(dipole: FloatImage, inverse: FloatImage, last_size: int) -> float:
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
