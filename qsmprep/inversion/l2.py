"""Closed-form inversion with a penalty on the squared gradient of the susceptibility."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.closed_form import invert_by_filter
from qsmprep.numerics.arrays import FloatImage, Mask, RealArray
from qsmprep.numerics.dipole import KERNELS
from qsmprep.numerics.operators import laplacian_spectrum
from qsmprep.numerics.progress import Progress
from qsmprep.options import check_options, option
from qsmprep.scan import Scan


@dataclass(frozen=True)
class L2Options:
    """Options of the closed-form L2 inversion."""

    regularisation: float = option(
        5e-3, "weight lambda of |grad chi|^2 against the misfit of the field", unit="mm^2", low=1e-9, high=1e3
    )
    correct: bool = option(False, "divide by the mean of the point spread function, against underestimation")
    kernel: str = option("continuous", "form of the dipole kernel", choices=KERNELS)
    padding: int = option(32, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


def l2(
    field_ppm: RealArray,
    mask: Mask,
    *,
    scan: Scan,
    options: L2Options = L2Options(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility as the least-squares fit of the field with a penalty on the energy of its gradient.

    min |D F chi - F f|^2 + lambda |grad chi|^2, that is chi = F^-1 [D F f / (D^2 + lambda E)], with E the spectrum of
    minus the 7-point Laplacian per mm^2.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    scan : geometry.
    options : regularisation and correction. The correction, not published for this method, overshoots: low frequencies
        need none.
    progress : called as progress(done, total).
    device : "cpu", or a torch device.

    Returns
    -------
    Inversion with chi in ppm, 0 outside the mask; its zero frequency is 0, so reference it afterwards.

    References
    ----------
    Bilgic 2014.

    Examples
    --------
    A ball of 0.1 ppm and 4 mm radius, from its field by the formula of the sphere:

    >>> import numpy as np
    >>> from qsmprep.scan import Scan
    >>> x, y, z = np.indices((20, 20, 20)) - 9.5
    >>> r = np.sqrt(x**2 + y**2 + z**2)
    >>> field_ppm = np.where(r > 4, 0.1 / 3 * (4 / r) ** 3 * (3 * (z / r) ** 2 - 1), 0)
    >>> chi = l2(field_ppm, r < 9, scan=Scan((1, 1, 1))).chi_ppm
    >>> round(float(chi[r < 3].mean() - chi[(r > 6) & (r < 9)].mean()), 2)
    0.08
    """
    check_options(options)
    return invert_by_filter(
        field_ppm,
        mask,
        lambda dipole, shape: smooth_inverse(dipole, shape, scan.voxel_size_mm, options.regularisation),
        scan=scan,
        options=options,
        progress=progress,
        device=device,
    )


def smooth_inverse(
    dipole: FloatImage, shape: tuple[int, ...], voxel_size_mm: tuple[float, float, float], regularisation: float
) -> FloatImage:
    """D / (D^2 + regularisation E), 0 at zero frequency; a half spectrum of a grid of `shape`."""
    bottom = dipole**2 + np.float32(regularisation) * laplacian_spectrum(shape, voxel_size_mm)
    return np.divide(dipole, bottom, out=np.zeros_like(dipole), where=bottom > 0)
