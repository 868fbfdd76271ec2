"""FANSI: total variation with a linear or non-linear data term and an optional weak harmonic field, by ADMM."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.edges import WEIGHT_KINDS
from qsmprep.inversion.holes import handles_holes, residual_threshold_option, two_pass_option
from qsmprep.inversion.phase_input import phase_input
from qsmprep.numerics.admm import Penalties, PhaseProblem, minimise_total_variation
from qsmprep.numerics.dipole import KINDS
from qsmprep.numerics.fourier import to_device
from qsmprep.numerics.proximal import threshold_rows
from qsmprep.numerics.spectral import spectra
from qsmprep.options import check_options, option


@dataclass(frozen=True)
class FansiOptions:
    """Options of FANSI; the defaults are the consensus settings."""

    nonlinear: bool = option(True, "complex data term, robust against phase wraps, instead of the linear one")
    alpha1: float = option(5e-4, "weight of total variation, for phase in rad and data weights up to 1", low=1e-9)
    mu1: float = option(0.05, "penalty parameter of the gradient split", low=1e-9)
    mu2: float = option(1.0, "penalty parameter of the data split", low=1e-9)
    max_iterations: int = option(400, "cap on iterations", low=1, high=100000)
    tolerance: float = option(0.1, "change of chi at which to stop", unit="%", low=0, high=100)
    weak_harmonic: bool = option(True, "fit the harmonic remnant of the background field along with chi")
    beta: float = option(150.0, "weight of the harmonic field's Laplacian in the mask", low=1e-9)
    mu_h: float = option(3.0, "penalty parameter of the Laplacian split", low=1e-9)
    regularisation_weights: str = option(
        "vector-field", "spatial weights of total variation from the magnitude's gradient", choices=WEIGHT_KINDS
    )
    residual_threshold: float = residual_threshold_option()
    two_pass: bool = two_pass_option()
    kernel: str = option("continuous", "form of the dipole kernel", choices=KINDS)
    padding: int = option(16, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


@handles_holes
def fansi(
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
    options: FansiOptions = FansiOptions(),
    progress: Callable[[int, int], None] | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility by total variation with a non-linear data term and a weak harmonic field.

    min over x, p of 1/2 |w (exp(i (D x + p)) - exp(i phi))|^2 + alpha1 |r grad x|_1 + beta/2 |M laplacian p|^2, with
    phi the phase in rad that the field gathers over one echo spacing (over the echo time, when there is one echo), and
    chi = x in ppm. The harmonic field p and x are solved for jointly at each frequency, which converges in a third of
    the iterations that alternating takes, to a lower error.

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
    magnitude : (n0, n1, n2) for the weights r of total variation; None: r = 1.
    relative_residual : (n0, n1, n2) of the echo combination; excludes voxels from the weights, not from the mask.
    options : parameters.
    progress : called as progress(iteration, max_iterations).
    device : "cpu", or a torch device.

    Returns
    -------
    Inversion with chi in ppm, 0 outside the mask; its zero frequency is 0, so reference it afterwards.

    References
    ----------
    Milovic 2018 (FANSI); Milovic 2019 (weak harmonic).
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
    x, history, converged = minimise_total_variation(
        problem,
        penalties,
        tolerance_percent=options.tolerance,
        max_iterations=options.max_iterations,
        progress=progress,
    )
    return given.inversion(x, history, converged, begin)
