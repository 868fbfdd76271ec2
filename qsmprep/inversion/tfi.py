"""Total field inversion (TFI): sources inside and outside the brain fitted to the total field at once, no erosion."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.edges import edge_mask
from qsmprep.inversion.holes import handles_holes, residual_threshold_option, two_pass_option
from qsmprep.inversion.inputs import checked_field, checked_image, radians_per_ppm, reliable
from qsmprep.inversion.medi_core import MU_DATA, MU_GRADIENT, Merit, data_weights, noise_map
from qsmprep.numerics.admm import Penalties, PhaseProblem, minimise_total_variation
from qsmprep.numerics.convergence import Convergence
from qsmprep.numerics.dipole import KINDS
from qsmprep.numerics.fourier import irfftn, rfftn, to_device, to_numpy
from qsmprep.numerics.krylov import conjugate_gradient
from qsmprep.numerics.operators import gradient
from qsmprep.numerics.progress import continued
from qsmprep.numerics.proximal import threshold_rows
from qsmprep.numerics.shim import harmonic_shim
from qsmprep.numerics.spectral import spectra
from qsmprep.numerics.volume import frame_around
from qsmprep.options import check_options, option

# Near a bleed or a calcification the phase of one echo spacing exceeds pi; started at zero there, the non-linear term
# settles for a wrong turn and never comes to rest. The field is unwrapped, so a linear term leads to the right one.
LINEAR_ITERATIONS = 25


@dataclass(frozen=True)
class TfiOptions:
    """Options of total field inversion.

    The kernel is the discrete one, because the fields of its sources obey the sampled Laplace equation one voxel away:
    with others, sources outside explain a part of the tissue. The tolerance is stricter than MEDI's, because tissue and
    sources on either side of the mask's rim are told apart last.
    """

    data_weight: float = option(2000.0, "weight lambda of the data term against total variation", low=1e-6)
    edge_percentage: float = option(
        0.9, "edge components of the magnitude's gradient, as a fraction of the mask voxels", low=0, high=3
    )
    preconditioner: float = option(
        30.0, "susceptibility expected outside the mask, relative to inside, in the start", low=1, high=1e4
    )
    start_iterations: int = option(60, "cap on conjugate gradient iterations of the start", low=0, high=10000)
    start_tolerance: float = option(1e-3, "relative residual at which the start is good enough", low=0, high=1)
    merit: bool = option(True, "lower the weight of voxels that the model does not fit")
    residual_threshold: float = residual_threshold_option()
    two_pass: bool = two_pass_option()
    max_iterations: int = option(300, "cap on iterations after the start", low=1, high=100000)
    tolerance: float = option(0.2, "change of chi at which to stop", unit="%", low=0, high=100)
    kernel: str = option("discrete", "form of the dipole kernel", choices=KINDS)
    padding_mm: float = option(20.0, "room for sources around the mask's box", unit="mm", low=1, high=500)


@handles_holes
def tfi(
    total_field_ppm: np.ndarray,
    total_mask: np.ndarray,
    *,
    voxel_size_mm: tuple[float, float, float],
    b0_direction: tuple[float, float, float],
    centre_frequency_mhz: float,
    echo_times_s: np.ndarray,
    weights: np.ndarray | None = None,
    noise_hz: np.ndarray | None = None,
    magnitude: np.ndarray | None = None,
    relative_residual: np.ndarray | None = None,
    options: TfiOptions = TfiOptions(),
    progress: Callable[[int, int], None] | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility from the total field, without a background field removal that would take tissue away at the rim.

    min over x on the padded box of lambda |w (exp(i D x) - exp(i f))|^2 + |M_G grad x|_1, with f the phase in rad
    that the total field gathers over one echo spacing, w = 0 outside the mask, and M_G = 0 at edges of the magnitude
    and at every gradient component that leaves the mask: sources outside are free. What shim coils and distant sources
    make, harmonic polynomials of degree <= 2, is fitted and taken off first.

    Sources outside are a hundred times stronger than those in tissue. As published, x = P y with P = 1 inside and
    `preconditioner` outside makes a least-squares fit by conjugate gradients find them first. Its exterior part, whose
    field is taken off, is where the iteration starts; this corrects that part along with the tissue. It is MEDI's, by
    alternating directions on the l1 norm as it is, instead of Gauss-Newton steps on a smoothed one. Its first
    iterations have the linear data term.

    Parameters
    ----------
    total_field_ppm : (n0, n1, n2) unwrapped total field in ppm.
    total_mask : (n0, n1, n2) where it is valid; chi is found in all of it.
    voxel_size_mm : edge lengths in mm; gradients are per mm.
    b0_direction : direction of B0 in voxel axes.
    centre_frequency_mhz : of the scanner.
    echo_times_s : (n_echo,) ascending.
    weights : (n0, n1, n2) data weights w >= 0, scaled here to a mean of 1 in the mask.
    noise_hz : (n0, n1, n2) noise of the field, any scale; gives w = 1 / noise and takes precedence over `weights`.
    magnitude : (n0, n1, n2) for the edges; also for w where neither weights nor noise are given. None: no edges.
    relative_residual : (n0, n1, n2) of the echo combination; excludes voxels from the weights, not from the mask.
    options : parameters.
    progress : called as progress(iteration, cap), the start's iterations first.
    device : "cpu", or a torch device.

    Returns
    -------
    Inversion with chi in ppm on the whole mask, 0 outside; known up to a constant, so reference it afterwards. Its
    convergence counts the start's iterations too; the history is that of the iteration after it.

    Raises
    ------
    ValueError for an empty mask, no data weight above 0, or inputs of wrong unit, shape or sign.

    References
    ----------
    Liu 2017 (TFI); Liu 2013 (non-linear data term, MERIT).
    """
    check_options(options)
    begin = time.perf_counter()
    field, inside, measured = checked_field(total_field_ppm, total_mask)
    magnitude = checked_image(magnitude, inside, "The magnitude")
    noise = noise_map(inside, weights, noise_hz, magnitude)
    noise[~(measured & reliable(inside, relative_residual, options.residual_threshold))] = 0
    scale = np.float32(radians_per_ppm(centre_frequency_mhz, echo_times_s))
    frame = frame_around(inside, padding=tuple(int(np.ceil(options.padding_mm / h)) for h in voxel_size_mm))
    shape = frame.padded_shape
    field, kept, noise = frame.crop(field), frame.crop(inside), frame.crop(noise)
    weight = data_weights(noise, kept)
    field = np.where(weight > 0, field - harmonic_shim(field, weight, voxel_size_mm), 0).astype(np.float32) * scale
    penalised = interior_gradients(kept)
    if magnitude is not None:
        penalised &= edge_mask(frame.crop(magnitude), kept, voxel_size_mm, options.edge_percentage)
    grid = spectra(shape, voxel_size_mm, b0_direction, kernel=options.kernel, device=device)
    kept, phase, weight, noise = (to_device(image, device) for image in (kept, field, weight, noise))
    source = TotalField(grid.dipole, weight, kept, options.preconditioner)
    background, start_iterations = exterior_field(source, phase, options, progress)
    phase -= background
    alpha = 0.5 / options.data_weight  # the cost divided by 2 lambda
    penalties = Penalties(mu_gradient=MU_GRADIENT * alpha, mu_data=MU_DATA)
    problem = PhaseProblem(
        phase=phase,
        weights=weight * weight,
        thresholds=threshold_rows(alpha / penalties.mu_gradient, penalised, shape, phase),
        inside=kept,
        grid=grid,
        voxel_size_mm=voxel_size_mm,
    )
    merit = Merit(noise, kept, phase) if options.merit else None
    counted = continued(progress, start_iterations, options.start_iterations + options.max_iterations)
    x, history, converged = _minimise(problem, penalties, merit, options, counted)
    chi = frame.restore(to_numpy(x)) / scale
    chi[~inside] = 0
    iterations, seconds = start_iterations + len(history), time.perf_counter() - begin
    return Inversion(
        chi, inside, Convergence(iterations, converged, tuple(history), "change of chi in percent", seconds)
    )


def _minimise(problem, penalties, merit, options, progress) -> tuple[Any, list[float], bool]:
    """The iteration with the linear data term for a while, then with the non-linear one from there."""
    stopping = {"tolerance_percent": options.tolerance, "progress": progress}
    cap = min(LINEAR_ITERATIONS, options.max_iterations)
    linear = replace(penalties, nonlinear=False)
    x, history, converged = minimise_total_variation(problem, linear, max_iterations=cap, **stopping)
    left = options.max_iterations - len(history)
    if left == 0:
        return x, history, converged
    stopping["progress"] = continued(progress, len(history), 0)
    x, later, converged = minimise_total_variation(
        problem,
        penalties,
        max_iterations=left,
        reweight=merit,
        start=(x, gradient(x, problem.voxel_size_mm)),
        **stopping,
    )
    return x, history + later, converged


def interior_gradients(mask: np.ndarray) -> np.ndarray:
    """(3, n0, n1, n2) bool: forward differences between two voxels of the mask."""
    return np.stack([mask & np.roll(mask, -1, axis) for axis in range(mask.ndim)])


class TotalField:
    """The linear map from y to the weighted field W D P y, with P = 1 in the mask and `outside` beyond it.

    Parameters
    ----------
    dipole : half spectrum of D.
    weight : (n0, n1, n2) W, 0 where there are no data.
    mask : (n0, n1, n2) bool.
    outside : P outside the mask.
    """

    def __init__(self, dipole: Any, weight: Any, mask: Any, outside: float):
        self.dipole, self.weight, self.mask = dipole, weight, mask
        self.preconditioner = weight * 0 + outside
        self.preconditioner[mask] = 1

    def field(self, x: Any) -> Any:
        """D x."""
        spectrum = rfftn(x)
        spectrum *= self.dipole
        return irfftn(spectrum, tuple(x.shape))

    def forward(self, y: Any) -> Any:
        """W D P y."""
        field = self.field(y * self.preconditioner)
        field *= self.weight
        return field

    def adjoint(self, field: Any) -> Any:
        """P D W f, the adjoint of `forward`."""
        y = self.field(field * self.weight)
        y *= self.preconditioner
        return y


def exterior_field(
    source: TotalField, phase: Any, options: TfiOptions, progress: Callable[[int, int], None] | None
) -> tuple[Any, int]:
    """Field in the mask of those sources outside it that a preconditioned fit finds, and the iterations it took."""
    total = options.start_iterations + options.max_iterations
    y, iterations, _, _ = conjugate_gradient(
        lambda y: source.adjoint(source.forward(y)),
        source.adjoint(phase * source.weight),
        tolerance=options.start_tolerance,
        max_iterations=options.start_iterations,
        progress=continued(progress, 0, total),
    )
    y *= source.preconditioner
    y *= ~source.mask
    background = source.field(y)
    background *= source.weight > 0
    return background, iterations
