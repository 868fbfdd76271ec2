"""Rapid two-step inversion (RTS): a few LSMR iterations, then total variation where the dipole kernel is small."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.harmonic import beta_option, mu_h_option, weak_harmonic_option
from qsmprep.inversion.holes import residual_threshold_option, two_pass_option
from qsmprep.inversion.inputs import Measurement, reliable
from qsmprep.inversion.linear import LinearInput, linear_input, linear_problem
from qsmprep.inversion.solving import Solved, Solver, Workspace, solve_in_passes
from qsmprep.numerics.admm import fit_with_harmonic
from qsmprep.numerics.arrays import Array, ComplexImage, FloatImage, Mask, RealArray
from qsmprep.numerics.dipole import KERNELS
from qsmprep.numerics.fourier import irfftn, rfftn, to_device, to_numpy
from qsmprep.numerics.krylov import lsmr
from qsmprep.numerics.progress import Progress
from qsmprep.numerics.proximal import relative_change, shrink_gradient, threshold_rows, zero_split
from qsmprep.numerics.spectral import Spectra, solve_gradient_and_known
from qsmprep.options import check_options, option
from qsmprep.scan import Scan

BINS = 8192  # values of D between which the LSMR filter is interpolated
HARMONIC_REGULARISATION = 2e-4  # ppm mm, as in `tv`
HARMONIC_TOLERANCE = 0.5  # percent
HARMONIC_ITERATIONS = 60


@dataclass(frozen=True)
class RtsOptions:
    """Options of RTS."""

    lsmr_iterations: int = option(24, "number of LSMR iterations of the first step", low=1, high=100)
    delta: float = option(0.15, "smallest |D| for which the first step is trusted", low=1e-3, high=2 / 3)
    mu: float = option(1e5, "weight of the trusted frequencies", low=1e-6)
    rho: float = option(200.0, "penalty parameter of the gradient split; it sets the pace, not the result", low=1e-6)
    max_iterations: int = option(50, "cap on iterations of the second step", low=1, high=10000)
    tolerance: float = option(0.01, "relative change of chi at which to stop", low=0, high=1)
    weak_harmonic: bool = weak_harmonic_option(False)
    beta: float = beta_option()
    mu_h: float = mu_h_option()
    residual_threshold: float = residual_threshold_option()
    two_pass: bool = two_pass_option()
    kernel: str = option("continuous", "form of the dipole kernel", choices=KERNELS)
    padding: int = option(32, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


def rts(
    field_ppm: RealArray,
    mask: Mask,
    *,
    scan: Scan,
    relative_residual: RealArray | None = None,
    options: RtsOptions = RtsOptions(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility by LSMR where the problem is well conditioned and total variation elsewhere.

    Step 1: chi_1 = mask times a few LSMR iterations on D chi = f.
    Step 2: min mu/2 |T F(chi - chi_1)|^2 + |grad chi|_1 with T = 1 where |D| > delta, by ADMM.

    With `weak_harmonic` a field p, harmonic in the mask, is fitted first along with a map of total variation (as by
    `tv`, with an even weight in the mask, at the price of beta/2 |M laplacian p|^2), and taken off. It takes up what
    background field removal left, and with it a part of the tissue's field: off by default, as a field without such a
    remnant comes out worse with it.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    scan : geometry.
    relative_residual : (n0, n1, n2) of the echo combination; its voxels above the threshold leave the mask, as this
        method has no weights, and are 0 in the map of a single pass.
    options : parameters of both steps. The reference implementation stops LSMR after 4 iterations, which leaves a third
        of a deep nucleus's susceptibility out; the default of 24 costs nothing more, see `lsmr_filter`. Its rho of 10
        is still 6 % away from the solution after its 20 iterations; rho does not move the solution, and 200 reaches it
        in about as many.
    progress : called as progress(iteration, max_iterations).
    device : "cpu", or a torch device.

    Returns
    -------
    Inversion with chi in ppm, 0 outside the mask, and the convergence of step 2.

    References
    ----------
    Kames 2018.

    Examples
    --------
    A ball of 0.1 ppm and 4 mm radius, from its field by the formula of the sphere:

    >>> import numpy as np
    >>> from qsmprep.scan import Scan
    >>> x, y, z = np.indices((20, 20, 20)) - 9.5
    >>> r = np.sqrt(x**2 + y**2 + z**2)
    >>> field_ppm = np.where(r > 4, 0.1 / 3 * (4 / r) ** 3 * (3 * (z / r) ** 2 - 1), 0)
    >>> chi = rts(field_ppm, r < 9, scan=Scan((1, 1, 1))).chi_ppm
    >>> round(float(chi[r < 3].mean() - chi[(r > 6) & (r < 9)].mean()), 2)
    0.08
    """
    check_options(options)

    def pose(measured: Measurement) -> tuple[Workspace, Solver]:
        trusted = reliable(np.asarray(mask) > 0, measured.relative_residual, options.residual_threshold)
        given = linear_input(Measurement(field_ppm, trusted, scan), options, device, weighted=False)
        if options.weak_harmonic:
            given = replace(given, field=_without_harmonic(given, options))
        return given.work, partial(_second_step, _first_step(given, options), given.grid, scan.voxel_size_mm, options)

    measured = Measurement(field_ppm, mask, scan, relative_residual=relative_residual)
    return solve_in_passes(pose, measured, options, progress)


def _without_harmonic(given: LinearInput, options: RtsOptions) -> Array:
    """The field without the harmonic remnant that total variation with an evenly weighted data term finds."""
    inside = given.work.support()
    problem, penalties = linear_problem(given, inside, HARMONIC_REGULARISATION, options)
    _, remnant, _ = fit_with_harmonic(
        problem, penalties, tolerance_percent=HARMONIC_TOLERANCE, max_iterations=HARMONIC_ITERATIONS
    )
    return (given.field - remnant) * inside


def _first_step(given: LinearInput, options: RtsOptions) -> Array:
    """The map of a few LSMR iterations, in the mask."""
    shape, device = tuple(given.field.shape), given.work.device
    spectrum = rfftn(given.field)
    response = lsmr_filter(to_numpy(given.grid.dipole), to_numpy(spectrum), shape[2], options.lsmr_iterations)
    first = irfftn(spectrum * to_device(response, device), shape)
    first *= given.work.support()
    return first


def lsmr_filter(dipole: FloatImage, spectrum: ComplexImage, last_size: int, iterations: int) -> FloatImage:
    """What `iterations` of LSMR on D x = f multiply each frequency of f by.

    `dipole` and `spectrum` are half spectra of a grid whose last axis has `last_size` points. D is diagonal, so LSMR
    sees only how the field's energy is spread over the values of D: it runs on that histogram, a problem of a few
    thousand unknowns, and no Fourier transform is needed.
    """
    low, high = float(dipole.min()), float(dipole.max())
    position = (dipole - low) * ((BINS - 1) / max(high - low, 1e-6))
    power = spectrum.real**2 + spectrum.imag**2
    power[..., 1 : (last_size + 1) // 2] *= 2  # frequencies whose conjugates the half spectrum leaves out
    energy = np.bincount(np.rint(position).astype(np.int32).ravel(), weights=power.ravel(), minlength=BINS)
    values = np.linspace(low, high, BINS)
    amplitude = np.sqrt(energy + 1e-12 * energy.mean())  # no bin empty: the filter is wanted for every D
    if not amplitude.any():
        return np.zeros_like(dipole)
    solution = lsmr(lambda x: values * x, lambda y: values * y, amplitude, max_iterations=iterations)
    response: FloatImage = np.interp(dipole, values, solution.x / amplitude).astype(np.float32)
    return response


def _second_step(
    first: Array,
    grid: Spectra,
    voxel_size_mm: tuple[float, float, float],
    options: RtsOptions,
    *,
    progress: Progress | None,
) -> Solved:
    """Total variation at the frequencies that the first step is not trusted for."""
    shape, monitored = tuple(first.shape), "relative change of chi"
    trusted = abs(grid.dipole) > options.delta
    known = rfftn(first) * trusted
    thresholds = threshold_rows(1 / options.rho, None, shape, first)
    split = zero_split(first)
    divergence, chi = first * 0, first * 0
    history: list[float] = []
    for iteration in range(1, options.max_iterations + 1):
        solved = solve_gradient_and_known(rfftn(divergence), known, trusted, grid, options.mu, options.rho)
        before, chi = chi, irfftn(solved, shape)
        divergence, change, size = shrink_gradient(chi, before, split, thresholds, voxel_size_mm)
        history.append(relative_change(change, size))
        if progress is not None:
            progress(iteration, options.max_iterations)
        if history[-1] < options.tolerance:
            return Solved(chi, history, True, monitored)
    return Solved(chi, history, False, monitored)
