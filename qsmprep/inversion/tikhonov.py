"""Tikhonov-regularised inversion: least squares with a penalty on the size of the susceptibility."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.closed_form import invert_by_filter
from qsmprep.numerics.arrays import Mask, RealArray
from qsmprep.numerics.dipole import KERNELS
from qsmprep.numerics.progress import Progress
from qsmprep.options import check_options, option
from qsmprep.scan import Scan


@dataclass(frozen=True)
class TikhonovOptions:
    """Options of the Tikhonov-regularised inversion."""

    regularisation: float = option(5e-3, "weight lambda of |chi|^2 against the misfit of the field", low=1e-9, high=1e3)
    correct: bool = option(True, "divide by the mean of the point spread function, against underestimation")
    kernel: str = option("continuous", "form of the dipole kernel", choices=KERNELS)
    padding: int = option(32, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


def tikhonov(
    field_ppm: RealArray,
    mask: Mask,
    *,
    scan: Scan,
    options: TikhonovOptions = TikhonovOptions(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility as the least-squares fit of the field with a penalty on its own energy.

    min |D F chi - F f|^2 + lambda |F chi|^2, that is chi = F^-1 [D F f / (D^2 + lambda)] / c, with c = mean over k of
    D^2 / (D^2 + lambda). Like TKD it knows nothing about the image, and it is no more accurate: with
    lambda = 5e-3, its error on simulated heads is that of TKD with a threshold of 0.15, or up to 3 % above it.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    scan : geometry.
    options : regularisation and correction. Published are 1e-2 and 5e-3; the former errs by 5 to 20 % more.
    progress : called as progress(done, total).
    device : "cpu", or a torch device.

    Returns
    -------
    Inversion with chi in ppm, 0 outside the mask; its zero frequency is 0, so reference it afterwards.

    References
    ----------
    Kressler 2010; Schweser 2013 (correction).

    Examples
    --------
    A ball of 0.1 ppm and 4 mm radius, from its field by the formula of the sphere:

    >>> import numpy as np
    >>> from qsmprep.scan import Scan
    >>> x, y, z = np.indices((20, 20, 20)) - 9.5
    >>> r = np.sqrt(x**2 + y**2 + z**2)
    >>> field_ppm = np.where(r > 4, 0.1 / 3 * (4 / r) ** 3 * (3 * (z / r) ** 2 - 1), 0)
    >>> chi = tikhonov(field_ppm, r < 9, scan=Scan((1, 1, 1))).chi_ppm
    >>> round(float(chi[r < 3].mean() - chi[(r > 6) & (r < 9)].mean()), 2)
    0.09
    """
    check_options(options)
    return invert_by_filter(
        field_ppm,
        mask,
        lambda dipole, shape: dipole / (dipole**2 + np.float32(options.regularisation)),
        scan=scan,
        options=options,
        progress=progress,
        device=device,
    )
