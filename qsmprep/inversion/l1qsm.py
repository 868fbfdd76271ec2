"""L1-QSM: total variation with an L1 data term, which rejects inconsistent phase."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from qsmprep.inversion import Inversion
from qsmprep.inversion.edges import WEIGHT_KINDS
from qsmprep.inversion.harmonic import beta_option, mu_h_option, weak_harmonic_option, with_harmonic
from qsmprep.inversion.holes import residual_threshold_option, two_pass_option
from qsmprep.inversion.inputs import Measurement
from qsmprep.inversion.linear import gradient_step
from qsmprep.inversion.phase_input import phase_input
from qsmprep.inversion.solving import Solver, Workspace, solve_in_passes
from qsmprep.numerics.admm import Penalties, minimise_total_variation
from qsmprep.numerics.arrays import Mask, RealArray
from qsmprep.numerics.dipole import KERNELS
from qsmprep.numerics.progress import Progress
from qsmprep.options import check_options, option
from qsmprep.scan import Scan

DATA_STEP = 0.05  # ppm, threshold of the data split: sets the pace, not the result, and so does GRADIENT_STEP
GRADIENT_STEP = 10  # of that of the linear methods


@dataclass(frozen=True)
class L1QsmOptions:
    """Options of L1-QSM."""

    nonlinear: bool = option(True, "complex data term, robust against phase wraps, instead of the linear one")
    alpha1: float = option(
        5e-2,
        "weight of total variation, for phase in rad over one echo spacing and data weights up to 1",
        low=1e-9,
        high=100,
    )
    max_iterations: int = option(300, "cap on iterations", low=1, high=100000)
    tolerance: float = option(0.2, "change of chi at which to stop", unit="%", low=0, high=100)
    regularisation_weights: str = option(
        "none", "spatial weights of total variation from the magnitude's gradient", choices=WEIGHT_KINDS
    )
    weak_harmonic: bool = weak_harmonic_option(False)
    beta: float = beta_option()
    mu_h: float = mu_h_option()
    residual_threshold: float = residual_threshold_option()
    two_pass: bool = two_pass_option()
    kernel: str = option("integrated", "form of the dipole kernel", choices=KERNELS)
    padding: int = option(16, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


# More than 8 parameters: each image that may be there or not is named.
def l1qsm(
    field_ppm: RealArray,
    mask: Mask,
    *,
    scan: Scan,
    weights: RealArray | None = None,
    magnitude_rss: RealArray | None = None,
    relative_residual: RealArray | None = None,
    options: L1QsmOptions = L1QsmOptions(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility by total variation with an L1 data term, which a few wrong voxels cannot pull.

    min over x of |w (exp(i D x) - exp(i phi))|_1 + alpha1 |r grad x|_1 (linear: |w (D x - phi)|_1), with phi the phase
    in rad that the field gathers over one echo spacing (over the echo time, when there is one echo), and chi = x in
    ppm. The published iteration linearises the data term by two splits; here one exact proximal step replaces them.

    With `weak_harmonic` a field p, harmonic in the mask, is fitted along: D x + p in place of D x, at the price of
    beta/2 |M laplacian p|^2. It takes up what background field removal left, and with it a part of the tissue's field:
    off by default, as a field without such a remnant comes out worse with it.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    scan : geometry, echo times and centre frequency; gradients are per mm.
    weights : (n0, n1, n2) data weights w >= 0, scaled here so that the 99.9th percentile in the mask is 1, and clipped
        there; None: the magnitude, or the mask where there is none.
    magnitude_rss : (n0, n1, n2) for the weights r of total variation, and for w where `weights` is None.
    relative_residual : (n0, n1, n2) of the echo combination; excludes voxels from the weights, not from the mask.
    options : parameters. A larger alpha1 withstands more noise, a smaller one keeps strong sources: 0.1 triples the
        error of a head with a calcification, 0.02 raises that of noisy heads by a third. The published 50 iterations
        are too few for a strong source. The kernel is that of `tv`.
    progress : called as progress(iteration, max_iterations).
    device : "cpu", or a torch device.

    Returns
    -------
    Inversion with chi in ppm, 0 outside the mask; its zero frequency is 0, so reference it afterwards.

    References
    ----------
    Milovic 2022 (L1-QSM).

    Examples
    --------
    A ball of 0.1 ppm and 4 mm radius, from its field by the formula of the sphere:

    >>> import numpy as np
    >>> from qsmprep.scan import Scan
    >>> x, y, z = np.indices((20, 20, 20)) - 9.5
    >>> r = np.sqrt(x**2 + y**2 + z**2)
    >>> field_ppm = np.where(r > 4, 0.1 / 3 * (4 / r) ** 3 * (3 * (z / r) ** 2 - 1), 0)
    >>> scan = Scan((1, 1, 1), echo_times_s=(0.01, 0.02), centre_frequency_mhz=123.2)
    >>> chi = l1qsm(field_ppm, r < 9, scan=scan).chi_ppm
    >>> round(float(chi[r < 3].mean() - chi[(r > 6) & (r < 9)].mean()), 2)
    0.09
    """
    check_options(options)

    def pose(measured: Measurement) -> tuple[Workspace, Solver]:
        given = phase_input(measured, options, device, edges=options.regularisation_weights)
        scale = given.work.scale
        step = GRADIENT_STEP * scale * gradient_step(scan.voxel_size_mm)
        penalties = Penalties(
            mu_gradient=options.alpha1 / step,
            mu_data=1 / (DATA_STEP * scale),
            nonlinear=options.nonlinear,
            robust=True,
        )
        return given.work, partial(
            minimise_total_variation,
            given.problem(step, squared=False, harmonic=options.weak_harmonic),
            with_harmonic(penalties, options, unit=penalties.mu_data),
            tolerance_percent=options.tolerance,
            max_iterations=options.max_iterations,
        )

    measured = Measurement(field_ppm, mask, scan, weights, magnitude_rss, relative_residual=relative_residual)
    return solve_in_passes(pose, measured, options, progress)
