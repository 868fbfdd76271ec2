"""R2*-QSM: both sources from field and R2* of gradient echoes alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from qsmprep.options import option
from qsmprep.separation import Constants, Separation
from qsmprep.separation.chisep_medi import ChisepMediOptions, chisep_medi
from qsmprep.separation.r2prime import R2PRIME_SHARE


@dataclass(frozen=True)
class R2starQsmOptions(ChisepMediOptions):
    """Options of R2*-QSM: those of chi-separation with MEDI's regularisation, and what R2' is of R2*."""

    share: float = option(R2PRIME_SHARE, "R2' over R2*, one number for all tissues", low=0.01, high=1)


def r2star_qsm(
    field_ppm: np.ndarray,
    mask: np.ndarray,
    *,
    chi_ppm: np.ndarray,
    r2star: np.ndarray,
    constants: Constants,
    voxel_size_mm: tuple[float, float, float],
    b0_direction: tuple[float, float, float],
    centre_frequency_mhz: float,
    echo_times_s: np.ndarray,
    weights: np.ndarray | None = None,
    magnitude: np.ndarray | None = None,
    relative_residual: np.ndarray | None = None,
    options: R2starQsmOptions = R2starQsmOptions(),
    progress: Callable[[int, int], None] | None = None,
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
    """
    separation = chisep_medi(
        field_ppm,
        mask,
        chi_ppm=chi_ppm,
        r2prime=np.asarray(r2star, np.float32) * np.float32(options.share),
        constants=constants,
        voxel_size_mm=voxel_size_mm,
        b0_direction=b0_direction,
        centre_frequency_mhz=centre_frequency_mhz,
        echo_times_s=echo_times_s,
        weights=weights,
        magnitude=magnitude,
        relative_residual=relative_residual,
        options=options,
        progress=progress,
        device=device,
    )
    text = f"R2' is taken as {options.share:g} R2* in every voxel: an approximation, not a measurement."
    return replace(separation, warnings=(*separation.warnings, text))
