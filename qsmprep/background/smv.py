"""SMV: subtract the mean over a ball, and leave it at that."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from qsmprep.background import BackgroundRemoval
from qsmprep.background.spheres import ball_problem
from qsmprep.numerics.convergence import ended
from qsmprep.numerics.fourier import to_device
from qsmprep.numerics.progress import Progress
from qsmprep.options import check_options, option
from qsmprep.scan import Scan


@dataclass(frozen=True)
class SmvOptions:
    """Options of the spherical mean value filter; the default is the usual one."""

    radius: float = option(5.0, "radius of the spherical mean", unit="mm", low=0.1, high=60.0)


def smv(
    total_field: np.ndarray,
    mask: np.ndarray,
    *,
    scan: Scan,
    options: SmvOptions = SmvOptions(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> BackgroundRemoval:
    """Remove the background field by subtracting the mean over a ball: f - S f, without deconvolution.

    The tissue field comes out filtered as well: it is (1 - S) times the true one, weak wherever the field changes
    slowly. A dipole inversion should undo this by using (1 - S) D in place of the dipole kernel D; with D alone,
    large structures lose contrast and get a dark rim.

    Parameters
    ----------
    total_field : (n0, n1, n2) unwrapped field, Hz or ppm; values outside the mask do not matter.
    mask : (n0, n1, n2) where the field can be trusted. Voxels outside the volume count as outside the mask.
    scan : its voxel size.
    options : radius.
    progress : called once, as progress(1, 1).
    device : where the filter runs.

    Returns
    -------
    BackgroundRemoval in the unit of the input; its mask is eroded by the ball.

    Raises
    ------
    ValueError : empty mask, mismatched shapes, non-finite field in the mask, a ball that is flat (below the longest
        voxel edge) or fits nowhere into the mask.

    References
    ----------
    Schweser, NeuroImage 54:2789 (2011).

    Examples
    --------
    The field of a distant source, here a gradient, goes; so do the voxels around which the ball does not fit.

    >>> x, y, z = np.indices((17, 17, 17)) - 8
    >>> mask = x**2 + y**2 + z**2 < 64
    >>> found = smv(10.0 + 2 * x - z, mask, scan=Scan((1, 1, 1)), options=SmvOptions(radius=3))
    >>> bool(np.abs(found.tissue_field).max() < 1e-4), int(mask.sum()), int(found.mask.sum())
    (True, 2103, 509)
    """
    check_options(options)
    started = time.perf_counter()
    problem = ball_problem("SMV", total_field, mask, scan.voxel_size_mm, options.radius, pad=False, device=device)
    filtered = problem.ball.subtract_mean(to_device(problem.field, device))
    tissue, valid = problem.restore(filtered)
    if progress is not None:
        progress(1, 1)
    return BackgroundRemoval(tissue, valid, ended(started, (), True, monitored="closed form", unlisted=1))
