"""Total field inversion (TFI): sources inside and outside the brain fitted to the total field at once, no erosion."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.edges import edge_mask
from qsmprep.inversion.holes import residual_threshold_option, two_pass_option
from qsmprep.inversion.inputs import Measurement, radians_per_ppm
from qsmprep.inversion.medi_core import (
    Merit,
    adapt_to_noise_option,
    data_weight_fact,
    data_weights,
    edge_problem,
    suited_data_weight,
    weighed_field,
)
from qsmprep.inversion.solving import Solved, Solver, Workspace, solve_in_passes
from qsmprep.numerics.admm import Penalties, PhaseProblem, minimise_total_variation
from qsmprep.numerics.arrays import Array, Mask, RealArray
from qsmprep.numerics.dipole import KERNELS
from qsmprep.numerics.fourier import irfftn, rfftn, to_device
from qsmprep.numerics.krylov import conjugate_gradient
from qsmprep.numerics.operators import gradient
from qsmprep.numerics.progress import Progress, continued
from qsmprep.numerics.shim import harmonic_shim
from qsmprep.numerics.spectral import spectra
from qsmprep.numerics.volume import frame_around
from qsmprep.options import check_options, option
from qsmprep.scan import Scan

# Near a bleed or a calcification the phase of one echo spacing exceeds pi; started at zero there, the non-linear term
# settles for a wrong turn and never comes to rest. The field is unwrapped, so a linear term leads to the right one.
LINEAR_ITERATIONS = 25


@dataclass(frozen=True)
class TfiOptions:
    """Options of total field inversion.

    The kernel is the discrete one, because the fields of its sources obey the sampled Laplace equation one voxel away:
    with others, sources outside explain a part of the tissue. The tolerance is stricter than MEDI's, because tissue and
    sources on either side of the mask's rim are separated last.
    """

    data_weight: float = option(
        2000.0,
        "weight lambda of the data term against total variation, for phase in rad over one echo spacing",
        low=1e-6,
    )
    adapt_to_noise: bool = adapt_to_noise_option()
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
    kernel: str = option("discrete", "form of the dipole kernel", choices=KERNELS)
    padding_mm: float = option(20.0, "room for sources around the mask's box", unit="mm", low=1, high=500)


# More than 8 parameters: each image that may be there or not is named.
def tfi(
    total_field_ppm: RealArray,
    total_mask: Mask,
    *,
    scan: Scan,
    weights: RealArray | None = None,
    noise_hz: RealArray | None = None,
    magnitude_rss: RealArray | None = None,
    relative_residual: RealArray | None = None,
    options: TfiOptions = TfiOptions(),
    progress: Progress | None = None,
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
    iterations have the linear data term. `adapt_to_noise` lowers lambda as in MEDI.

    Parameters
    ----------
    total_field_ppm : (n0, n1, n2) unwrapped total field in ppm.
    total_mask : (n0, n1, n2) where it is valid; chi is found in all of it.
    scan : geometry, echo times and centre frequency; gradients are per mm.
    weights : (n0, n1, n2) data weights w >= 0, scaled here to a mean of 1 in the mask.
    noise_hz : (n0, n1, n2) noise of the field, any scale; gives w = 1 / noise and takes precedence over `weights`.
    magnitude_rss : (n0, n1, n2) for the edges; also for w where neither weights nor noise are given. None: no edges.
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

    Examples
    --------
    A ball of 0.1 ppm and 4 mm radius, from its field by the formula of the sphere, and a shim's:

    >>> import numpy as np
    >>> from qsmprep.scan import Scan
    >>> x, y, z = np.indices((20, 20, 20)) - 9.5
    >>> r = np.sqrt(x**2 + y**2 + z**2)
    >>> field_ppm = np.where(r > 4, 0.1 / 3 * (4 / r) ** 3 * (3 * (z / r) ** 2 - 1), 0)
    >>> scan = Scan((1, 1, 1), echo_times_s=(0.01, 0.02), centre_frequency_mhz=123.2)
    >>> chi = tfi(field_ppm + 0.01 * z, r < 9, scan=scan).chi_ppm
    >>> round(float(chi[r < 3].mean() - chi[(r > 6) & (r < 9)].mean()), 2)
    0.09
    """
    check_options(options)
    measured = Measurement(total_field_ppm, total_mask, scan, weights, magnitude_rss, noise_hz, relative_residual)
    return solve_in_passes(partial(_pose, options=options, device=device), measured, options, progress)


def _pose(measured: Measurement, options: TfiOptions, device: str) -> tuple[Workspace, Solver]:
    """The problem in the phase of the total field, from which the solver takes the field of sources outside first."""
    begin, scan = time.perf_counter(), measured.scan
    inside, field, noise, magnitude_rss = weighed_field(measured, options.residual_threshold)
    h, scale = scan.voxel_size_mm, np.float32(radians_per_ppm(scan))
    frame = frame_around(inside, padding=tuple(int(np.ceil(options.padding_mm / size)) for size in h))
    data_weight = suited_data_weight(field, noise > 0, float(scale), options)
    work = Workspace(frame, inside, device, begin, float(scale), (data_weight_fact(data_weight),))
    field, kept, noise = frame.crop(field), frame.crop(inside), frame.crop(noise)
    weight = data_weights(noise, kept)
    phase = np.where(weight > 0, field - harmonic_shim(field, weight, h), 0).astype(np.float32) * scale
    penalised = interior_gradients(kept)
    if magnitude_rss is not None:
        penalised &= edge_mask(frame.crop(magnitude_rss), kept, h, options.edge_percentage)
    grid = spectra(frame.padded_shape, h, scan.b0_direction, kernel=options.kernel, device=device)
    kept, phase, weight, noise = (to_device(image, device) for image in (kept, phase, weight, noise))
    problem, penalties = edge_problem(phase, weight, kept, penalised, grid, h, data_weight=data_weight)
    source = TotalField(grid.dipole, weight, kept, options.preconditioner)
    merit = Merit(noise, kept, phase) if options.merit else None
    return work, partial(_solve, source, problem, penalties, merit, options)


def _solve(
    source: TotalField,
    problem: PhaseProblem,
    penalties: Penalties,
    merit: Merit | None,
    options: TfiOptions,
    *,
    progress: Progress | None,
) -> Solved:
    """Sources outside the mask first; then all, with the linear data term for a while, and the non-linear one."""
    background, start_iterations = exterior_field(source, problem.phase, options, progress)
    phase = problem.phase
    phase -= background  # in place: the problem and its reweighting see it
    del source, background
    counted = continued(progress, start_iterations, options.start_iterations + options.max_iterations)
    minimise = partial(minimise_total_variation, problem, tolerance_percent=options.tolerance)
    x, history, converged = minimise(
        replace(penalties, nonlinear=False),
        max_iterations=min(LINEAR_ITERATIONS, options.max_iterations),
        progress=counted,
    )
    left = options.max_iterations - len(history)
    if left > 0:
        x, later, converged = minimise(
            penalties,
            max_iterations=left,
            reweight=merit,
            start=(x, gradient(x, problem.voxel_size_mm)),
            progress=continued(counted, len(history), 0),
        )
        history = history + later
    return Solved(x, history, converged, unlisted=start_iterations)


def interior_gradients(mask: Mask) -> Mask:
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

    def __init__(self, dipole: Array, weight: Array, mask: Array, outside: float):
        self.dipole, self.weight, self.mask = dipole, weight, mask
        self.preconditioner = weight * 0 + outside
        self.preconditioner[mask] = 1

    def field(self, x: Array) -> Array:
        """D x."""
        spectrum = rfftn(x)
        spectrum *= self.dipole
        return irfftn(spectrum, tuple(x.shape))

    def forward(self, y: Array) -> Array:
        """W D P y."""
        field = self.field(y * self.preconditioner)
        field *= self.weight
        return field

    def adjoint(self, field: Array) -> Array:
        """P D W f, the adjoint of `forward`."""
        y = self.field(field * self.weight)
        y *= self.preconditioner
        return y


def exterior_field(
    source: TotalField, phase: Array, options: TfiOptions, progress: Progress | None
) -> tuple[Array, int]:
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
