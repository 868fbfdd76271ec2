"""MEDI-L1: morphology enabled dipole inversion, with spherical mean filter (SMV) and model error reduction (MERIT)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from qsmprep.inversion import Inversion
from qsmprep.inversion.harmonic import beta_option, mu_h_option, weak_harmonic_option, with_harmonic
from qsmprep.inversion.holes import residual_threshold_option, two_pass_option
from qsmprep.inversion.inputs import Measurement
from qsmprep.inversion.medi_core import adapt_to_noise_option, prepare
from qsmprep.inversion.solving import Solver, Workspace, solve_in_passes
from qsmprep.numerics.admm import minimise_total_variation
from qsmprep.numerics.arrays import Mask, RealArray
from qsmprep.numerics.dipole import KERNELS
from qsmprep.numerics.progress import Progress
from qsmprep.options import check_options, option
from qsmprep.scan import Scan


@dataclass(frozen=True)
class MediOptions:
    """Options of MEDI; the defaults are the consensus settings."""

    data_weight: float = option(
        2000.0,
        "weight lambda of the data term against total variation, for phase in rad over one echo spacing",
        low=1e-6,
    )
    adapt_to_noise: bool = adapt_to_noise_option()
    edge_percentage: float = option(
        0.9, "edge components of the magnitude's gradient, as a fraction of the mask voxels", low=0, high=3
    )
    smv_radius: float = option(5.0, "radius of the spherical mean filter; 0: none", unit="mm", low=0, high=50)
    merit: bool = option(True, "lower the weight of voxels that the model does not fit, after each outer iteration")
    weak_harmonic: bool = weak_harmonic_option(False)
    beta: float = beta_option()
    mu_h: float = mu_h_option()
    residual_threshold: float = residual_threshold_option()
    two_pass: bool = two_pass_option()
    max_iterations: int = option(300, "cap on iterations", low=1, high=100000)
    tolerance: float = option(0.5, "change of chi at which to stop", unit="%", low=0, high=100)
    kernel: str = option("discrete", "form of the dipole kernel", choices=KERNELS)
    padding: int = option(16, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


# More than 8 parameters: each image that may be there or not is named.
def medi(
    field_ppm: RealArray,
    mask: Mask,
    *,
    scan: Scan,
    weights: RealArray | None = None,
    noise_hz: RealArray | None = None,
    magnitude_rss: RealArray | None = None,
    relative_residual: RealArray | None = None,
    options: MediOptions = MediOptions(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility with gradients allowed where the magnitude has edges, and a non-linear data term.

    min over x of lambda |m (exp(i D x) - exp(i f))|^2 + |w grad x|_1, with f the phase in rad that the field gathers
    over one echo spacing (over the echo time, when there is one echo), and chi = x in ppm. The published Gauss-Newton
    iteration smooths the l1 norm and solves each step by conjugate gradients; alternating directions minimise the same
    cost, the norm as it is, and reach the same value in a quarter of the Fourier transforms.

    Where the field changes from voxel to voxel more than suits lambda, `adapt_to_noise` lowers it, for else noise along
    the edges, whose gradients cost nothing, becomes streaks: lambda is at most 0.011 / (u s^2), u the phase of 1 ppm in
    rad and s the robust deviation of second differences of the field in ppm.

    With `weak_harmonic` a field p, harmonic in the mask, is fitted along: D x + p in place of D x, at the price of
    beta/2 |M laplacian p|^2. The spherical mean filter removes harmonic fields already and erodes the mask: use the one
    or the other (smv_radius 0).

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    scan : geometry, echo times and centre frequency; gradients are per mm.
    weights : (n0, n1, n2) data weights m >= 0, scaled here to a mean of 1 in the mask.
    noise_hz : (n0, n1, n2) noise of the field, any scale; gives m = 1 / noise and takes precedence over `weights`.
    magnitude_rss : (n0, n1, n2) for the edges; also for m where neither weights nor noise are given. None: no edges.
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

    Examples
    --------
    A ball of 0.1 ppm and 4 mm radius, from its field by the formula of the sphere; the mask loses the filter's radius:

    >>> import numpy as np
    >>> from qsmprep.scan import Scan
    >>> x, y, z = np.indices((20, 20, 20)) - 9.5
    >>> r = np.sqrt(x**2 + y**2 + z**2)
    >>> field_ppm = np.where(r > 4, 0.1 / 3 * (4 / r) ** 3 * (3 * (z / r) ** 2 - 1), 0)
    >>> scan = Scan((1, 1, 1), echo_times_s=(0.01, 0.02), centre_frequency_mhz=123.2)
    >>> found = medi(field_ppm, r < 9, scan=scan, options=MediOptions(smv_radius=2.0, kernel="continuous"))
    >>> chi = found.chi_ppm
    >>> round(float(chi[r < 3].mean() - chi[(r > 5) & found.mask].mean()), 2)
    0.08
    """
    check_options(options)

    def pose(measured: Measurement) -> tuple[Workspace, Solver]:
        given = prepare(measured, options, device)
        return given.work, partial(
            minimise_total_variation,
            replace(given.problem, inside=given.work.support()),
            with_harmonic(given.penalties, options),
            tolerance_percent=options.tolerance,
            max_iterations=options.max_iterations,
            reweight=given.merit,
        )

    measured = Measurement(field_ppm, mask, scan, weights, magnitude_rss, noise_hz, relative_residual)
    return solve_in_passes(pose, measured, options, progress)
