"""Chi-separation with MEDI's regularisation: both sources from field and R2', smooth but for edges of the magnitude."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qsmprep.inversion.edges import edge_mask
from qsmprep.inversion.holes import residual_threshold_option
from qsmprep.inversion.inputs import checked_image
from qsmprep.inversion.phase_input import PhaseInput, phase_input
from qsmprep.numerics.convergence import Convergence
from qsmprep.numerics.dipole import KINDS
from qsmprep.numerics.fourier import to_device, to_numpy
from qsmprep.numerics.proximal import threshold_rows
from qsmprep.numerics.spectral import spectra
from qsmprep.options import check_options, option
from qsmprep.separation import Constants, Separation, checked_maps
from qsmprep.separation.closed_form import both_sources
from qsmprep.separation.joint import SourcePenalties, SourceProblem, separate_sources

MU_GRADIENT = 100.0  # penalty parameter of the gradients over the weight of total variation


@dataclass(frozen=True)
class ChisepMediOptions:
    """Options of chi-separation with MEDI's regularisation."""

    regularisation: float = option(
        2e-4, "weight of total variation of either source, for phase in rad and data weights up to 1", low=1e-9
    )
    r2prime_weight: float = option(
        0.1, "weight of R2', in ppm through the relaxometric constants, against the field in ppm", low=1e-4, high=100
    )
    anchor: float = option(
        0.05, "weight of the susceptibility map for what the field does not determine, against data weights up to 1",
        low=1e-5, high=10,
    )  # fmt: skip
    edge_percentage: float = option(
        0.9, "edge components of the magnitude's gradient, as a fraction of the mask voxels", low=0, high=3
    )
    weak_harmonic: bool = option(True, "fit the harmonic remnant of the background field along with the sources")
    beta: float = option(150.0, "weight of the harmonic field's Laplacian in the mask", low=1e-9)
    nonlinear: bool = option(True, "complex data term, robust against phase wraps, instead of the linear one")
    residual_threshold: float = residual_threshold_option()
    max_iterations: int = option(300, "cap on iterations", low=1, high=100000)
    tolerance: float = option(0.1, "change of both maps at which to stop", unit="%", low=0, high=100)
    kernel: str = option("continuous", "form of the dipole kernel", choices=KINDS)
    padding: int = option(16, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


def chisep_medi(
    field_ppm: np.ndarray,
    mask: np.ndarray,
    *,
    chi_ppm: np.ndarray,
    r2prime: np.ndarray,
    constants: Constants,
    voxel_size_mm: tuple[float, float, float],
    b0_direction: tuple[float, float, float],
    centre_frequency_mhz: float,
    echo_times_s: np.ndarray,
    weights: np.ndarray | None = None,
    magnitude: np.ndarray | None = None,
    relative_residual: np.ndarray | None = None,
    options: ChisepMediOptions = ChisepMediOptions(),
    progress: Callable[[int, int], None] | None = None,
    device: str = "cpu",
) -> Separation:
    """Both sources that explain the tissue field and R2' with the least total variation off the magnitude's edges.

    min over p, n >= 0 of 1/2 |w (exp(i D (p - n)) - exp(i f))|^2 + v^2/2 |w (R2'/D_r - p - n)|^2
    + alpha (|m grad p|_1 + |m grad n|_1), with f the phase in rad that the field gathers over one echo spacing, R2'/D_r
    in the same unit, and m 0 at edges of the magnitude. With different constants of the two kinds, (D_para p +
    D_dia n)/D_r stands for p + n, D_r being their mean. Alternating directions solve for both at each frequency.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    chi_ppm : (n0, n1, n2) susceptibility in ppm to start from, 0 outside the mask. What the field cannot tell, the mean
        above all, stays as in it unless the signs of the sources forbid.
    r2prime : (n0, n1, n2) in 1/s.
    constants : D_para and D_dia at the scan's field strength.
    voxel_size_mm : edge lengths in mm; gradients are per mm.
    b0_direction : direction of B0 in voxel axes.
    centre_frequency_mhz : of the scanner.
    echo_times_s : (n_echo,) ascending.
    weights : (n0, n1, n2) data weights w >= 0; None: the magnitude, or the mask where there is none.
    magnitude : (n0, n1, n2) for the edges. None: no edges.
    relative_residual : (n0, n1, n2) of the echo combination; excludes voxels from the weights of the field.
    options : parameters.
    progress : called as progress(iteration, max_iterations).
    device : "cpu", or a torch device.

    Returns
    -------
    Separation in ppm.

    References
    ----------
    Shin 2021; Liu 2012.
    """
    check_options(options)
    begin = time.perf_counter()
    inside, chi, rate = checked_maps(mask, chi_ppm=chi_ppm, r2prime=r2prime)
    given = phase_input(
        field_ppm,
        inside,
        voxel_size_mm=voxel_size_mm,
        centre_frequency_mhz=centre_frequency_mhz,
        echo_times_s=echo_times_s,
        weights=weights,
        magnitude=magnitude,
        relative_residual=relative_residual,
        options=options,
        device=device,
    )
    edges = None
    if magnitude is not None:
        brightness = given.frame.crop(checked_image(magnitude, inside, "The magnitude"))
        edges = edge_mask(brightness, given.frame.crop(inside), voxel_size_mm, options.edge_percentage)
    penalties = SourcePenalties(
        gradient=MU_GRADIENT * options.regularisation,
        nonlinear=options.nonlinear,
        beta=options.beta if options.weak_harmonic else None,
    )
    problem = _problem(given, chi, rate, edges, constants, options, penalties, voxel_size_mm, b0_direction, device)
    start = [_there(given, source, device) for source in both_sources(chi, rate, constants)]
    para, dia, history, converged = separate_sources(
        problem,
        penalties,
        start=tuple(start),
        tolerance_percent=options.tolerance,
        max_iterations=options.max_iterations,
        progress=progress,
    )
    maps = [given.frame.restore(to_numpy(source)) / given.scale for source in (para, dia)]
    for image in maps:
        image[~inside] = 0
    seconds = time.perf_counter() - begin
    convergence = Convergence(len(history), converged, tuple(history), "change of both maps in percent", seconds)
    return Separation(*maps, inside, convergence)


def _problem(
    given, chi, rate, edges, constants, options, penalties, voxel_size_mm, b0_direction, device
) -> SourceProblem:
    shape = tuple(given.phase.shape)
    support = to_device(given.frame.crop(given.inside.astype(np.float32)), device)
    # R2' is as noisy where the signal is weak as the field is, but needs no coherent phase.
    trusted = given.weights.mean() if float(given.weights.mean()) > 0 else 1.0
    sum_weights = support * (options.r2prime_weight * float(trusted / support.mean())) ** 2
    return SourceProblem(
        phase=given.phase,
        weights=given.weights**2,
        sum=_there(given, rate / np.float32(constants.mean), device),
        sum_weights=sum_weights,
        shares=(constants.para / constants.mean, constants.dia / constants.mean),
        thresholds=threshold_rows(options.regularisation / penalties.gradient, edges, shape, given.phase),
        total=_there(given, chi, device),
        anchor=options.anchor,
        inside=support,
        grid=spectra(shape, voxel_size_mm, b0_direction, kernel=options.kernel, device=device),
        voxel_size_mm=voxel_size_mm,
    )


def _there(given: PhaseInput, image: np.ndarray, device: str) -> Any:
    """An image in ppm as rad on the padded grid, where the solver runs."""
    return to_device(given.frame.crop(image * given.scale), device)
