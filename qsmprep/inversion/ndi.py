"""Non-linear dipole inversion (NDI): gradient descent on the misfit of the complex phase, stopped early."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.holes import residual_threshold_option, two_pass_option
from qsmprep.inversion.inputs import Measurement
from qsmprep.inversion.phase_input import phase_input
from qsmprep.inversion.solving import Solved, Solver, Workspace, solve_in_passes
from qsmprep.numerics.arrays import Array, ComplexImage, DoubleArray, FloatImage, Mask, RealArray, Scalar
from qsmprep.numerics.dipole import KERNELS
from qsmprep.numerics.fourier import irfftn, is_tensor, rfftn
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.progress import Progress
from qsmprep.options import check_options, option
from qsmprep.scan import Scan


@dataclass(frozen=True)
class NdiOptions:
    """Options of NDI."""

    max_iterations: int = option(100, "number of iterations; few of them regularise", low=1, high=10000)
    step: float = option(
        1.0,
        "step of the descent on the squared misfit; it diverges from 2.25 on, for data weights up to 1",
        low=1e-3,
        high=2.0,
    )
    tikhonov: float = option(
        0.0, "weight alpha of |chi|^2, for phase in rad over one echo spacing and data weights up to 1", low=0, high=0.1
    )
    linear_iterations: int = option(
        20,
        "number of first iterations with the linear data term, which strong sources need; published is 0",
        low=0,
        high=10000,
    )
    tolerance: float = option(
        0.0, "relative change of chi at which to stop earlier; 0: all iterations are done", low=0, high=1
    )
    inside_only: bool = option(
        True, "allow sources in the mask only; as published, they may be anywhere and are masked at the end"
    )
    residual_threshold: float = residual_threshold_option()
    two_pass: bool = two_pass_option()
    kernel: str = option("continuous", "form of the dipole kernel", choices=KERNELS)
    padding: int = option(16, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


# More than 8 parameters: each image that may be there or not is named.
def ndi(
    field_ppm: RealArray,
    mask: Mask,
    *,
    scan: Scan,
    weights: RealArray | None = None,
    magnitude_rss: RealArray | None = None,
    relative_residual: RealArray | None = None,
    options: NdiOptions = NdiOptions(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility by gradient descent on a non-linear data term, without a penalty on the image.

    After the first iterations, in which the sine is its argument (see options), descends
    |w (exp(i D x) - exp(i phi))|^2 + alpha |x|^2 from x = 0, x <- x - 2 tau (D' w^2 sin(D x - phi) + alpha x),
    with phi the phase in rad that the field gathers over one echo spacing (over the echo time, when there is one
    echo), and chi = x in ppm. Frequencies where the dipole kernel is large come first, the noise near its zeros last.
    After each iteration x is set to 0 outside the mask, as a tissue field has no sources there.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    scan : geometry, echo times and centre frequency.
    weights : (n0, n1, n2) data weights w >= 0, scaled here so that the 99.9th percentile in the mask is 1, and clipped
        there; None: the magnitude, or the mask where there is none.
    magnitude_rss : (n0, n1, n2), used where `weights` is None.
    relative_residual : (n0, n1, n2) of the echo combination; excludes voxels from the weights, not from the mask.
    options : parameters. Published are 30 to 200 iterations, with sources anywhere. On simulated heads of SNR 50 to
        300, straight and tilted, 100 iterations come within two percentage points of the least error; where there is a
        calcification, even 200 do not reach the error of division. Sources allowed outside the mask take up field next
        to the rim, and the error is then 10 to 20 % above that of division rather than 5 to 20 % below it.
    progress : called as progress(iteration, max_iterations).
    device : "cpu", or a torch device.

    Returns
    -------
    Inversion with chi in ppm, 0 outside the mask; its zero frequency is 0, so reference it afterwards.

    References
    ----------
    Polak 2020.

    Examples
    --------
    A ball of 0.1 ppm and 4 mm radius, from its field by the formula of the sphere:

    >>> import numpy as np
    >>> from qsmprep.scan import Scan
    >>> x, y, z = np.indices((20, 20, 20)) - 9.5
    >>> r = np.sqrt(x**2 + y**2 + z**2)
    >>> field_ppm = np.where(r > 4, 0.1 / 3 * (4 / r) ** 3 * (3 * (z / r) ** 2 - 1), 0)
    >>> scan = Scan((1, 1, 1), echo_times_s=(0.01, 0.02), centre_frequency_mhz=123.2)
    >>> chi = ndi(field_ppm, r < 9, scan=scan).chi_ppm
    >>> round(float(chi[r < 3].mean() - chi[(r > 6) & (r < 9)].mean()), 2)
    0.08
    """
    check_options(options)
    monitored = "relative change of chi" + ("" if options.tolerance else " (number of iterations set)")

    def pose(measured: Measurement) -> tuple[Workspace, Solver]:
        given = phase_input(measured, options, device)
        support = given.work.support() if options.inside_only else given.phase * 0 + 1
        descent = partial(descend, given.phase, given.weights**2, support, given.grid.dipole, options)
        return given.work, lambda *, progress: Solved(*descent(progress), monitored)

    measured = Measurement(field_ppm, mask, scan, weights, magnitude_rss, relative_residual=relative_residual)
    return solve_in_passes(pose, measured, options, progress)


def descend(
    phase: Array,
    weights: Array,
    support: Array,
    dipole: Array,
    options: NdiOptions,
    progress: Progress | None = None,
) -> tuple[Array, list[float], bool]:
    """The iteration, with two pairs of transforms each.

    Parameters
    ----------
    phase, weights : (n0, n1, n2) phase in rad, squared data weights; both 0 outside the mask.
    support : (n0, n1, n2) float, 1 where there may be sources, 0 elsewhere.
    dipole : half spectrum of D.
    options : step, Tikhonov weight, tolerance, number of iterations.
    progress : called as progress(iteration, max_iterations).

    Returns
    -------
    x in rad, its relative change in each iteration, and whether that fell below the tolerance, or all iterations were
    done when there is no tolerance to meet.
    """
    length, decay = 2 * options.step, 1 - 2 * options.step * options.tikhonov
    x, forward = phase * 0, phase * 0
    history: list[float] = []
    while True:
        linear = len(history) < options.linear_iterations
        slope = _convolve(_misfit_slope(forward, phase, weights, linear=linear), dipole)
        x, change, size = _descent_step(x, slope, support, length, decay)
        history.append(change / size if size > 0 else 0.0)
        if progress is not None:
            progress(len(history), options.max_iterations)
        if history[-1] < options.tolerance or len(history) == options.max_iterations:
            return x, history, options.tolerance == 0 or history[-1] < options.tolerance
        forward = _convolve(x, dipole)


def _convolve(image: Array, spectrum: Array) -> Array:
    """Field of an image of sources; `spectrum` is the kernel's half spectrum."""
    transformed, shape = rfftn(image), tuple(image.shape)
    if is_tensor(image):
        return irfftn(transformed * spectrum, shape)
    transformed = np.ascontiguousarray(transformed)
    _multiply(transformed.reshape(-1), spectrum.reshape(-1))
    return irfftn(transformed, shape)


def _misfit_slope(forward: Array, phase: Array, weights: Array, *, linear: bool) -> Array:
    """W sin(D x - phase), or W (D x - phase); in the memory of `forward` (D x) if it is no tensor."""
    if linear:
        forward -= phase
        forward *= weights
        return forward
    if is_tensor(forward):
        return weights * (forward - phase).sin()
    _sine_of_misfit(forward.reshape(-1), phase.reshape(-1), weights.reshape(-1))
    return forward


def _descent_step(x: Array, slope: Array, support: Array, length: float, decay: float) -> tuple[Array, float, float]:
    """x <- support (decay x - length slope), |change of x| and |x|."""
    if is_tensor(x):
        import torch

        after = support * (decay * x - length * slope)
        change, size = (math.sqrt(float((a * a).sum(dtype=torch.float64))) for a in (after - x, after))
        return after, change, size
    norms = np.empty((2, x.shape[0]))
    kind = x.dtype.type
    _step_in_image(x, slope, support, kind(length), kind(decay), norms)
    return x, math.sqrt(math.fsum(norms[0])), math.sqrt(math.fsum(norms[1]))


@jit(parallel=True)
def _sine_of_misfit(forward: FloatImage, phase: FloatImage, weights: FloatImage) -> None:
    one, half, two = np.float32(1), np.float32(0.5), np.float32(2)
    turn, per_turn = np.float32(2 * np.pi), np.float32(0.5 / np.pi)
    s3, s5, s7, s9, s11 = (
        np.float32(-1 / 6),
        np.float32(1 / 120),
        np.float32(-1 / 5040),
        np.float32(1 / 362880),
        np.float32(-1 / 39916800),
    )
    c2, c4, c6, c8, c10, c12 = (
        np.float32(-1 / 2),
        np.float32(1 / 24),
        np.float32(-1 / 720),
        np.float32(1 / 40320),
        np.float32(-1 / 3628800),
        np.float32(1 / 479001600),
    )
    for i in prange(forward.size):
        miss = forward[i] - phase[i]
        miss -= turn * np.floor(miss * per_turn + half)
        h = half * miss  # |h| <= pi/2: series of the half angle reach float32 precision, and vectorise
        q = h * h
        sine = h * (one + q * (s3 + q * (s5 + q * (s7 + q * (s9 + q * s11)))))
        cosine = one + q * (c2 + q * (c4 + q * (c6 + q * (c8 + q * (c10 + q * c12)))))
        forward[i] = weights[i] * two * sine * cosine


@jit(parallel=True)
def _step_in_image(
    x: FloatImage, slope: FloatImage, support: FloatImage, length: Scalar, decay: Scalar, norms: DoubleArray
) -> None:
    n0, n1, n2 = x.shape
    for a in prange(n0):
        change, size = np.zeros(n2), np.zeros(n2)  # sums by column vectorise in a fixed order
        for b in range(n1):
            for c in range(n2):
                before = x[a, b, c]
                after = support[a, b, c] * (decay * before - length * slope[a, b, c])
                x[a, b, c] = after
                change[c] += np.float64(after - before) ** 2
                size[c] += np.float64(after) ** 2
        norms[0, a] = change.sum()
        norms[1, a] = size.sum()


@jit(parallel=True)
def _multiply(spectrum: ComplexImage, factors: FloatImage) -> None:
    for i in prange(spectrum.size):
        value, factor = spectrum[i], factors[i]
        spectrum[i] = complex(factor * value.real, factor * value.imag)
