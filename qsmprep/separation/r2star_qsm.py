"""R2*-QSM: both sources from field and R2* of gradient echoes alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qsmprep.findings import Warning
from qsmprep.numerics.arrays import Mask, RealArray
from qsmprep.numerics.progress import Progress
from qsmprep.options import option
from qsmprep.scan import Scan
from qsmprep.separation import Constants, Separation
from qsmprep.separation.chisep_medi import ChisepMediOptions, chisep_medi
from qsmprep.separation.r2prime import R2PRIME_SHARE


@dataclass(frozen=True)
class R2starQsmOptions(ChisepMediOptions):
    """Options of R2*-QSM: those of chi-separation with MEDI's regularisation, and what R2' is of R2*."""

    share: float = option(R2PRIME_SHARE, "R2' over R2*, one number for all tissues", low=0.01, high=1)


# More than 8 parameters: each image that may be there or not is named.
def r2star_qsm(
    field_ppm: RealArray,
    mask: Mask,
    *,
    chi_ppm: RealArray,
    r2star: RealArray,
    constants: Constants,
    scan: Scan,
    weights: RealArray | None = None,
    magnitude_rss: RealArray | None = None,
    relative_residual: RealArray | None = None,
    options: R2starQsmOptions = R2starQsmOptions(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> Separation:
    """Both sources with R2' taken as a fixed share of R2*; else as `chisep_medi`, which explains the parameters.

    Parameters
    ----------
    r2star : (n0, n1, n2) in 1/s.

    Returns
    -------
    Separation in ppm, with a warning that R2' was not measured.

    References
    ----------
    Dimov 2022.

    Examples
    --------
    A ball of 0.1 ppm of paramagnetic sources and 4 mm radius, from its field and its R2*:

    >>> import numpy as np
    >>> from qsmprep.scan import Scan
    >>> from qsmprep.separation import Constants
    >>> x, y, z = np.indices((20, 20, 20)) - 9.5
    >>> r = np.sqrt(x**2 + y**2 + z**2)
    >>> field_ppm = np.where(r > 4, 0.1 / 3 * (4 / r) ** 3 * (3 * (z / r) ** 2 - 1), 0)
    >>> scan = Scan((1, 1, 1), echo_times_s=(0.01, 0.02), centre_frequency_mhz=123.2)
    >>> maps = {"chi_ppm": 0.1 * (r < 4), "r2star": 11.4 / 0.3 * (r < 4)}
    >>> found = r2star_qsm(field_ppm, r < 9, **maps, constants=Constants(114.0, 114.0), scan=scan)
    >>> [round(float(image[r < 3].mean()), 2) for image in (found.chi_para, found.chi_dia)]
    [0.1, 0.0]
    """
    separation = chisep_medi(
        field_ppm,
        mask,
        chi_ppm=chi_ppm,
        r2prime=np.asarray(r2star, np.float32) * np.float32(options.share),
        constants=constants,
        scan=scan,
        weights=weights,
        magnitude_rss=magnitude_rss,
        relative_residual=relative_residual,
        options=options,
        progress=progress,
        device=device,
    )
    warning = Warning(
        "r2prime-as-share",
        f"R2' is taken as {options.share:g} R2* in every voxel: an approximation, not a measurement.",
        "Acquire a spin echo scan (MESE) where the separation of sources matters, and take another --separation.",
    )
    return replace(separation, warnings=(*separation.warnings, warning))
