"""FANSI with total generalised variation: slopes of susceptibility are kept, not broken into steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.edges import WEIGHT_KINDS
from qsmprep.inversion.holes import handles_holes, residual_threshold_option, two_pass_option
from qsmprep.inversion.phase_input import phase_input
from qsmprep.numerics.admm import Penalties, PhaseProblem
from qsmprep.numerics.dipole import KINDS
from qsmprep.numerics.fourier import to_device
from qsmprep.numerics.proximal import threshold_rows
from qsmprep.numerics.spectral import spectra
from qsmprep.numerics.tgv_admm import minimise_generalised_variation, second_order
from qsmprep.options import check_options, option


@dataclass(frozen=True)
class FansiTgvOptions:
    """Options of FANSI with total generalised variation."""

    nonlinear: bool = option(True, "complex data term, robust against phase wraps, instead of the linear one")
    alpha1: float = option(5e-4, "weight of the gradient, for phase in rad and data weights up to 1", low=1e-9)
    alpha0: float | None = option(
        None, "weight of the second derivatives", low=1e-9, none="2 alpha1 h, h the voxel size in mm"
    )
    mu1: float = option(0.05, "penalty parameter of the gradient split", low=1e-9)
    mu0: float | None = option(None, "penalty parameter of the second split", low=1e-9, none="2 mu1 h^2")
    mu2: float = option(1.0, "penalty parameter of the data split", low=1e-9)
    max_iterations: int = option(400, "cap on iterations", low=1, high=100000)
    tolerance: float = option(0.1, "change of chi at which to stop", unit="%", low=0, high=100)
    weak_harmonic: bool = option(
        False, "fit the harmonic remnant of the background field along with chi; slopes of chi can imitate it"
    )
    beta: float = option(150.0, "weight of the harmonic field's Laplacian in the mask", low=1e-9)
    mu_h: float = option(3.0, "penalty parameter of the Laplacian split", low=1e-9)
    regularisation_weights: str = option(
        "vector-field", "spatial weights of the first-order term from the magnitude's gradient", choices=WEIGHT_KINDS
    )
    residual_threshold: float = residual_threshold_option()
    two_pass: bool = two_pass_option()
    kernel: str = option("continuous", "form of the dipole kernel", choices=KINDS)
    padding: int = option(16, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


@handles_holes
def fansi_tgv(
    field_ppm: np.ndarray,
    mask: np.ndarray,
    *,
    voxel_size_mm: tuple[float, float, float],
    b0_direction: tuple[float, float, float],
    centre_frequency_mhz: float,
    echo_times_s: np.ndarray,
    weights: np.ndarray | None = None,
    magnitude: np.ndarray | None = None,
    relative_residual: np.ndarray | None = None,
    options: FansiTgvOptions = FansiTgvOptions(),
    progress: Callable[[int, int], None] | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility by total generalised variation with a non-linear data term.

    min over x, v, p of 1/2 |w (exp(i (D x + p)) - exp(i phi))|^2 + alpha1 |r (grad x - v)|_1 + alpha0 |E v|_1
    + beta/2 |M laplacian p|^2, with E the symmetric gradient, phi the phase in rad that the field gathers over one
    echo spacing (over the echo time, when there is one echo), and chi = x in ppm. The harmonic field p is left out by
    default: slopes of chi cost nothing here, so that a slowly varying chi and p can cancel each other.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    voxel_size_mm : edge lengths in mm; gradients are per mm.
    b0_direction : direction of B0 in voxel axes.
    centre_frequency_mhz : of the scanner.
    echo_times_s : (n_echo,) ascending.
    weights : (n0, n1, n2) data weights w >= 0, scaled here so that the 99.9th percentile in the mask is 1, and clipped
        there; None: the magnitude, or the mask where there is none.
    magnitude : (n0, n1, n2) for the weights r; None: r = 1.
    relative_residual : (n0, n1, n2) of the echo combination; excludes voxels from the weights, not from the mask.
    options : parameters.
    progress : called as progress(iteration, max_iterations).
    device : "cpu", or a torch device.

    Returns
    -------
    Inversion with chi in ppm, 0 outside the mask; its zero frequency is 0, so reference it afterwards.

    Raises
    ------
    ValueError for options out of range, shapes that differ, an empty mask, or values in a wrong unit.

    References
    ----------
    Milovic 2018 (FANSI); Milovic 2019 (weak harmonic); Bredies 2010 (total generalised variation).
    """
    check_options(options)
    begin = time.perf_counter()
    given = phase_input(
        field_ppm,
        mask,
        voxel_size_mm=voxel_size_mm,
        centre_frequency_mhz=centre_frequency_mhz,
        echo_times_s=echo_times_s,
        weights=weights,
        magnitude=magnitude,
        relative_residual=relative_residual,
        options=options,
        device=device,
    )
    shape = tuple(given.phase.shape)
    problem = PhaseProblem(
        phase=given.phase,
        weights=given.weights**2,
        thresholds=threshold_rows(options.alpha1 / options.mu1, given.ratios, shape, given.phase),
        inside=to_device(given.frame.crop(given.inside.astype(np.float32)), device),
        grid=spectra(shape, voxel_size_mm, b0_direction, kernel=options.kernel, device=device),
        voxel_size_mm=voxel_size_mm,
    )
    given = replace(given, weights=None, ratios=None)  # frees their memory
    penalties = Penalties(
        mu_gradient=options.mu1,
        mu_data=options.mu2,
        nonlinear=options.nonlinear,
        beta=options.beta if options.weak_harmonic else None,
        mu_harmonic=options.mu_h,
    )
    size = float(np.prod(voxel_size_mm)) ** (1 / 3)  # the published ratios are those of voxels of 1 mm
    alpha0 = 2 * options.alpha1 * size if options.alpha0 is None else options.alpha0
    mu0 = 2 * options.mu1 * size**2 if options.mu0 is None else options.mu0
    x, history, converged = minimise_generalised_variation(
        problem,
        second_order(alpha0, mu0, shape, voxel_size_mm, device),
        penalties,
        tolerance_percent=options.tolerance,
        max_iterations=options.max_iterations,
        progress=progress,
    )
    return given.inversion(x, history, converged, begin)
