"""Total variation with a linear data term (TV), by alternating directions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from qsmprep.inversion import Inversion
from qsmprep.inversion.harmonic import beta_option, mu_h_option, weak_harmonic_option
from qsmprep.inversion.holes import residual_threshold_option, two_pass_option
from qsmprep.inversion.inputs import Measurement
from qsmprep.inversion.linear import linear_input, linear_total_variation
from qsmprep.inversion.solving import Solver, Workspace, solve_in_passes
from qsmprep.numerics.arrays import Mask, RealArray
from qsmprep.numerics.dipole import KERNELS
from qsmprep.numerics.progress import Progress
from qsmprep.options import check_options, option
from qsmprep.scan import Scan

DATA_WEIGHTS = ("given", "mask", "none")


@dataclass(frozen=True)
class TvOptions:
    """Options of TV."""

    regularisation: float = option(
        2e-4, "weight lambda of total variation, for data weights up to 1", unit="ppm mm", low=1e-9, high=10
    )
    data_weights: str = option(
        "given", "weights of the data term; given: those of the run, or the mask where there are none; mask: 1 in the "
        "mask; none: 1 everywhere",
        choices=DATA_WEIGHTS,
    )  # fmt: skip
    max_iterations: int = option(250, "cap on iterations", low=1, high=100000)
    tolerance: float = option(0.1, "change of chi at which to stop", unit="%", low=0, high=100)
    weak_harmonic: bool = weak_harmonic_option(False, when=("data_weights", ("given", "mask")))
    beta: float = beta_option()
    mu_h: float = mu_h_option()
    residual_threshold: float = residual_threshold_option()
    two_pass: bool = two_pass_option()
    kernel: str = option("integrated", "form of the dipole kernel", choices=KERNELS)
    padding: int = option(16, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


def tv(
    field_ppm: RealArray,
    mask: Mask,
    *,
    scan: Scan,
    weights: RealArray | None = None,
    relative_residual: RealArray | None = None,
    options: TvOptions = TvOptions(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility by total variation with a linear data term.

    min over chi of 1/2 |w (D chi - f)|^2 + lambda |grad chi|_1, f in ppm and gradients per mm.

    With `weak_harmonic` a field p, harmonic in the mask, is fitted along: D chi + p in place of D chi, at the price of
    beta/2 |M laplacian p|^2. It takes up what background field removal left, and with it a part of the tissue's field:
    off by default, as a field without such a remnant comes out worse with it.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    scan : geometry.
    weights : (n0, n1, n2) data weights w >= 0, scaled here so that the 99.9th percentile in the mask is 1, and clipped
        there; None: the mask.
    relative_residual : (n0, n1, n2) of the echo combination; excludes voxels from the weights, not from the mask.
    options : parameters. The published lambda of 1e-3 takes 10 % off a ball of 4 mm radius and 0.1 ppm, 2e-4 takes
        nothing; it halves the error of simulated heads. The integrated kernel has no images of the brain beyond the
        padding; on heads simulated on a finer grid it leaves a tenth less error than the continuous one.
    progress : called as progress(iteration, max_iterations).
    device : "cpu", or a torch device.

    Returns
    -------
    Inversion with chi in ppm, 0 outside the mask; its zero frequency is 0, so reference it afterwards.

    References
    ----------
    Bilgic 2014 (closed-form steps); Boyd 2011 (alternating directions).

    Examples
    --------
    A ball of 0.1 ppm and 4 mm radius, from its field by the formula of the sphere:

    >>> import numpy as np
    >>> from qsmprep.scan import Scan
    >>> x, y, z = np.indices((20, 20, 20)) - 9.5
    >>> r = np.sqrt(x**2 + y**2 + z**2)
    >>> field_ppm = np.where(r > 4, 0.1 / 3 * (4 / r) ** 3 * (3 * (z / r) ** 2 - 1), 0)
    >>> chi = tv(field_ppm, r < 9, scan=Scan((1, 1, 1))).chi_ppm
    >>> round(float(chi[r < 3].mean() - chi[(r > 6) & (r < 9)].mean()), 2)
    0.09
    """
    check_options(options)

    def pose(measured: Measurement) -> tuple[Workspace, Solver]:
        given = linear_input(measured, options, device, weighted=options.data_weights != "none")
        return given.work, partial(
            linear_total_variation,
            given,
            regularisation=options.regularisation,
            tolerance_percent=options.tolerance,
            max_iterations=options.max_iterations,
            harmonic=options,
        )

    weights = weights if options.data_weights == "given" else None
    measured = Measurement(field_ppm, mask, scan, weights, relative_residual=relative_residual)
    return solve_in_passes(pose, measured, options, progress)
