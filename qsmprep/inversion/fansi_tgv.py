"""FANSI with total generalised variation: slopes of susceptibility are kept, not broken into steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from qsmprep.inversion import Inversion
from qsmprep.inversion.edges import WEIGHT_KINDS
from qsmprep.inversion.harmonic import beta_option, mu_h_option, weak_harmonic_option
from qsmprep.inversion.holes import residual_threshold_option, two_pass_option
from qsmprep.inversion.inputs import Measurement
from qsmprep.inversion.phase_input import penalties_of, phase_input
from qsmprep.inversion.solving import Solver, Workspace, solve_in_passes
from qsmprep.numerics.arrays import Mask, RealArray
from qsmprep.numerics.dipole import KERNELS
from qsmprep.numerics.progress import Progress
from qsmprep.numerics.tgv_admm import minimise_generalised_variation, second_order
from qsmprep.options import check_options, option
from qsmprep.scan import Scan


@dataclass(frozen=True)
class FansiTgvOptions:
    """Options of FANSI with total generalised variation."""

    nonlinear: bool = option(True, "complex data term, robust against phase wraps, instead of the linear one")
    alpha1: float = option(
        5e-4, "weight of the gradient, for phase in rad over one echo spacing and data weights up to 1", low=1e-9
    )
    alpha0: float | None = option(
        None, "weight of the second derivatives", low=1e-9, none="2 alpha1 h, h the voxel size in mm"
    )
    mu1: float = option(0.05, "penalty parameter of the gradient split", low=1e-9)
    mu0: float | None = option(None, "penalty parameter of the second split", low=1e-9, none="2 mu1 h^2")
    mu2: float = option(1.0, "penalty parameter of the data split", low=1e-9)
    max_iterations: int = option(400, "cap on iterations", low=1, high=100000)
    tolerance: float = option(0.1, "change of chi at which to stop", unit="%", low=0, high=100)
    weak_harmonic: bool = weak_harmonic_option(False, remark="; slopes of chi can imitate it")
    beta: float = beta_option(150.0)
    mu_h: float = mu_h_option()
    regularisation_weights: str = option(
        "vector-field", "spatial weights of the first-order term from the magnitude's gradient", choices=WEIGHT_KINDS
    )
    residual_threshold: float = residual_threshold_option()
    two_pass: bool = two_pass_option()
    kernel: str = option("discrete", "form of the dipole kernel", choices=KERNELS)
    padding: int = option(16, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


# More than 8 parameters: each image that may be there or not is named.
def fansi_tgv(
    field_ppm: RealArray,
    mask: Mask,
    *,
    scan: Scan,
    weights: RealArray | None = None,
    magnitude_rss: RealArray | None = None,
    relative_residual: RealArray | None = None,
    options: FansiTgvOptions = FansiTgvOptions(),
    progress: Progress | None = None,
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
    scan : geometry, echo times and centre frequency; gradients are per mm.
    weights : (n0, n1, n2) data weights w >= 0, scaled here so that the 99.9th percentile in the mask is 1, and clipped
        there; None: the magnitude, or the mask where there is none.
    magnitude_rss : (n0, n1, n2) for the weights r; None: r = 1.
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

    Examples
    --------
    A ball of 0.1 ppm and 4 mm radius, from its field by the formula of the sphere:

    >>> import numpy as np
    >>> from qsmprep.scan import Scan
    >>> x, y, z = np.indices((20, 20, 20)) - 9.5
    >>> r = np.sqrt(x**2 + y**2 + z**2)
    >>> field_ppm = np.where(r > 4, 0.1 / 3 * (4 / r) ** 3 * (3 * (z / r) ** 2 - 1), 0)
    >>> scan = Scan((1, 1, 1), echo_times_s=(0.01, 0.02), centre_frequency_mhz=123.2)
    >>> chi = fansi_tgv(field_ppm, r < 9, scan=scan).chi_ppm
    >>> round(float(chi[r < 3].mean() - chi[(r > 6) & (r < 9)].mean()), 2)
    0.09
    """
    check_options(options)
    size = math.prod(scan.voxel_size_mm) ** (1 / 3)  # the published ratios are those of voxels of 1 mm
    alpha0 = 2 * options.alpha1 * size if options.alpha0 is None else options.alpha0
    mu0 = 2 * options.mu1 * size**2 if options.mu0 is None else options.mu0

    def pose(measured: Measurement) -> tuple[Workspace, Solver]:
        given = phase_input(measured, options, device, edges=options.regularisation_weights)
        return given.work, partial(
            minimise_generalised_variation,
            given.problem(options.alpha1 / options.mu1, harmonic=options.weak_harmonic),
            second_order(alpha0, mu0, given.work.frame.padded_shape, scan.voxel_size_mm, device),
            penalties_of(options),
            tolerance_percent=options.tolerance,
            max_iterations=options.max_iterations,
        )

    measured = Measurement(field_ppm, mask, scan, weights, magnitude_rss, relative_residual=relative_residual)
    return solve_in_passes(pose, measured, options, progress)
