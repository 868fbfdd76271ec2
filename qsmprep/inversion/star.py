"""STAR-like inversion: total variation twice, for the strong sources first and for what their field leaves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from qsmprep.inversion import Inversion
from qsmprep.inversion.harmonic import beta_option, mu_h_option, weak_harmonic_option
from qsmprep.inversion.holes import residual_threshold_option, two_pass_option
from qsmprep.inversion.inputs import Measurement
from qsmprep.inversion.linear import LinearInput, linear_input, linear_total_variation
from qsmprep.inversion.solving import Solved, Solver, Workspace, solve_in_passes
from qsmprep.numerics.arrays import Mask, RealArray
from qsmprep.numerics.dipole import KERNELS
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.numerics.krylov import norm
from qsmprep.numerics.progress import Progress, continued
from qsmprep.options import check_options, option
from qsmprep.scan import Scan


@dataclass(frozen=True)
class StarOptions:
    """Options of the STAR-like inversion."""

    strong_regularisation: float = option(
        1e-2, "weight of total variation for the strong sources, for data weights up to 1", unit="ppm mm",
        low=1e-9, high=10,
    )  # fmt: skip
    regularisation: float = option(
        2e-4, "weight of total variation for all others, for data weights up to 1", unit="ppm mm", low=1e-9, high=10
    )
    strong_susceptibility: float = option(
        0.15, "smallest |chi| of the first map that counts as a strong source", unit="ppm", low=0, high=10
    )
    max_iterations: int = option(250, "cap on the iterations of each of the two steps", low=1, high=100000)
    tolerance: float = option(0.1, "change of chi at which to stop", unit="%", low=0, high=100)
    weak_harmonic: bool = weak_harmonic_option(False)
    beta: float = beta_option()
    mu_h: float = mu_h_option()
    residual_threshold: float = residual_threshold_option()
    two_pass: bool = two_pass_option()
    kernel: str = option("integrated", "form of the dipole kernel", choices=KERNELS)
    padding: int = option(16, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


def star(
    field_ppm: RealArray,
    mask: Mask,
    *,
    scan: Scan,
    weights: RealArray | None = None,
    relative_residual: RealArray | None = None,
    options: StarOptions = StarOptions(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility of strong sources by strong total variation, and of the rest by weak total variation.

    1. chi_1 = argmin 1/2 |w (D chi - f)|^2 + lambda_1 |grad chi|_1 with a large lambda_1; chi_s = chi_1 where its
       magnitude reaches the threshold, 0 elsewhere and outside the mask.
    2. chi_2 = argmin 1/2 |w (D chi - (f - D chi_s))|^2 + lambda_2 |grad chi|_1 with a small lambda_2.
    3. chi = chi_s + chi_2.

    The reference implementation of STAR-QSM is not public; this follows its published description. Without a strong
    source the map is that of `tv`.

    With `weak_harmonic` a field p, harmonic in the mask, is fitted along: D chi + p in place of D chi, at the price of
    beta/2 |M laplacian p|^2. It takes up what background field removal left, and with it a part of the tissue's field:
    off by default, as a field without such a remnant comes out worse with it. Each step has a p of
    its own.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    scan : geometry; gradients are per mm.
    weights : (n0, n1, n2) data weights w >= 0, scaled here so that the 99.9th percentile in the mask is 1, and clipped
        there; None: the mask.
    relative_residual : (n0, n1, n2) of the echo combination; excludes voxels from the weights, not from the mask.
    options : parameters. The default lambda_1 removes a ball of 4 mm radius and 0.1 ppm, leaves a quarter of 0.15 ppm
        and 60 % of 0.3 ppm. lambda_2 and the kernel are those of `tv`.
    progress : called as progress(iteration, twice max_iterations).
    device : "cpu", or a torch device.

    Returns
    -------
    Inversion with chi in ppm, 0 outside the mask; reference it afterwards. Its convergence counts the iterations of
    both steps.

    References
    ----------
    Wei 2015 (STAR-QSM).

    Examples
    --------
    A ball of 0.1 ppm and 4 mm radius, from its field by the formula of the sphere:

    >>> import numpy as np
    >>> from qsmprep.scan import Scan
    >>> x, y, z = np.indices((20, 20, 20)) - 9.5
    >>> r = np.sqrt(x**2 + y**2 + z**2)
    >>> field_ppm = np.where(r > 4, 0.1 / 3 * (4 / r) ** 3 * (3 * (z / r) ** 2 - 1), 0)
    >>> chi = star(field_ppm, r < 9, scan=Scan((1, 1, 1))).chi_ppm
    >>> round(float(chi[r < 3].mean() - chi[(r > 6) & (r < 9)].mean()), 2)
    0.09
    """
    check_options(options)

    def pose(measured: Measurement) -> tuple[Workspace, Solver]:
        given = linear_input(measured, options, device)
        return given.work, partial(_two_steps, given, options)

    measured = Measurement(field_ppm, mask, scan, weights, relative_residual=relative_residual)
    return solve_in_passes(pose, measured, options, progress)


def _two_steps(given: LinearInput, options: StarOptions, *, progress: Progress | None) -> Solved:
    """The strong sources, and the rest without their field."""
    total = 2 * options.max_iterations
    solve = partial(
        linear_total_variation, tolerance_percent=options.tolerance, max_iterations=options.max_iterations,
        harmonic=options,
    )  # fmt: skip
    # without a strong source the first map is 0, of which no change is a small part: take it relative to the field
    x, history, converged = solve(
        given, regularisation=options.strong_regularisation, progress=continued(progress, 0, total),
        floor=norm(given.field),
    )  # fmt: skip
    strong = x * (abs(x) >= options.strong_susceptibility) * given.work.support()
    left = given.field - irfftn(rfftn(strong) * given.grid.dipole, tuple(strong.shape))
    rest, later, settled = solve(
        replace(given, field=left), regularisation=options.regularisation,
        progress=continued(progress, len(history), total),
    )  # fmt: skip
    return Solved(strong + rest, (*history, *later), converged and settled, "change of chi in percent (two steps)",
                  second=len(history) + 1)  # fmt: skip
