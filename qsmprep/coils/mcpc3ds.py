"""MCPC-3D-S for coils: combined by two echoes at any times, whose phase difference is unwrapped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qsmprep.coils.combination import SIGMA_MM, CombinedCoils, check_coils, combine, echo_difference
from qsmprep.coils.images import CoilImages
from qsmprep.masking.robust import robust_mask
from qsmprep.numerics.progress import Progress
from qsmprep.phase.mcpc3ds import reliable_core
from qsmprep.scan import Scan
from qsmprep.unwrap.romeo import RomeoOptions, romeo


def mcpc3ds(
    coils: CoilImages, *, scan: Scan, sigma_mm: float = SIGMA_MM, progress: Progress | None = None
) -> CombinedCoils:
    """Combine the coils: the unwrapped phase between echoes 1 and 2, scaled to TE1, is what evolved until echo 1.

    What the phase of a coil at echo 1 shows beyond it, smoothed, is the coil's offset, which is taken off before the
    coils are added. The offsets are estimated where the unwrapping can be trusted.

    Parameters
    ----------
    coils : two or more, of two echoes or more.
    scan : its voxel size, and one echo time an echo.
    sigma_mm : standard deviation of the smoothing of the offsets.
    progress : called as progress(done, total).

    Raises
    ------
    ValueError : one coil, one echo, equal first echo times, or no voxel with phase.

    References
    ----------
    Eckstein et al. 2018, Magn Reson Med 79:2996; Robinson et al. 2017, NMR Biomed 30:e3601 (combination of coils).
    """
    times = check_coils(coils, scan)
    spacing = times[1] - times[0]
    report = progress or (lambda done, total: None)
    difference, strength = echo_difference(coils, report)
    unwrapped = romeo(
        difference,
        scan=replace(scan, echo_times_s=(spacing,)),
        magnitude=strength,
        mask=robust_mask(strength),
        options=RomeoOptions(tree="sorted", correct_regions=True),
    )
    core = reliable_core(unwrapped.quality, unwrapped.quality > 0)
    evolution = np.asarray(unwrapped.phase * np.float32(times[0] / spacing))
    return combine(coils, evolution, core, scan=scan, sigma_mm=sigma_mm, progress=report)
