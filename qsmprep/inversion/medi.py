"""MEDI-L1: morphology enabled dipole inversion, with spherical mean filter (SMV) and model error reduction (MERIT)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.holes import handles_holes, residual_threshold_option, two_pass_option
from qsmprep.inversion.medi_core import prepare
from qsmprep.numerics.admm import minimise_total_variation
from qsmprep.numerics.dipole import KINDS
from qsmprep.options import check_options, option


@dataclass(frozen=True)
class MediOptions:
    """Options of MEDI; the defaults are the consensus settings."""

    data_weight: float = option(2000.0, "weight lambda of the data term against total variation", low=1e-6)
    edge_percentage: float = option(
        0.9, "edge components of the magnitude's gradient, as a fraction of the mask voxels", low=0, high=3
    )
    smv_radius: float = option(5.0, "radius of the spherical mean filter; 0: none", unit="voxels", low=0, high=50)
    merit: bool = option(True, "lower the weight of voxels that the model does not fit, after each outer iteration")
    residual_threshold: float = residual_threshold_option()
    two_pass: bool = two_pass_option()
    max_iterations: int = option(300, "cap on iterations", low=1, high=100000)
    tolerance: float = option(0.5, "change of chi at which to stop", unit="%", low=0, high=100)
    kernel: str = option("continuous", "form of the dipole kernel", choices=KINDS)
    padding: int = option(16, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


@handles_holes
def medi(
    field_ppm: np.ndarray,
    mask: np.ndarray,
    *,
    voxel_size_mm: tuple[float, float, float],
    b0_direction: tuple[float, float, float],
    centre_frequency_mhz: float,
    echo_times_s: np.ndarray,
    weights: np.ndarray | None = None,
    noise_hz: np.ndarray | None = None,
    magnitude: np.ndarray | None = None,
    relative_residual: np.ndarray | None = None,
    options: MediOptions = MediOptions(),
    progress: Callable[[int, int], None] | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility with gradients allowed where the magnitude has edges, and a non-linear data term.

    min over x of lambda |m (exp(i D x) - exp(i f))|^2 + |w grad x|_1, with f the phase in rad that the field gathers
    over one echo spacing (over the echo time, when there is one echo), and chi = x in ppm. The published Gauss-Newton
    iteration smooths the l1 norm and solves each step by conjugate gradients; alternating directions minimise the same
    cost, the norm as it is, and reach the same value in a quarter of the Fourier transforms.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    voxel_size_mm : edge lengths in mm; gradients are per mm.
    b0_direction : direction of B0 in voxel axes.
    centre_frequency_mhz : of the scanner.
    echo_times_s : (n_echo,) ascending.
    weights : (n0, n1, n2) data weights m >= 0, scaled here to a mean of 1 in the mask.
    noise_hz : (n0, n1, n2) noise of the field, any scale; gives m = 1 / noise and takes precedence over `weights`.
    magnitude : (n0, n1, n2) for the edges; also for m where neither weights nor noise are given. None: no edges.
    relative_residual : (n0, n1, n2) of the echo combination; excludes voxels from the weights, not from the mask.
    options : parameters.
    progress : called as progress(iteration, max_iterations).
    device : "cpu", or a torch device.

    Returns
    -------
    Inversion with chi in ppm, 0 outside its mask, which SMV has eroded; its zero frequency is 0, so reference it
    afterwards.

    Raises
    ------
    ValueError if SMV leaves no voxel of the mask, or for inputs of wrong unit, shape or sign.

    References
    ----------
    Liu 2012; Liu 2013 (non-linear data term, MERIT); Li 2011 (SMV).
    """
    check_options(options)
    begin = time.perf_counter()
    prepared = prepare(
        field_ppm,
        mask,
        voxel_size_mm=voxel_size_mm,
        b0_direction=b0_direction,
        centre_frequency_mhz=centre_frequency_mhz,
        echo_times_s=echo_times_s,
        weights=weights,
        noise_hz=noise_hz,
        magnitude=magnitude,
        relative_residual=relative_residual,
        options=options,
        device=device,
    )
    x, history, converged = minimise_total_variation(
        prepared.problem,
        prepared.penalties,
        tolerance_percent=options.tolerance,
        max_iterations=options.max_iterations,
        reweight=prepared.merit,
        progress=progress,
    )
    return prepared.inversion(x, history, converged, begin)
