"""Total variation with a linear data term, in ppm: what TV, STAR, HD-QSM and RTS share."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from qsmprep.inversion.harmonic import HarmonicOptions, with_harmonic
from qsmprep.inversion.inputs import Measurement, checked_image, unit_weights
from qsmprep.inversion.solving import GridOptions, Workspace
from qsmprep.numerics.admm import Penalties, PhaseProblem, minimise_over_spectrum, minimise_total_variation
from qsmprep.numerics.arrays import Array
from qsmprep.numerics.fourier import rfftn
from qsmprep.numerics.progress import Progress
from qsmprep.numerics.proximal import threshold_rows, zero_split
from qsmprep.numerics.spectral import Spectra, spectra
from qsmprep.numerics.volume import frame_around

STEP = 1e-3  # ppm from voxel to voxel, threshold of the gradient split: sets the pace, not the result
MU_DATA = 0.1  # penalty parameter of the data split, likewise


@dataclass(frozen=True)
class LinearInput:
    """A field in ppm with weights, padded, where the solver runs.

    Attributes
    ----------
    work : the padded grid.
    field : (n0, n1, n2) in ppm, 0 outside the mask.
    weights : (n0, n1, n2) data weights in [0, 1], not squared; 0 outside the mask and where the field is unreliable.
        None: 1 everywhere, outside the mask too.
    grid : spectra of the padded grid.
    voxel_size_mm : edge lengths in mm.
    """

    work: Workspace
    field: Array
    weights: Array | None
    grid: Spectra
    voxel_size_mm: tuple[float, float, float]


def linear_input(measured: Measurement, options: GridOptions, device: str, *, weighted: bool = True) -> LinearInput:
    """Check, scale and crop what the linear methods take; `tv` explains it.

    Parameters
    ----------
    measured : field, mask and scan; weights, or None for the mask.
    options : of the method.
    device : "cpu", or a torch device.
    weighted : whether there are data weights at all.
    """
    begin = time.perf_counter()
    field, inside, usable = measured.checked(options.residual_threshold)
    scan, frame = measured.scan, frame_around(inside, padding=options.padding)
    work, weights = Workspace(frame, inside, device, begin), None
    if weighted:
        weights = unit_weights(checked_image(measured.weights, inside, "The weight image"), inside) * usable
        weights = work.there(weights)
    shape = frame.padded_shape
    grid = spectra(shape, scan.voxel_size_mm, scan.b0_direction, kernel=options.kernel, device=device)
    return LinearInput(work, work.there(field), weights, grid, scan.voxel_size_mm)


def gradient_step(voxel_size_mm: tuple[float, float, float]) -> float:
    """Threshold of the gradient split in ppm/mm."""
    return STEP / math.prod(voxel_size_mm) ** (1 / 3)


def linear_total_variation(
    given: LinearInput,
    *,
    regularisation: float,
    tolerance_percent: float,
    max_iterations: int,
    progress: Progress | None = None,
    start: Array | None = None,
    floor: float = 0.0,
    harmonic: HarmonicOptions | None = None,
) -> tuple[Array, list[float], bool]:
    """Minimise 1/2 |w (D x - f)|^2 + lambda |grad x|_1 on a padded grid, or the same with a weak harmonic field.

    Parameters
    ----------
    given : field f, weights w and grid. Without weights the data term is diagonal in the spectrum, and an iteration
        half as long.
    regularisation : lambda.
    tolerance_percent, max_iterations, progress : as in `admm.minimise_total_variation`.
    start, floor : likewise, but the image alone, in ppm; only with weights.
    harmonic : options of the harmonic field, see `harmonic.with_harmonic`; None: no such field. Only with weights.

    Returns
    -------
    x in ppm, the change in percent after each iteration, and whether it fell below the tolerance.
    """
    field, grid, step = given.field, given.grid, gradient_step(given.voxel_size_mm)
    if given.weights is None:
        (x, _), history, converged = minimise_over_spectrum(
            grid.dipole * rfftn(field),
            grid.dipole**2,
            threshold_rows(step, None, tuple(field.shape), field),
            grid,
            given.voxel_size_mm,
            mu_gradient=regularisation / step,
            tolerance_percent=tolerance_percent,
            max_iterations=max_iterations,
            progress=progress,
        )
        return x, history, converged
    problem, penalties = linear_problem(given, given.weights, regularisation, harmonic)
    return minimise_total_variation(
        problem,
        penalties,
        tolerance_percent=tolerance_percent,
        max_iterations=max_iterations,
        progress=progress,
        start=None if start is None else (start, zero_split(field)),
        floor=floor,
    )


def linear_problem(
    given: LinearInput, weights: Array, regularisation: float, harmonic: HarmonicOptions | None
) -> tuple[PhaseProblem, Penalties]:
    """1/2 |w (D x + p - f)|^2 + lambda |grad x|_1 + beta/2 |M laplacian p|^2 and how to split it; w are not squared."""
    step = gradient_step(given.voxel_size_mm)
    thresholds = threshold_rows(step, None, tuple(given.field.shape), given.field)
    penalties = Penalties(mu_gradient=regularisation / step, mu_data=MU_DATA, nonlinear=False)
    penalties = penalties if harmonic is None else with_harmonic(penalties, harmonic)
    inside = None if penalties.beta is None else given.work.support()
    return PhaseProblem(given.field, weights * weights, thresholds, inside, given.grid, given.voxel_size_mm), penalties
