"""Chi-separation with MEDI's regularisation: both sources from field and R2', smooth but for edges of the magnitude."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from qsmprep.inversion.edges import edge_mask
from qsmprep.inversion.holes import residual_threshold_option
from qsmprep.inversion.inputs import Measurement, checked_image
from qsmprep.inversion.phase_input import PhaseInput, phase_input
from qsmprep.numerics.arrays import Array, FloatImage, Mask, RealArray
from qsmprep.numerics.convergence import ended
from qsmprep.numerics.dipole import KERNELS
from qsmprep.numerics.progress import Progress
from qsmprep.numerics.proximal import threshold_rows
from qsmprep.options import check_options, option
from qsmprep.scan import Scan
from qsmprep.separation import Constants, Separation, checked_maps
from qsmprep.separation.closed_form import both_sources
from qsmprep.separation.joint import SourcePenalties, SourceProblem, separate_sources

MU_GRADIENT = 100.0  # penalty parameter of the gradients over the weight of total variation


@dataclass(frozen=True)
class ChisepMediOptions:
    """Options of chi-separation with MEDI's regularisation."""

    regularisation: float = option(
        2e-4,
        "weight of total variation of either source, for phase in rad over one echo spacing and data weights up to 1",
        low=1e-9,
    )
    r2prime_weight: float = option(
        0.1, "weight of R2', in ppm through the relaxometric constants, against the field in ppm", low=1e-4, high=100
    )
    anchor: float = option(
        0.05, "weight of the susceptibility map for what the field does not determine, against data weights up to 1",
        low=1e-5, high=10,
    )  # fmt: skip
    edge_percentage: float = option(
        0.9, "edge components of the magnitude's gradient, as a fraction of the mask voxels", low=0, high=3
    )
    weak_harmonic: bool = option(True, "fit the harmonic remnant of the background field along with the sources")
    beta: float = option(
        150.0, "weight of the harmonic field's Laplacian in the mask", low=1e-9, when=("weak_harmonic", True)
    )
    nonlinear: bool = option(True, "complex data term, robust against phase wraps, instead of the linear one")
    residual_threshold: float = residual_threshold_option()
    max_iterations: int = option(300, "cap on iterations", low=1, high=100000)
    tolerance: float = option(0.1, "change of both maps at which to stop", unit="%", low=0, high=100)
    kernel: str = option("discrete", "form of the dipole kernel", choices=KERNELS)
    padding: int = option(16, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


# More than 8 parameters: each image that may be there or not is named.
def chisep_medi(
    field_ppm: RealArray,
    mask: Mask,
    *,
    chi_ppm: RealArray,
    r2prime: RealArray,
    constants: Constants,
    scan: Scan,
    weights: RealArray | None = None,
    magnitude_rss: RealArray | None = None,
    relative_residual: RealArray | None = None,
    options: ChisepMediOptions = ChisepMediOptions(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> Separation:
    """Both sources that explain the tissue field and R2' with the least total variation off the magnitude's edges.

    min over p, n >= 0 of 1/2 |w (exp(i D (p - n)) - exp(i f))|^2 + v^2/2 |w (R2'/D_r - p - n)|^2
    + alpha (|m grad p|_1 + |m grad n|_1), with f the phase in rad that the field gathers over one echo spacing, R2'/D_r
    in the same unit, and m 0 at edges of the magnitude. With different constants of the two kinds, (D_para p +
    D_dia n)/D_r stands for p + n, D_r being their mean. Alternating directions solve for both at each frequency.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    chi_ppm : (n0, n1, n2) susceptibility in ppm to start from, 0 outside the mask. What the field cannot tell, the mean
        above all, stays as in it unless the signs of the sources forbid.
    r2prime : (n0, n1, n2) in 1/s.
    constants : D_para and D_dia at the scan's field strength.
    scan : geometry, echo times and centre frequency; gradients are per mm.
    weights : (n0, n1, n2) data weights w >= 0; None: the magnitude, or the mask where there is none.
    magnitude_rss : (n0, n1, n2) for the edges. None: no edges.
    relative_residual : (n0, n1, n2) of the echo combination; excludes voxels from the weights of the field.
    options : parameters.
    progress : called as progress(iteration, max_iterations).
    device : "cpu", or a torch device.

    Returns
    -------
    Separation in ppm.

    References
    ----------
    Shin 2021; Liu 2012.

    Examples
    --------
    A ball of 0.1 ppm of paramagnetic sources and 4 mm radius, from its field and its R2':

    >>> import numpy as np
    >>> from qsmprep.scan import Scan
    >>> from qsmprep.separation import Constants
    >>> x, y, z = np.indices((20, 20, 20)) - 9.5
    >>> r = np.sqrt(x**2 + y**2 + z**2)
    >>> field_ppm = np.where(r > 4, 0.1 / 3 * (4 / r) ** 3 * (3 * (z / r) ** 2 - 1), 0)
    >>> scan = Scan((1, 1, 1), echo_times_s=(0.01, 0.02), centre_frequency_mhz=123.2)
    >>> maps = {"chi_ppm": 0.1 * (r < 4), "r2prime": 11.4 * (r < 4)}
    >>> found = chisep_medi(field_ppm, r < 9, **maps, constants=Constants(114.0, 114.0), scan=scan)
    >>> [round(float(image[r < 3].mean()), 2) for image in (found.chi_para, found.chi_dia)]
    [0.1, 0.0]
    """
    check_options(options)
    begin = time.perf_counter()
    inside, chi, rate = checked_maps(mask, chi_ppm=chi_ppm, r2prime=r2prime)
    measured = Measurement(field_ppm, inside, scan, weights, magnitude_rss, relative_residual=relative_residual)
    given = phase_input(measured, options, device)
    penalties = SourcePenalties(
        gradient=MU_GRADIENT * options.regularisation,
        nonlinear=options.nonlinear,
        beta=options.beta if options.weak_harmonic else None,
    )
    edges = _edges(given, magnitude_rss, options.edge_percentage)
    problem = _problem(given, chi, rate, edges, constants, options, penalties)
    start = [_there(given, source) for source in both_sources(chi, rate, constants)]
    para, dia, history, converged = separate_sources(
        problem,
        penalties,
        start=(start[0], start[1]),
        tolerance_percent=options.tolerance,
        max_iterations=options.max_iterations,
        progress=progress,
    )
    maps = [given.work.restored(source) for source in (para, dia)]
    end = ended(begin, history, converged, monitored="change of both maps in percent")
    return Separation(maps[0], maps[1], inside, end)


def _edges(given: PhaseInput, magnitude_rss: RealArray | None, percentage: float) -> Mask | None:
    """MEDI's gradient mask on the padded grid; None without a magnitude."""
    frame, inside = given.work.frame, given.work.inside
    brightness = checked_image(magnitude_rss, inside, "The magnitude")
    if brightness is None:
        return None
    return edge_mask(frame.crop(brightness), frame.crop(inside), given.steps_mm, percentage)


def _problem(
    given: PhaseInput,
    chi: FloatImage,
    rate: FloatImage,
    edges: Mask | None,
    constants: Constants,
    options: ChisepMediOptions,
    penalties: SourcePenalties,
) -> SourceProblem:
    support = given.work.support()
    # R2' is as noisy where the signal is weak as the field is, but needs no coherent phase.
    trusted = given.weights.mean() if float(given.weights.mean()) > 0 else 1.0
    sum_weights = support * (options.r2prime_weight * float(trusted / support.mean())) ** 2
    return SourceProblem(
        phase=given.phase,
        weights=given.weights**2,
        sum=_there(given, rate / np.float32(constants.mean)),
        sum_weights=sum_weights,
        shares=(constants.para / constants.mean, constants.dia / constants.mean),
        thresholds=threshold_rows(
            options.regularisation / penalties.gradient, edges, tuple(given.phase.shape), given.phase
        ),
        total=_there(given, chi),
        anchor=options.anchor,
        inside=support,
        grid=given.grid,
        voxel_size_mm=given.steps_mm,
    )


def _there(given: PhaseInput, image: FloatImage) -> Array:
    """An image in ppm as rad on the padded grid, where the solver runs."""
    return given.work.there(image * np.float32(given.work.scale))
