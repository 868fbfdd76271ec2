"""Total variation with a linear data term (TV), by alternating directions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.holes import handles_holes, residual_threshold_option, two_pass_option
from qsmprep.inversion.inputs import checked_field, checked_image, reliable, unit_weights
from qsmprep.numerics.admm import (
    Penalties,
    PhaseProblem,
    minimise_over_spectrum,
    minimise_total_variation,
)
from qsmprep.numerics.convergence import Convergence
from qsmprep.numerics.dipole import KINDS
from qsmprep.numerics.fourier import rfftn, to_device, to_numpy
from qsmprep.numerics.proximal import threshold_rows, zero_split
from qsmprep.numerics.spectral import Spectra, spectra
from qsmprep.numerics.volume import frame_around
from qsmprep.options import check_options, option

DATA_WEIGHTS = ("given", "mask", "none")
STEP = 1e-3  # ppm from voxel to voxel, threshold of the gradient split: sets the pace, not the result
MU_DATA = 0.1  # penalty parameter of the data split, likewise


@dataclass(frozen=True)
class TvOptions:
    """Options of TV."""

    regularisation: float = option(
        2e-4, "weight lambda of total variation, for data weights up to 1", unit="ppm mm", low=1e-9, high=10
    )
    data_weights: str = option(
        "given", "weights of the data term; given: those of the run, or the mask where there are none; mask: 1 in the "
        "mask; none: 1 everywhere",
        choices=DATA_WEIGHTS,
    )  # fmt: skip
    max_iterations: int = option(250, "cap on iterations", low=1, high=100000)
    tolerance: float = option(0.1, "change of chi at which to stop", unit="%", low=0, high=100)
    residual_threshold: float = residual_threshold_option()
    two_pass: bool = two_pass_option()
    kernel: str = option("integrated", "form of the dipole kernel", choices=KINDS)
    padding: int = option(16, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


@handles_holes
def tv(
    field_ppm: np.ndarray,
    mask: np.ndarray,
    *,
    voxel_size_mm: tuple[float, float, float],
    b0_direction: tuple[float, float, float],
    weights: np.ndarray | None = None,
    relative_residual: np.ndarray | None = None,
    options: TvOptions = TvOptions(),
    progress: Callable[[int, int], None] | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility by total variation with a linear data term.

    min over chi of 1/2 |w (D chi - f)|^2 + lambda |grad chi|_1, f in ppm and gradients per mm.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    voxel_size_mm : edge lengths in mm.
    b0_direction : direction of B0 in voxel axes.
    weights : (n0, n1, n2) data weights w >= 0, scaled here so that the 99.9th percentile in the mask is 1, and clipped
        there; None: the mask.
    relative_residual : (n0, n1, n2) of the echo combination; excludes voxels from the weights, not from the mask.
    options : parameters. The published lambda of 1e-3 takes 10 % off a ball of 4 mm radius and 0.1 ppm, 2e-4 takes
        nothing; it halves the error of simulated heads. The integrated kernel has no images of the brain beyond the
        padding; on heads simulated on a finer grid it leaves a tenth less error than the continuous one.
    progress : called as progress(iteration, max_iterations).
    device : "cpu", or a torch device.

    Returns
    -------
    Inversion with chi in ppm, 0 outside the mask; its zero frequency is 0, so reference it afterwards.

    References
    ----------
    Bilgic 2014 (closed-form steps); Boyd 2011 (alternating directions).
    """
    check_options(options)
    begin = time.perf_counter()
    field, inside, measured = checked_field(field_ppm, mask)
    measured &= reliable(inside, relative_residual, options.residual_threshold)
    weights = unit_weights(checked_image(weights, inside, "The weight image"), inside)
    weights = np.where(measured, weights if options.data_weights == "given" else 1, 0).astype(np.float32)
    frame = frame_around(inside, padding=options.padding)
    grid = spectra(frame.padded_shape, voxel_size_mm, b0_direction, kernel=options.kernel, device=device)
    field = to_device(frame.crop(field), device)
    weights = None if options.data_weights == "none" else to_device(frame.crop(weights), device)
    x, history, converged = linear_total_variation(
        field,
        weights,
        grid,
        voxel_size_mm,
        regularisation=options.regularisation,
        tolerance_percent=options.tolerance,
        max_iterations=options.max_iterations,
        progress=progress,
    )
    chi = frame.restore(to_numpy(x))
    chi[~inside] = 0
    seconds = time.perf_counter() - begin
    return Inversion(
        chi, inside, Convergence(len(history), converged, tuple(history), "change of chi in percent", seconds)
    )


def gradient_step(voxel_size_mm: tuple[float, float, float]) -> float:
    """Threshold of the gradient split in ppm/mm."""
    return STEP / math.prod(voxel_size_mm) ** (1 / 3)


def linear_total_variation(
    field: Any,
    weights: Any | None,
    grid: Spectra,
    voxel_size_mm: tuple[float, float, float],
    *,
    regularisation: float,
    tolerance_percent: float,
    max_iterations: int,
    progress: Callable[[int, int], None] | None = None,
    start: Any = None,
    floor: float = 0.0,
) -> tuple[Any, list[float], bool]:
    """Minimise 1/2 |w (D x - f)|^2 + lambda |grad x|_1 on a padded grid.

    Parameters
    ----------
    field : (n0, n1, n2) f in ppm, 0 outside the mask.
    weights : (n0, n1, n2) w, not squared, 0 outside the mask; None: 1 everywhere, outside the mask too, which makes the
        data term diagonal in the spectrum and an iteration half as long.
    grid : spectra of the grid.
    voxel_size_mm : edge lengths in mm.
    regularisation : lambda.
    tolerance_percent, max_iterations, progress : as in `admm.minimise_total_variation`.
    start, floor : likewise, but the image alone, in ppm; only with weights.

    Returns
    -------
    x in ppm, the change in percent after each iteration, and whether it fell below the tolerance.
    """
    step = gradient_step(voxel_size_mm)
    thresholds = threshold_rows(step, None, tuple(field.shape), field)
    ending = {"tolerance_percent": tolerance_percent, "max_iterations": max_iterations, "progress": progress}
    mu_gradient = regularisation / step
    if weights is None:
        known, trusted = grid.dipole * rfftn(field), grid.dipole**2
        (x, _), history, converged = minimise_over_spectrum(
            known, trusted, thresholds, grid, voxel_size_mm, mu_gradient=mu_gradient, **ending
        )
        return x, history, converged
    problem = PhaseProblem(field, weights * weights, thresholds, None, grid, voxel_size_mm)
    penalties = Penalties(mu_gradient=mu_gradient, mu_data=MU_DATA, nonlinear=False)
    start = None if start is None else (start, zero_split(field))
    return minimise_total_variation(problem, penalties, **ending, start=start, floor=floor)
