"""Thresholded k-space division (TKD)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.closed_form import invert_by_filter, mean_response
from qsmprep.numerics.arrays import FloatImage, Mask, RealArray
from qsmprep.numerics.dipole import KERNELS
from qsmprep.numerics.progress import Progress
from qsmprep.options import check_options, option
from qsmprep.scan import Scan


@dataclass(frozen=True)
class TkdOptions:
    """Options of TKD."""

    threshold: float = option(0.15, "smallest |D| that is divided by as it is", low=1e-3, high=2 / 3)
    correct: bool = option(True, "divide by the mean of the point spread function, against underestimation")
    kernel: str = option("continuous", "form of the dipole kernel", choices=KERNELS)
    padding: int = option(32, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


def tkd(
    field_ppm: RealArray,
    mask: Mask,
    *,
    scan: Scan,
    options: TkdOptions = TkdOptions(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility by dividing the field's spectrum by the dipole kernel, whose small values are lifted.

    chi = F^-1 [F f / D_t] / c with D_t = D where |D| > t, else sign(D) t, and c = mean over k of D / D_t.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    scan : geometry.
    options : threshold and correction.
    progress : called as progress(done, total).
    device : "cpu", or a torch device.

    Returns
    -------
    Inversion with chi in ppm, 0 outside the mask; its zero frequency is 0, so reference it afterwards.

    References
    ----------
    Shmueli 2009; Schweser 2013 (correction).

    Examples
    --------
    A ball of 0.1 ppm and 4 mm radius, from its field by the formula of the sphere:

    >>> import numpy as np
    >>> from qsmprep.scan import Scan
    >>> x, y, z = np.indices((20, 20, 20)) - 9.5
    >>> r = np.sqrt(x**2 + y**2 + z**2)
    >>> field_ppm = np.where(r > 4, 0.1 / 3 * (4 / r) ** 3 * (3 * (z / r) ** 2 - 1), 0)
    >>> chi = tkd(field_ppm, r < 9, scan=Scan((1, 1, 1))).chi_ppm
    >>> round(float(chi[r < 3].mean() - chi[(r > 6) & (r < 9)].mean()), 2)
    0.09
    """
    check_options(options)
    return invert_by_filter(
        field_ppm,
        mask,
        lambda dipole, shape: division_filter(dipole, options.threshold, shape[2])[0],
        scan=scan,
        options=options,
        progress=progress,
        device=device,
    )


def division_filter(dipole: FloatImage, threshold: float, last_size: int) -> tuple[FloatImage, float]:
    """1 / D where |D| > threshold, else sign(D) / threshold, 0 at zero frequency; and the mean of D times that.

    The sign of 0 is +. `dipole` is a half spectrum of a grid whose last axis has `last_size` points; the mean runs
    over the full spectrum.
    """
    lifted = np.where(np.abs(dipole) > threshold, dipole, np.where(dipole < 0, -threshold, threshold))
    inverse = (1 / lifted).astype(np.float32)
    inverse[0, 0, 0] = 0
    return inverse, mean_response(dipole, inverse, last_size)
