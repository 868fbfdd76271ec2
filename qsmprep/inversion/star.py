"""STAR-like inversion: total variation twice, for the strong sources first and for what their field leaves."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.holes import handles_holes, residual_threshold_option, two_pass_option
from qsmprep.inversion.inputs import checked_field, checked_image, reliable, unit_weights
from qsmprep.inversion.tv import linear_total_variation
from qsmprep.numerics.convergence import Convergence
from qsmprep.numerics.dipole import KINDS
from qsmprep.numerics.fourier import irfftn, rfftn, to_device, to_numpy
from qsmprep.numerics.krylov import norm
from qsmprep.numerics.progress import continued
from qsmprep.numerics.spectral import spectra
from qsmprep.numerics.volume import frame_around
from qsmprep.options import check_options, option


@dataclass(frozen=True)
class StarOptions:
    """Options of the STAR-like inversion."""

    strong_regularisation: float = option(
        1e-2, "weight of total variation for the strong sources, for data weights up to 1", unit="ppm mm",
        low=1e-9, high=10,
    )  # fmt: skip
    regularisation: float = option(
        2e-4, "weight of total variation for all others, for data weights up to 1", unit="ppm mm", low=1e-9, high=10
    )
    strong_susceptibility: float = option(
        0.15, "smallest |chi| of the first map that counts as a strong source", unit="ppm", low=0, high=10
    )
    max_iterations: int = option(250, "cap on the iterations of each of the two steps", low=1, high=100000)
    tolerance: float = option(0.1, "change of chi at which to stop", unit="%", low=0, high=100)
    residual_threshold: float = residual_threshold_option()
    two_pass: bool = two_pass_option()
    kernel: str = option("integrated", "form of the dipole kernel", choices=KINDS)
    padding: int = option(16, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


@handles_holes
def star(
    field_ppm: np.ndarray,
    mask: np.ndarray,
    *,
    voxel_size_mm: tuple[float, float, float],
    b0_direction: tuple[float, float, float],
    weights: np.ndarray | None = None,
    relative_residual: np.ndarray | None = None,
    options: StarOptions = StarOptions(),
    progress: Callable[[int, int], None] | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility of strong sources by strong total variation, and of the rest by weak total variation.

    1. chi_1 = argmin 1/2 |w (D chi - f)|^2 + lambda_1 |grad chi|_1 with a large lambda_1; chi_s = chi_1 where its
       magnitude reaches the threshold, 0 elsewhere and outside the mask.
    2. chi_2 = argmin 1/2 |w (D chi - (f - D chi_s))|^2 + lambda_2 |grad chi|_1 with a small lambda_2.
    3. chi = chi_s + chi_2.

    The reference implementation of STAR-QSM is not public; this follows its published description. Without a strong
    source the map is that of `tv`.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    voxel_size_mm : edge lengths in mm; gradients are per mm.
    b0_direction : direction of B0 in voxel axes.
    weights : (n0, n1, n2) data weights w >= 0, scaled here so that the 99.9th percentile in the mask is 1, and clipped
        there; None: the mask.
    relative_residual : (n0, n1, n2) of the echo combination; excludes voxels from the weights, not from the mask.
    options : parameters. The default lambda_1 removes a ball of 4 mm radius and 0.1 ppm, leaves a quarter of 0.15 ppm
        and 60 % of 0.3 ppm. lambda_2 and the kernel are those of `tv`.
    progress : called as progress(iteration, twice max_iterations).
    device : "cpu", or a torch device.

    Returns
    -------
    Inversion with chi in ppm, 0 outside the mask; reference it afterwards. Its convergence counts the iterations of
    both steps.

    References
    ----------
    Wei 2015 (STAR-QSM).
    """
    check_options(options)
    begin = time.perf_counter()
    field, inside, measured = checked_field(field_ppm, mask)
    measured &= reliable(inside, relative_residual, options.residual_threshold)
    weights = unit_weights(checked_image(weights, inside, "The weight image"), inside) * measured
    frame = frame_around(inside, padding=options.padding)
    shape = frame.padded_shape
    grid = spectra(shape, voxel_size_mm, b0_direction, kernel=options.kernel, device=device)
    field, weights = to_device(frame.crop(field), device), to_device(frame.crop(weights), device)
    total = 2 * options.max_iterations
    ending = {"tolerance_percent": options.tolerance, "max_iterations": options.max_iterations}

    # without a strong source the first map is 0, of which no change is a small part: take it relative to the field
    x, history, converged = linear_total_variation(
        field, weights, grid, voxel_size_mm, regularisation=options.strong_regularisation,
        progress=continued(progress, 0, total), floor=norm(field), **ending,
    )  # fmt: skip
    strong = x * (abs(x) >= options.strong_susceptibility) * to_device(frame.crop(inside.astype(np.float32)), device)
    rest, later, settled = linear_total_variation(
        field - irfftn(rfftn(strong) * grid.dipole, shape), weights, grid, voxel_size_mm,
        regularisation=options.regularisation, progress=continued(progress, len(history), total), **ending,
    )  # fmt: skip
    chi = frame.restore(to_numpy(strong + rest))
    chi[~inside] = 0
    history = (*history, *later)
    seconds = time.perf_counter() - begin
    return Inversion(
        chi,
        inside,
        Convergence(len(history), converged and settled, history, "change of chi in percent (two steps)", seconds),
    )
