"""HD-QSM: total variation with a hybrid data term, L1 first and then L2 with what L1 rejected weighted down."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

from qsmprep.inversion import Inversion
from qsmprep.inversion.harmonic import beta_option, mu_h_option, weak_harmonic_option, with_harmonic
from qsmprep.inversion.holes import residual_threshold_option, two_pass_option
from qsmprep.inversion.inputs import Measurement
from qsmprep.inversion.linear import LinearInput, gradient_step, linear_input, linear_total_variation
from qsmprep.inversion.solving import Solved, Solver, Workspace, solve_in_passes
from qsmprep.numerics.admm import Penalties, PhaseProblem, fit_with_harmonic
from qsmprep.numerics.arrays import Array, Mask, RealArray
from qsmprep.numerics.dipole import KERNELS
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.numerics.progress import Progress, continued
from qsmprep.numerics.proximal import threshold_rows
from qsmprep.numerics.spectral import Spectra
from qsmprep.options import check_options, option
from qsmprep.scan import Scan

DATA_STEP = 0.2  # ppm, threshold of the L1 stage's data split; wide, so that few iterations reach a strong source
GRADIENT_STEP = 10  # threshold of its gradient split, in that of the L2 stage


@dataclass(frozen=True)
class HdQsmOptions:
    """Options of HD-QSM."""

    alpha: float = option(
        1e-4, "weight of total variation in the L2 stage, in ppm mm; the L1 stage has its root, in mm",
        low=1e-9, high=1,
    )  # fmt: skip
    l1_iterations: int = option(20, "number of iterations of the L1 stage", low=1, high=10000)
    max_iterations: int = option(250, "cap on the iterations of the L2 stage", low=1, high=100000)
    tolerance: float = option(0.1, "change of chi at which to stop the L2 stage", unit="%", low=0, high=100)
    weak_harmonic: bool = weak_harmonic_option(False)
    beta: float = beta_option()
    mu_h: float = mu_h_option()
    residual_threshold: float = residual_threshold_option()
    two_pass: bool = two_pass_option()
    kernel: str = option("integrated", "form of the dipole kernel", choices=KERNELS)
    padding: int = option(16, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


def hdqsm(
    field_ppm: RealArray,
    mask: Mask,
    *,
    scan: Scan,
    weights: RealArray | None = None,
    relative_residual: RealArray | None = None,
    options: HdQsmOptions = HdQsmOptions(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility by total variation with a linear data term, L1 for a start and L2 to end with.

    1. A few iterations on |w (D chi - f)|_1 + sqrt(alpha) |grad chi|_1.
    2. min 1/2 |w v (D chi - f)|^2 + alpha |grad chi|_1 with v = 1 - r / max r, r = |D chi_1 - f| in the mask.

    With `weak_harmonic` a field p, harmonic in the mask, is fitted along: D chi + p in place of D chi, at the price of
    beta/2 |M laplacian p|^2. It takes up what background field removal left, and with it a part of the tissue's field:
    off by default, as a field without such a remnant comes out worse with it. Stage 2 starts from the
    field without the p of stage 1.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    scan : geometry; gradients are per mm.
    weights : (n0, n1, n2) data weights w >= 0, scaled here so that the 99.9th percentile in the mask is 1, and clipped
        there; None: the mask.
    relative_residual : (n0, n1, n2) of the echo combination; excludes voxels from the weights, not from the mask.
    options : parameters. The published alpha of 1.6e-5 doubles the error of simulated noisy heads, and the published
        end at a change of 1 % stops short of the minimum. The kernel is that of `tv`.
    progress : called as progress(iteration, l1_iterations + max_iterations).
    device : "cpu", or a torch device.

    Returns
    -------
    Inversion with chi in ppm, 0 outside the mask; its zero frequency is 0, so reference it afterwards. Its convergence
    counts the iterations of both stages and is that of the second.

    References
    ----------
    Lambert 2022 (HD-QSM).

    Examples
    --------
    A ball of 0.1 ppm and 4 mm radius, from its field by the formula of the sphere:

    >>> import numpy as np
    >>> from qsmprep.scan import Scan
    >>> x, y, z = np.indices((20, 20, 20)) - 9.5
    >>> r = np.sqrt(x**2 + y**2 + z**2)
    >>> field_ppm = np.where(r > 4, 0.1 / 3 * (4 / r) ** 3 * (3 * (z / r) ** 2 - 1), 0)
    >>> chi = hdqsm(field_ppm, r < 9, scan=Scan((1, 1, 1))).chi_ppm
    >>> round(float(chi[r < 3].mean() - chi[(r > 6) & (r < 9)].mean()), 2)
    0.09
    """
    check_options(options)

    def pose(measured: Measurement) -> tuple[Workspace, Solver]:
        given = linear_input(measured, options, device)
        return given.work, partial(_two_stages, given, options)

    measured = Measurement(field_ppm, mask, scan, weights, relative_residual=relative_residual)
    return solve_in_passes(pose, measured, options, progress)


def _two_stages(given: LinearInput, options: HdQsmOptions, *, progress: Progress | None) -> Solved:
    """L1, and L2 from there."""
    field, weights, grid, h = given.field, given.weights, given.grid, given.voxel_size_mm
    total = options.l1_iterations + options.max_iterations
    step = GRADIENT_STEP * gradient_step(h)
    inside = given.work.support() if options.weak_harmonic else None
    penalties = Penalties(mu_gradient=math.sqrt(options.alpha) / step, mu_data=1 / DATA_STEP, robust=True)
    robust, remnant, history = fit_with_harmonic(
        PhaseProblem(field, weights, threshold_rows(step, None, tuple(field.shape), field), inside, grid, h),
        with_harmonic(penalties, options, unit=penalties.mu_data),
        tolerance_percent=0,
        max_iterations=options.l1_iterations,
        progress=continued(progress, 0, total),
    )
    field = field - remnant * given.work.support()  # the second stage fits what is left of it
    x, later, converged = linear_total_variation(
        replace(given, field=field, weights=discounted(weights, field, robust, grid)),
        regularisation=options.alpha,
        tolerance_percent=options.tolerance,
        max_iterations=options.max_iterations,
        progress=continued(progress, len(history), total),
        start=robust,
        harmonic=options,
    )
    return Solved(x, (*history, *later), converged, "change of chi in percent (two stages)",
                  second=len(history) + 1)  # fmt: skip


def discounted(weights: Array, field: Array, chi: Array, grid: Spectra) -> Array:
    """Data weights times 1 - r / max r, r = |D chi - field| where there is weight; all arrays on the padded grid."""
    residual = abs(irfftn(rfftn(chi) * grid.dipole, tuple(field.shape)) - field) * (weights > 0)
    largest = float(residual.max())
    return weights * (1 - residual / largest) if largest > 0 else weights
