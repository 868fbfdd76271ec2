"""FANSI: total variation with a linear or non-linear data term and an optional weak harmonic field, by ADMM."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from qsmprep.inversion import Inversion
from qsmprep.inversion.edges import WEIGHT_KINDS
from qsmprep.inversion.harmonic import beta_option, mu_h_option, weak_harmonic_option
from qsmprep.inversion.holes import residual_threshold_option, two_pass_option
from qsmprep.inversion.inputs import Measurement
from qsmprep.inversion.phase_input import Units, penalties_of, phase_input
from qsmprep.inversion.solving import Solver, Workspace, solve_in_passes
from qsmprep.numerics.admm import minimise_total_variation
from qsmprep.numerics.arrays import Mask, RealArray
from qsmprep.numerics.dipole import KERNELS
from qsmprep.numerics.progress import Progress
from qsmprep.options import check_options, option
from qsmprep.scan import Scan


@dataclass(frozen=True)
class FansiOptions:
    """Options of FANSI; the defaults are the consensus settings."""

    nonlinear: bool = option(True, "complex data term, robust against phase wraps, instead of the linear one")
    alpha1: float = option(
        5e-4,
        "weight of total variation, for phase in rad (see scale) and data weights up to 1",
        low=1e-9,
    )
    scale: str = option(
        "last-echo",
        "time over which the phase is counted; last-echo, the consensus pipeline's, makes total variation weaker than "
        "echo-spacing by their ratio",
        choices=("last-echo", "echo-spacing"),
    )
    mu1: float = option(0.05, "penalty parameter of the gradient split", low=1e-9)
    mu2: float = option(1.0, "penalty parameter of the data split", low=1e-9)
    max_iterations: int = option(400, "cap on iterations", low=1, high=100000)
    tolerance: float = option(0.1, "change of chi at which to stop", unit="%", low=0, high=100)
    weak_harmonic: bool = weak_harmonic_option(True)
    beta: float = beta_option(150.0)
    mu_h: float = mu_h_option()
    regularisation_weights: str = option(
        "vector-field", "spatial weights of total variation from the magnitude's gradient", choices=WEIGHT_KINDS
    )
    regularisation_image: str = option(
        "magnitude",
        "image of that gradient; weights: the data weights, as in SEPIA",
        choices=("magnitude", "weights"),
    )
    regularisation_mean: str = option(
        "mask",
        "voxels whose mean these weights are relative to; volume: the whole field of view, as in SEPIA",
        choices=("mask", "volume"),
    )
    weights_top: str = option(
        "percentile",
        "data weight that becomes 1; percentile: the 99.9th, larger ones clipped; maximum: the largest, as in SEPIA",
        choices=("percentile", "maximum"),
    )
    gradient_per: str = option(
        "mm", "unit of gradients; voxel: differences of neighbours, as in FANSI", choices=("mm", "voxel")
    )
    residual_threshold: float = residual_threshold_option()
    two_pass: bool = two_pass_option()
    kernel: str = option("discrete", "form of the dipole kernel", choices=KERNELS)
    padding: int = option(16, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


# More than 8 parameters: each image that may be there or not is named.
def fansi(
    field_ppm: RealArray,
    mask: Mask,
    *,
    scan: Scan,
    weights: RealArray | None = None,
    magnitude_rss: RealArray | None = None,
    relative_residual: RealArray | None = None,
    options: FansiOptions = FansiOptions(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility by total variation with a non-linear data term and a weak harmonic field.

    min over x, p of 1/2 |w (exp(i (D x + p)) - exp(i phi))|^2 + alpha1 |r grad x|_1 + beta/2 |M laplacian p|^2, with
    phi the phase in rad that the field gathers until the last echo, as in the consensus pipeline, or over one echo
    spacing, and chi = x in ppm: over a time n times shorter the same alpha1 weighs n times more. The harmonic field p
    and x are solved for jointly at each frequency, which converges in a third of the iterations that alternating takes,
    to a lower error.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    scan : geometry, echo times and centre frequency; gradients are per mm.
    weights : (n0, n1, n2) data weights w >= 0, scaled here so that the 99.9th percentile in the mask is 1, and clipped
        there (or so that their maximum is 1, see `weights_top`); None: the magnitude, or the mask where there is none.
    magnitude_rss : (n0, n1, n2) for the weights r of total variation; None: r = 1.
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

    Examples
    --------
    A ball of 0.1 ppm and 4 mm radius, from its field by the formula of the sphere:

    >>> import numpy as np
    >>> from qsmprep.scan import Scan
    >>> x, y, z = np.indices((20, 20, 20)) - 9.5
    >>> r = np.sqrt(x**2 + y**2 + z**2)
    >>> field_ppm = np.where(r > 4, 0.1 / 3 * (4 / r) ** 3 * (3 * (z / r) ** 2 - 1), 0)
    >>> scan = Scan((1, 1, 1), echo_times_s=(0.01, 0.02), centre_frequency_mhz=123.2)
    >>> chi = fansi(field_ppm, r < 9, scan=scan).chi_ppm
    >>> round(float(chi[r < 3].mean() - chi[(r > 6) & (r < 9)].mean()), 2)
    0.09
    """
    check_options(options)

    def pose(measured: Measurement) -> tuple[Workspace, Solver]:
        given = phase_input(measured, options, device, edges=options.regularisation_weights, units=units_of(options))
        return given.work, partial(
            minimise_total_variation,
            given.problem(options.alpha1 / options.mu1, harmonic=options.weak_harmonic),
            penalties_of(options),
            tolerance_percent=options.tolerance,
            max_iterations=options.max_iterations,
        )

    measured = Measurement(field_ppm, mask, scan, weights, magnitude_rss, relative_residual=relative_residual)
    return solve_in_passes(pose, measured, options, progress)


def units_of(options: FansiOptions) -> Units:
    """The units in which the options are understood."""
    return Units(
        scale=options.scale,
        weights_top=options.weights_top,
        edges_of=options.regularisation_image,
        edges_mean=options.regularisation_mean,
        gradient_per=options.gradient_per,
    )
