"""SHARP: subtract the mean over a ball, which no harmonic field survives, then undo what that did to the tissue."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from qsmprep.background import BackgroundRemoval
from qsmprep.background.spheres import ball_problem, deconvolve
from qsmprep.numerics.convergence import ended
from qsmprep.numerics.fourier import irfftn, rfftn, to_device
from qsmprep.numerics.progress import Progress
from qsmprep.options import check_options, option
from qsmprep.scan import Scan


@dataclass(frozen=True)
class SharpOptions:
    """Options of SHARP."""

    radius: float = option(6.0, "radius of the spherical mean", unit="mm", low=0.1, high=60.0)
    threshold: float = option(0.05, "value of the filter below which the deconvolution is truncated", low=0.0, high=1.0)


def sharp(
    total_field: np.ndarray,
    mask: np.ndarray,
    *,
    scan: Scan,
    options: SharpOptions = SharpOptions(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> BackgroundRemoval:
    """Remove the background field by spherical means of one radius.

    With S the mean over the ball and M_r the voxels whose whole ball lies in the mask, g = M_r (f - S f), and the
    tissue field is M_r F^-1{ F g / (1 - S) }, where |1 - S| < threshold zero in place of the quotient.

    Parameters
    ----------
    total_field : (n0, n1, n2) unwrapped field, Hz or ppm; values outside the mask do not matter.
    mask : (n0, n1, n2) where the field can be trusted. Voxels outside the volume count as outside the mask.
    scan : its voxel size.
    options : radius and threshold.
    progress : called once, as progress(1, 1).
    device : where the Fourier transforms run.

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
    >>> found = sharp(10.0 + 2 * x - z, mask, scan=Scan((1, 1, 1)), options=SharpOptions(radius=3))
    >>> bool(np.abs(found.tissue_field).max() < 1e-4), int(mask.sum()), int(found.mask.sum())
    (True, 2103, 509)
    """
    check_options(options)
    started = time.perf_counter()
    problem = ball_problem("SHARP", total_field, mask, scan.voxel_size_mm, options.radius, pad=True, device=device)
    weight, shape = problem.ball.filter, problem.frame.padded_shape
    filtered = irfftn(rfftn(to_device(problem.field, device)) * weight, shape)
    filtered *= to_device(problem.valid.astype(np.float32), device)
    tissue, valid = problem.restore(deconvolve(filtered, weight, options.threshold))
    if progress is not None:
        progress(1, 1)
    return BackgroundRemoval(tissue, valid, ended(started, (), True, monitored="closed form", unlisted=1))
