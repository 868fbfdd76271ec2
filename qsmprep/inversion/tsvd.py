"""Truncated singular value decomposition (TSVD)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.closed_form import invert_by_filter
from qsmprep.numerics.arrays import FloatImage, Mask, RealArray
from qsmprep.numerics.dipole import KERNELS
from qsmprep.numerics.progress import Progress
from qsmprep.options import check_options, option
from qsmprep.scan import Scan


@dataclass(frozen=True)
class TsvdOptions:
    """Options of TSVD."""

    threshold: float = option(
        0.1, "smallest |D| that is divided by; frequencies below are left out", low=1e-3, high=2 / 3
    )
    correct: bool = option(False, "divide by the mean of the point spread function, against underestimation")
    kernel: str = option("continuous", "form of the dipole kernel", choices=KERNELS)
    padding: int = option(32, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


def tsvd(
    field_ppm: RealArray,
    mask: Mask,
    *,
    scan: Scan,
    options: TsvdOptions = TsvdOptions(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility by dividing the field's spectrum by the dipole kernel, where that is not small.

    chi = F^-1 [F f / D where |D| > t, else 0], divided, if asked for, by the fraction c of frequencies that are
    kept. What is left out is missing from the map: on simulated heads its error mostly exceeds that of TKD, which
    keeps the sign of those frequencies: by about a tenth with the default, and by a quarter with a threshold of 0.15.
    The correction adds to the error, as it also scales what needs no scaling.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    scan : geometry.
    options : threshold and correction; without the correction as published.
    progress : called as progress(done, total).
    device : "cpu", or a torch device.

    Returns
    -------
    Inversion with chi in ppm, 0 outside the mask; its zero frequency is 0, so reference it afterwards.

    References
    ----------
    Wharton 2010; Schweser 2013 (correction).

    Examples
    --------
    A ball of 0.1 ppm and 4 mm radius, from its field by the formula of the sphere:

    >>> import numpy as np
    >>> from qsmprep.scan import Scan
    >>> x, y, z = np.indices((20, 20, 20)) - 9.5
    >>> r = np.sqrt(x**2 + y**2 + z**2)
    >>> field_ppm = np.where(r > 4, 0.1 / 3 * (4 / r) ** 3 * (3 * (z / r) ** 2 - 1), 0)
    >>> chi = tsvd(field_ppm, r < 9, scan=Scan((1, 1, 1))).chi_ppm
    >>> round(float(chi[r < 3].mean() - chi[(r > 6) & (r < 9)].mean()), 2)
    0.07
    """
    check_options(options)
    return invert_by_filter(
        field_ppm,
        mask,
        lambda dipole, shape: truncated_inverse(dipole, options.threshold),
        scan=scan,
        options=options,
        progress=progress,
        device=device,
    )


def truncated_inverse(dipole: FloatImage, threshold: float) -> FloatImage:
    """1 / D where |D| > threshold, else 0."""
    kept = np.abs(dipole) > threshold
    return np.divide(1, dipole, out=np.zeros_like(dipole), where=kept)
