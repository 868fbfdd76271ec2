"""Chi-separation COSMOS: both sources from the fields and R2' of several orientations."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qsmprep.numerics.convergence import ended
from qsmprep.numerics.dipole import KERNELS, dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn, to_device, to_numpy
from qsmprep.numerics.krylov import inner_product
from qsmprep.numerics.progress import Progress
from qsmprep.numerics.proximal import fit_phase
from qsmprep.numerics.volume import frame_around
from qsmprep.options import check_options, option
from qsmprep.orientation.cosmos import cosmos
from qsmprep.orientation.directions import cosmos_condition
from qsmprep.orientation.inputs import Orientations, checked
from qsmprep.separation import Constants, Separation, checked_maps
from qsmprep.separation.closed_form import both_sources
from qsmprep.separation.joint import fit_sign
from qsmprep.separation.offset import offset_by_signs

LEAST = 3
LEAST_ITERATIONS = 5  # the first reproduces the start
MU_DATA, MU_SUM, MU_SIGN = 0.3, 0.3, 0.05  # penalty parameters of the splits, all orientations together
SMALLEST = 1e-6  # of the mean D^2: frequencies below carry no information in any orientation


@dataclass(frozen=True)
class ChisepCosmosOptions:
    """Options of chi-separation COSMOS."""

    max_condition: float = option(25.0, "largest condition number of the orientations", low=1)
    r2prime_weight: float = option(1.0, "weight of R2' in ppm against each field in ppm", low=1e-4, high=100)
    anchor: float = option(
        0.02, "weight of the COSMOS map, its constant set by the signs, for what the fields do not determine",
        low=1e-5, high=10,
    )  # fmt: skip
    tolerance: float = option(0.2, "change of both maps at which to stop", unit="%", low=0, high=100)
    max_iterations: int = option(300, "cap on iterations", low=1, high=100000)
    kernel: str = option("continuous", "form of the dipole kernel", choices=KERNELS)
    padding: int = option(32, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


def chisep_cosmos(
    orientations: Orientations,
    *,
    r2primes: np.ndarray,
    constants: Constants,
    options: ChisepCosmosOptions = ChisepCosmosOptions(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> tuple[Separation, float]:
    """Non-negative least squares over all orientations: no regularisation, as none is needed.

    min over p, n >= 0 of mean_i |w_i (D_i (p - n) - f_i)|^2 + v^2 |(D_para p + D_dia n - R2')/D_r|^2 in the mask, with
    the mean R2' of the orientations and the mean D_r of both constants. What no field tells is held near the COSMOS
    map, whose constant is that with which neither source is negative (`offset_by_signs`). Both sources are solved for
    at each frequency; alternating directions take care of the masks and of the signs.

    Parameters
    ----------
    orientations : three or more; their mask is where all are valid.
    r2primes : (n, n0, n1, n2) in 1/s.
    constants : D_para and D_dia at the scan's field strength.
    options : parameters.
    progress : called as progress(iteration, max_iterations).
    device : "cpu", or a torch device.

    Returns
    -------
    Separation in ppm, and the condition number of the orientations.

    Raises
    ------
    ValueError : fewer than three orientations, orientations too much alike, shapes that differ, a field not in ppm.

    References
    ----------
    Kim 2025; Liu 2009.

    Examples
    --------
    Iron of 0.1 ppm, seen in three fields and in R2' at 114 1/s/ppm:

    >>> iron = np.zeros((16, 16, 16), np.float32)
    >>> iron[6:10, 6:10, 6:10] = 0.1
    >>> directions = np.array([(0, 0, 1), (0, 0.5, 0.9), (0.6, 0, 0.8)])
    >>> dipoles = [dipole_kernel(iron.shape, (1, 1, 1), tuple(b)) for b in directions]
    >>> fields = np.stack([irfftn(rfftn(iron) * dipole, iron.shape) for dipole in dipoles])
    >>> given = Orientations(fields, np.ones(iron.shape), (1, 1, 1), directions)
    >>> options = ChisepCosmosOptions(padding=0)
    >>> found, _ = chisep_cosmos(given, r2primes=[114 * iron] * 3, constants=Constants(114.0, 114.0), options=options)
    >>> round(float(found.chi_para[7, 7, 7]), 2), round(float(found.chi_dia[7, 7, 7]), 2)
    (0.1, 0.0)
    """
    check_options(options)
    begin = time.perf_counter()
    given, condition = checked(
        orientations, "Chi-separation COSMOS", least=LEAST, condition_of=cosmos_condition,
        largest=options.max_condition,
    )  # fmt: skip
    inside, rate = checked_maps(given.mask, r2prime=np.mean(r2primes, axis=0))
    given = replace(given, mask=inside)
    frame = frame_around(inside, padding=options.padding)
    shape = frame.padded_shape
    dipoles = [
        to_device(dipole_kernel(shape, given.voxel_size_mm, tuple(b), kind=options.kernel), device)
        for b in given.b0_directions
    ]
    data = [to_device(frame.crop(field), device) for field in given.fields_ppm]
    squares = [to_device(frame.crop(w * w), device) for w in given.weights] if given.weights is not None else [
        to_device(frame.crop(inside.astype(np.float32)), device) for _ in data
    ]  # fmt: skip
    start = cosmos(given, device=device).chi_ppm
    offset = offset_by_signs(start, rate, inside, constants=constants, voxel_size_mm=given.voxel_size_mm).value
    start = (start + np.float32(offset)) * inside
    split = _Split(
        dipoles=dipoles,
        fields=data,
        squares=squares,
        anchored=options.anchor * rfftn(to_device(frame.crop(start), device)),
        total=to_device(frame.crop(rate / np.float32(constants.mean)), device),
        support=to_device(frame.crop(inside.astype(np.float32)), device),
        shares=(constants.para / constants.mean, constants.dia / constants.mean),
    )
    sources = [to_device(frame.crop(source), device) for source in both_sources(start, rate, constants)]
    images, history = _iterate(split, sources, options, progress)
    para, dia = (np.maximum(frame.restore(to_numpy(image)), 0) * inside for image in images)
    convergence = ended(begin, history, history[-1] < options.tolerance, monitored="change of both maps in percent")
    return Separation(para, dia, inside, convergence), condition


@dataclass(frozen=True)
class _Split:
    """What the iteration works on, padded, where the solver runs; lists hold one image an orientation."""

    dipoles: list[Any]
    fields: list[Any]
    squares: list[Any]
    anchored: Any
    total: Any
    support: Any
    shares: tuple[float, float]


def _iterate(
    given: _Split, images: list[Any], options: ChisepCosmosOptions, progress: Progress | None
) -> tuple[list[Any], list[float]]:
    """Alternating directions from a start; p and n, and their change in percent after each iteration."""
    (a, b), shape, n = given.shares, tuple(given.total.shape), len(given.dipoles)
    weight, mu = options.r2prime_weight**2, MU_DATA / n
    seen = sum(dipole * dipole for dipole in given.dipoles) * mu + options.anchor
    mu_sum, mu_sign = MU_SUM * weight, MU_SIGN
    pp, nn = seen + mu_sum * a * a + mu_sign, seen + mu_sum * b * b + mu_sign
    pn = mu_sum * a * b - seen
    bottom = pp * nn - pn * pn
    spectrum = rfftn(images[0] - images[1])
    split = [irfftn(spectrum * dipole, shape) for dipole in given.dipoles]
    target = a * images[0] + b * images[1]
    duals, target_dual = [image * 0 for image in split], target * 0
    signs, sign_duals = [image + 0 for image in images], [image * 0 for image in images]
    history: list[float] = []
    for iteration in range(1, options.max_iterations + 1):
        told = mu * sum(rfftn(image) * dipole for image, dipole in zip(split, given.dipoles, strict=True))
        told = told + given.anchored
        top_p = rfftn(mu_sum * a * target + mu_sign * signs[0]) + told
        top_n = rfftn(mu_sum * b * target + mu_sign * signs[1]) - told
        spectra = ((nn * top_p - pn * top_n) / bottom, (pp * top_n - pn * top_p) / bottom)
        before, images = images, [irfftn(spectrum, shape) for spectrum in spectra]
        change = sum(inner_product(new - old, new - old) for new, old in zip(images, before, strict=True)) ** 0.5
        size = sum(inner_product(new, new) for new in images) ** 0.5
        history.append(100 * change / max(size, 1e-30))
        if progress is not None:
            progress(iteration, options.max_iterations)
        if iteration >= LEAST_ITERATIONS and history[-1] < options.tolerance:
            break
        difference = spectra[0] - spectra[1]
        for i, dipole in enumerate(given.dipoles):
            forward = irfftn(difference * dipole, shape)
            split[i] = fit_phase(
                forward, split[i], duals[i], given.fields[i], given.squares[i] / n, mu, nonlinear=False
            )
        total = a * images[0] + b * images[1]
        target = fit_phase(total, target, target_dual, given.total, weight * given.support, mu_sum, nonlinear=False)
        signs = [fit_sign(i, s, d, given.support) for i, s, d in zip(images, signs, sign_duals, strict=True)]
    return images, history
