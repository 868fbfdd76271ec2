"""RESHARP: SHARP as a least-squares problem, in which the tissue field is no larger than the data ask for.

With S the mean over a ball, C = 1 - S, and M_r the voxels whose whole ball lies in the mask, the tissue field x
minimises |M_r C (f - x)|^2 + lambda |x|^2, that is (C M_r C + lambda) x = C M_r C f.

Inside the mask C M_r C is nearly C^2, a multiplication in Fourier space. Substituting x = Q u with
Q = (C^2 + lambda)^(-1/2) and W = C Q therefore leaves (W M_r W + 1 - W^2) u = W M_r C f, whose matrix is the identity
but for the border: a few conjugate gradient steps solve it, each no dearer than one on the first system.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from qsmprep.background import BackgroundRemoval
from qsmprep.background.spheres import ball_problem
from qsmprep.numerics.arrays import ComplexImage, RealArray
from qsmprep.numerics.convergence import ended
from qsmprep.numerics.fourier import irfftn, is_tensor, rfftn, to_device
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.krylov import conjugate_gradient
from qsmprep.numerics.progress import Progress
from qsmprep.options import check_options, option
from qsmprep.scan import Scan


@dataclass(frozen=True)
class ResharpOptions:
    """Options of RESHARP.

    The authors tested lambda from 5e-4 to 5e-2, and 1e-2 is in wide use. On simulated heads of several voxel sizes,
    tilts and noise levels the smallest of these halves the error of the tissue field, because lambda costs most where
    the field changes slowly; below it little is gained and the background returns.
    """

    radius: float = option(6.0, "radius of the spherical mean", unit="mm", low=0.1, high=60.0)
    regularisation: float = option(5e-4, "weight lambda of the tissue field's own size", low=1e-7, high=10.0)
    tolerance: float = option(
        2e-3, "relative residual of the preconditioned system at which to stop", low=0.0, high=1.0
    )
    max_iterations: int = option(50, "cap on conjugate gradient iterations", low=1, high=10000)


def resharp(
    total_field: np.ndarray,
    mask: np.ndarray,
    *,
    scan: Scan,
    options: ResharpOptions = ResharpOptions(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> BackgroundRemoval:
    """Remove the background field by regularised spherical means of one radius.

    Parameters
    ----------
    total_field : (n0, n1, n2) unwrapped field, Hz or ppm; values outside the mask do not matter.
    mask : (n0, n1, n2) where the field can be trusted. Voxels outside the volume count as outside the mask.
    scan : its voxel size.
    options : radius, lambda and when to stop.
    progress : called as progress(iteration, max_iterations).
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
    Sun and Wilman, Magn Reson Med 71:1151 (2014).

    Examples
    --------
    The field of a distant source, here a gradient, goes; so do the voxels around which the ball does not fit.

    >>> x, y, z = np.indices((17, 17, 17)) - 8
    >>> mask = x**2 + y**2 + z**2 < 64
    >>> found = resharp(10.0 + 2 * x - z, mask, scan=Scan((1, 1, 1)), options=ResharpOptions(radius=3))
    >>> bool(np.abs(found.tissue_field).max() < 1e-4), int(mask.sum()), int(found.mask.sum())
    (True, 2103, 509)
    """
    check_options(options)
    started = time.perf_counter()
    problem = ball_problem("RESHARP", total_field, mask, scan.voxel_size_mm, options.radius, pad=True, device=device)
    fit = FilteredTissue(problem.ball.filter, to_device(problem.valid.astype(np.float32), device))
    scale = 1 / (fit.filter**2 + options.regularisation) ** 0.5
    scaled = FilteredTissue(fit.filter * scale, fit.valid)
    solution = conjugate_gradient(
        scaled.normal_matrix,
        scaled.adjoint(fit.forward(to_device(problem.field, device))),
        tolerance=options.tolerance,
        max_iterations=options.max_iterations,
        progress=progress,
    )
    tissue, valid = problem.restore(irfftn(rfftn(solution.x) * scale, problem.frame.padded_shape))
    convergence = ended(
        started,
        solution.history,
        solution.converged,
        monitored="residual of the preconditioned normal equations, relative to the start",
    )
    return BackgroundRemoval(tissue, valid, convergence)


@dataclass(frozen=True)
class FilteredTissue:
    """The linear map M_r W from a field to its filtered form, where the ball fits.

    Attributes
    ----------
    filter : W, a real half spectrum within [-1, 1] for `normal_matrix`.
    valid : M_r, float32, 1 where the whole ball lies in the mask and 0 elsewhere.
    """

    filter: Any
    valid: Any

    def forward(self, field: Any) -> Any:
        """M_r W x."""
        return self._masked(rfftn(field))

    def adjoint(self, filtered: Any) -> Any:
        """W M_r y, the adjoint of `forward`."""
        spectrum = rfftn(filtered * self.valid)
        spectrum *= self.filter
        return irfftn(spectrum, tuple(filtered.shape))

    def normal_matrix(self, u: Any) -> Any:
        """W M_r W u + (1 - W^2) u, symmetric positive semi-definite."""
        spectrum = rfftn(u)
        return irfftn(_blend(rfftn(self._masked(spectrum)), spectrum, self.filter), tuple(u.shape))

    def _masked(self, spectrum: Any) -> Any:
        field = irfftn(spectrum * self.filter, tuple(self.valid.shape))
        field *= self.valid
        return field


def _blend(filtered: Any, plain: Any, weight: Any) -> Any:
    """weight filtered + (1 - weight^2) plain, in the memory of `filtered`."""
    if is_tensor(filtered):
        return filtered.mul_(weight).add_(plain * (1 - weight**2))
    if filtered.dtype != np.complex64:
        return weight * filtered + (1 - weight**2) * plain
    _blend_spectra(filtered.reshape(-1), plain.reshape(-1), weight.reshape(-1))
    return filtered


@jit(parallel=True)
def _blend_spectra(filtered: ComplexImage, plain: ComplexImage, weight: RealArray) -> None:
    for i in prange(filtered.size):
        w = weight[i]
        filtered[i] = w * filtered[i] + (np.float32(1) - w * w) * plain[i]
