"""ASPIRE: coils combined by two echoes of which the second is twice as late as the first."""

from __future__ import annotations

from collections.abc import Sequence

from qsmprep.coils.combination import SIGMA_MM, CombinedCoils, check_coils, combine, echo_difference
from qsmprep.coils.images import CoilImages
from qsmprep.masking.robust import robust_mask
from qsmprep.numerics.arrays import DoubleArray
from qsmprep.numerics.progress import Progress
from qsmprep.scan import Scan

# Of TE1 / (TE2 - TE1) from 1: a turn of the phase between the echoes then shows as 0.02 rad, the same in all coils.
TOLERANCE = 0.003


def aspire_applies(echo_times_s: Sequence[float] | DoubleArray) -> bool:
    """Whether the second echo is twice as late as the first.

    >>> aspire_applies((0.005, 0.010, 0.017)), aspire_applies((0.005, 0.011))
    (True, False)
    """
    if len(echo_times_s) < 2 or echo_times_s[1] <= echo_times_s[0]:
        return False
    return bool(abs(echo_times_s[0] / (echo_times_s[1] - echo_times_s[0]) - 1) <= TOLERANCE)


def aspire(
    coils: CoilImages, *, scan: Scan, sigma_mm: float = SIGMA_MM, progress: Progress | None = None
) -> CombinedCoils:
    """Combine the coils: the phase between echoes 1 and 2 is what evolved until echo 1, and nothing is unwrapped.

    What the phase of a coil at echo 1 shows beyond it, smoothed, is the coil's offset, which is taken off before the
    coils are added.

    Parameters
    ----------
    coils : two or more, of two echoes or more.
    scan : its voxel size, and one echo time an echo.
    sigma_mm : standard deviation of the smoothing of the offsets.
    progress : called as progress(done, total).

    Raises
    ------
    ValueError : one coil, one echo, or TE2 that is not 2 TE1.

    References
    ----------
    Eckstein et al. 2018, Magn Reson Med 79:2996; Robinson et al. 2017, NMR Biomed 30:e3601 (combination of coils).
    """
    times = check_coils(coils, scan)
    if not aspire_applies(times):
        raise ValueError(
            f"ASPIRE needs a second echo twice as late as the first; they are {1000 * times[0]:g} and "
            f"{1000 * times[1]:g} ms. Take mcpc-3d-s-coils."
        )
    report = progress or (lambda done, total: None)
    evolution, strength = echo_difference(coils, report)
    return combine(coils, evolution, robust_mask(strength), scan=scan, sigma_mm=sigma_mm, progress=report)
