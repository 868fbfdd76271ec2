"""iLSQR: a least-squares map, and the streaks near the dipole kernel's zeros estimated and subtracted from it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.holes import residual_threshold_option, two_pass_option
from qsmprep.inversion.inputs import Measurement
from qsmprep.inversion.solving import Solved, Solver, Workspace, solve_in_passes
from qsmprep.numerics.arrays import Array, ComplexImage, FloatImage, Mask, RealArray, Scalar
from qsmprep.numerics.dipole import KERNELS, dipole_kernel
from qsmprep.numerics.fourier import half_shape, irfftn, is_tensor, rfftn, to_device, to_numpy
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.krylov import Solution, lsmr
from qsmprep.numerics.operators import gradient, gradient_adjoint, sphere_kernel
from qsmprep.numerics.progress import Progress, continued
from qsmprep.numerics.volume import frame_around
from qsmprep.options import check_options, option
from qsmprep.scan import Scan, Triple

LAPLACIAN_PERCENTILES = (60, 99.9)  # of the field: full weight below, none above
GRADIENT_PERCENTILES = (50, 70)  # of the fast map: likewise
KERNEL_POWER = 0.001  # of |D|, whose percentiles below bound the frequencies that the fast map smooths
KERNEL_PERCENTILES = (1, 30)
SPHERE_MM = 3.0


@dataclass(frozen=True)
class IlsqrOptions:
    """Options of iLSQR."""

    max_iterations: int = option(100, "cap on iterations of each of the two solves", low=1, high=1000)
    tolerance: float = option(3e-4, "relative normal residual at which the solve for the map stops", low=0, high=1)
    streak_tolerance: float = option(
        0.02, "relative normal residual at which the solve for the streaks stops", low=0, high=1
    )
    cone: float = option(0.1, "value of |D| below which streaks are looked for", low=1e-3, high=2 / 3)
    absolute_laplacian: bool = option(
        False, "weight the data by the size of the field's Laplacian instead of its signed value"
    )
    absolute_gradient: bool = option(
        True, "weight gradients by the size of those of the fast map instead of their signed value"
    )
    residual_threshold: float = residual_threshold_option()
    two_pass: bool = two_pass_option()
    kernel: str = option("continuous", "form of the dipole kernel", choices=KERNELS)
    padding: int = option(16, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


def ilsqr(
    field_ppm: RealArray,
    mask: Mask,
    *,
    scan: Scan,
    relative_residual: RealArray | None = None,
    options: IlsqrOptions = IlsqrOptions(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility by weighted least squares, less the streaks that this leaves near the kernel's zeros.

    1. Weights W of the data from the field's Laplacian: voxels of abrupt field weigh less.
    2. chi_0 = least-squares solution of D W D chi = D W f.
    3. A fast map, F^-1 [sign(D) F f] smoothed near the kernel's zeros, for the weights w of the gradients.
    4. Streaks = the part with frequencies in the cone |D| < `cone` whose gradients fit those of chi_0 where the fast
       map is flat: min |w grad(chi_0 - streaks)|^2.
    5. chi = chi_0 - streaks.

    The published scaling of the fast map to one by division is left out: the percentiles that make w do not see it.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    scan : geometry; gradients are per mm.
    relative_residual : (n0, n1, n2) of the echo combination; excludes voxels from the weights, not from the mask.
    options : parameters. Signed percentiles, as published for both weights, take every edge at which the fast map falls
        for a streak: on simulated heads that more than doubles the error, so gradients are weighed by their size here.
        The published solve for the map ends at 50 iterations, far from its tolerance of 1 % of unexplained data, and
        with less of a nucleus's susceptibility; the default needs 80 to 90. The error is then 5 to 15 % below that of
        division on simulated heads, but above it where susceptibility varies within tissues or there is a bleed or a
        calcification.
    progress : called as progress(iteration, cap), the iterations of both solves counted together.
    device : "cpu", or a torch device.

    Returns
    -------
    Inversion with chi in ppm, 0 outside the mask, and the convergence of both solves, one after the other.

    References
    ----------
    Li 2015.

    Examples
    --------
    A ball of 0.1 ppm and 4 mm radius, from its field by the formula of the sphere:

    >>> import numpy as np
    >>> from qsmprep.scan import Scan
    >>> x, y, z = np.indices((20, 20, 20)) - 9.5
    >>> r = np.sqrt(x**2 + y**2 + z**2)
    >>> field_ppm = np.where(r > 4, 0.1 / 3 * (4 / r) ** 3 * (3 * (z / r) ** 2 - 1), 0)
    >>> chi = ilsqr(field_ppm, r < 9, scan=Scan((1, 1, 1))).chi_ppm
    >>> round(float(chi[r < 3].mean() - chi[(r > 6) & (r < 9)].mean()), 2)
    0.08
    """
    check_options(options)

    def pose(measured: Measurement) -> tuple[Workspace, Solver]:
        begin, h = time.perf_counter(), scan.voxel_size_mm
        field, inside, usable = measured.checked(options.residual_threshold)
        work = Workspace(frame_around(inside, padding=options.padding), inside, device, begin)
        crop = work.frame.crop
        field, here, usable = crop(field * usable), crop(inside), crop(usable)
        dipole = dipole_kernel(field.shape, h, scan.b0_direction, kind=options.kernel)
        weights = laplacian_weights(field, here, h, absolute=options.absolute_laplacian)
        weights[here & ~usable] = 0
        return work, partial(_two_solves, work, field, weights, dipole, h, options)

    measured = Measurement(field_ppm, mask, scan, relative_residual=relative_residual)
    return solve_in_passes(pose, measured, options, progress)


def _two_solves(
    work: Workspace,
    field: FloatImage,
    weights: FloatImage,
    dipole: FloatImage,
    voxel_size_mm: Triple,
    options: IlsqrOptions,
    *,
    progress: Progress | None,
) -> Solved:
    """The map and its streaks; images and kernel are numpy arrays of the padded grid."""
    here, device, total = work.frame.crop(work.inside), work.device, 2 * options.max_iterations
    data, weighed, mask = (to_device(image, device) for image in (field, weights, here.astype(np.float32)))
    initial, first = initial_map(
        data,
        weighed,
        mask,
        to_device(dipole, device),
        tolerance=options.tolerance,
        max_iterations=options.max_iterations,
        progress=continued(progress, 0, total),
    )
    fast = fast_map(data, mask, dipole, voxel_size_mm, device)
    weights = flatness(to_numpy(fast), here, voxel_size_mm, absolute=options.absolute_gradient)
    cone = to_device((np.abs(dipole) < options.cone).astype(np.float32), device)
    del fast, dipole
    streaks, second = streak_map(
        initial,
        to_device(weights, device),
        cone,
        voxel_size_mm,
        tolerance=options.streak_tolerance,
        max_iterations=options.max_iterations,
        progress=continued(progress, first.iterations, total),
    )
    return Solved(
        initial - streaks,
        first.history + second.history,
        first.converged and second.converged,
        f"normal residual of the initial map ({first.iterations} iterations), then of the streaks",
        second=len(first.history) + 1,
    )


def laplacian_weights(field: FloatImage, mask: Mask, voxel_size_mm: Triple, *, absolute: bool) -> FloatImage:
    """Weight of each voxel from the field's 7-point Laplacian, taken between voxels of the mask; 1 outside it.

    Outside, the field counts as measured to be 0, as published: without that, sources out there take part of the field
    of those inside.
    """
    bent: FloatImage = np.zeros_like(field)
    for axis, size in enumerate(voxel_size_mm):
        step = (np.roll(field, -1, axis) - field) * (mask & np.roll(mask, -1, axis)) / np.float32(size**2)
        bent += step - np.roll(step, 1, axis)
    return np.where(mask, _ramp(np.abs(bent) if absolute else bent, mask, LAPLACIAN_PERCENTILES), np.float32(1))


def flatness(image: FloatImage, mask: Mask, voxel_size_mm: Triple, *, absolute: bool) -> FloatImage:
    """Weight of each gradient component, (3, n0, n1, n2): 1 where the image is flat, 0 on its edges and at the rim."""
    steps: FloatImage = gradient(np.ascontiguousarray(image), voxel_size_mm)
    for axis in range(3):
        between = mask & np.roll(mask, -1, axis)
        steps[axis] = _ramp(np.abs(steps[axis]) if absolute else steps[axis], between, GRADIENT_PERCENTILES)
    return steps


def _ramp(values: FloatImage, mask: Mask, percentiles: tuple[float, float]) -> FloatImage:
    """1 below the first percentile of the values in the mask, 0 above the second, linear between; 0 outside."""
    if not mask.any():
        return np.zeros_like(values)
    low, high = (np.float32(v) for v in np.percentile(values[mask], percentiles))
    if high == low:
        return ((values <= low) & mask).astype(np.float32)
    ramp: FloatImage = np.clip((high - values) / (high - low), 0, 1) * mask
    return ramp


def initial_map(
    field: Array,
    weights: Array,
    mask: Array,
    dipole: Array,
    *,
    tolerance: float,
    max_iterations: int,
    progress: Progress | None = None,
) -> tuple[Array, Solution]:
    """Least squares of D W D chi = D W f, times the mask; the unknown is chi's spectrum."""
    operator = WeightedField(dipole, weights)
    solution = lsmr(
        operator.apply,
        operator.apply,
        operator.data(field),
        tolerance=tolerance,
        max_iterations=max_iterations,
        progress=progress,
    )
    return mask * image_of(solution.x, dipole * 0 + 1 / unit_scale(field), tuple(field.shape)), solution


def fast_map(field: Array, mask: Array, dipole: FloatImage, voxel_size_mm: Triple, device: str = "cpu") -> Array:
    """The fast map up to a factor and a constant: the field with the kernel's sign, twice smoothed near its zeros."""
    shape = tuple(field.shape)
    size = np.abs(dipole)
    whole = np.concatenate([size, size[..., 1 : (shape[2] + 1) // 2]], axis=2)  # with the conjugate frequencies
    low, high = np.percentile(whole, KERNEL_PERCENTILES) ** KERNEL_POWER
    trust = np.clip((size.astype(np.float64) ** KERNEL_POWER - low) / (high - low), 0, 1)
    smooth = (trust + (1 - trust) * sphere_kernel(shape, voxel_size_mm, SPHERE_MM)).astype(np.float32)
    first = mask * irfftn(rfftn(field) * to_device(np.sign(dipole) * smooth, device), shape)
    return mask * irfftn(rfftn(first) * to_device(smooth, device), shape)


def streak_map(
    initial: Array,
    weights: Array,
    cone: Array,
    voxel_size_mm: Triple,
    *,
    tolerance: float,
    max_iterations: int,
    progress: Progress | None = None,
) -> tuple[Array, Solution]:
    """The image with frequencies in the cone whose weighted gradients fit those of `initial` best."""
    operator = ConeGradient(cone, weights, voxel_size_mm)
    solution = lsmr(
        operator.forward,
        operator.adjoint,
        weighted_gradient(initial, weights, voxel_size_mm),
        tolerance=tolerance,
        max_iterations=max_iterations,
        progress=progress,
    )
    return operator.image(solution.x), solution


class WeightedField:
    """The operator D W D: symmetric, on unknowns as `unknown_of` makes them, with one pair of transforms."""

    def __init__(self, dipole: Array, weights: Array):
        row = unit_scale(weights)
        self.to_unknown, self.to_spectrum = dipole * row, dipole / row
        self.weights, self.shape = weights, tuple(weights.shape)

    def data(self, field: Array) -> Array:
        """D W f as unknown."""
        return unknown_of(self.weights * field, self.to_unknown)

    def apply(self, unknown: Array) -> Array:
        """D W D u."""
        image = image_of(unknown, self.to_spectrum, self.shape)
        image *= self.weights
        return unknown_of(image, self.to_unknown)


class ConeGradient:
    """Weighted gradient of an image that has frequencies in the cone only, on unknowns as `unknown_of` makes them."""

    def __init__(self, cone: Array, weights: Array, voxel_size_mm: Triple):
        row = unit_scale(weights[0])
        self.to_unknown, self.to_spectrum = cone * row, cone / row
        self.weights, self.voxel_size_mm, self.shape = weights, voxel_size_mm, tuple(weights.shape[1:])

    def image(self, unknown: Array) -> Array:
        """The image (n0, n1, n2) of an unknown."""
        return image_of(unknown, self.to_spectrum, self.shape)

    def forward(self, unknown: Array) -> Array:
        """Unknown -> (3, n0, n1, n2) weighted gradient."""
        return weighted_gradient(self.image(unknown), self.weights, self.voxel_size_mm)

    def adjoint(self, components: Array) -> Array:
        """(3, n0, n1, n2) -> unknown."""
        return unknown_of(weighted_gradient_adjoint(components, self.weights, self.voxel_size_mm), self.to_unknown)


def unit_scale(image: Array) -> Array:
    """Factors (n2 // 2 + 1,) that make the half spectrum of a real image as long, as a real vector, as the image is.

    Frequencies whose conjugates the half spectrum leaves out count twice; solving for such spectra rather than for
    images saves half of the Fourier transforms.
    """
    last = image.shape[2]
    row = np.full(last // 2 + 1, np.sqrt(2.0))
    row[0] = 1
    if last % 2 == 0:
        row[-1] = 1
    row /= np.sqrt(float(np.prod(image.shape)))
    if is_tensor(image):
        import torch

        return torch.as_tensor(row, dtype=image.dtype, device=image.device)
    return row.astype(image.dtype)


def unknown_of(image: Array, factors: Array) -> Array:
    """Half spectrum of an image times real factors, as a real vector."""
    spectrum = rfftn(image)
    if is_tensor(image):
        import torch

        return torch.view_as_real((spectrum * factors).contiguous()).reshape(-1)
    spectrum = np.ascontiguousarray(spectrum)
    _multiply(spectrum.reshape(-1), np.ascontiguousarray(factors).reshape(-1), spectrum.reshape(-1))
    return spectrum.view(image.dtype).reshape(-1)


def image_of(unknown: Array, factors: Array, shape: tuple[int, int, int]) -> Array:
    """Image whose half spectrum is the unknown times real factors."""
    if is_tensor(unknown):
        import torch

        return irfftn(torch.view_as_complex(unknown.reshape(*half_shape(shape), 2)) * factors, shape)
    spectrum = unknown.view(np.result_type(unknown.dtype, np.complex64))
    scaled = np.empty(half_shape(shape), spectrum.dtype)
    _multiply(spectrum, np.ascontiguousarray(factors).reshape(-1), scaled.reshape(-1))
    return irfftn(scaled, shape)


def weighted_gradient(image: Array, weights: Array, voxel_size_mm: Triple) -> Array:
    """Components of the gradient times their weights: (n0, n1, n2) -> (3, n0, n1, n2)."""
    if is_tensor(image):
        return gradient(image, voxel_size_mm) * weights
    out = np.empty(weights.shape, image.dtype)
    i0, i1, i2 = (image.dtype.type(1 / h) for h in voxel_size_mm)
    _weighted_gradient(image, weights, i0, i1, i2, out)
    return out


def weighted_gradient_adjoint(components: Array, weights: Array, voxel_size_mm: Triple) -> Array:
    """Adjoint of `weighted_gradient`."""
    if is_tensor(components):
        return gradient_adjoint(components * weights, voxel_size_mm)
    out = np.empty(weights.shape[1:], components.dtype)
    i0, i1, i2 = (components.dtype.type(1 / h) for h in voxel_size_mm)
    _weighted_gradient_adjoint(components, weights, i0, i1, i2, out)
    return out


@jit(parallel=True)
def _multiply(spectrum: ComplexImage, factors: FloatImage, out: ComplexImage) -> None:
    for i in prange(spectrum.size):
        value, factor = spectrum[i], factors[i]
        out[i] = complex(factor * value.real, factor * value.imag)


@jit(parallel=True)
def _weighted_gradient(x: FloatImage, weights: FloatImage, i0: Scalar, i1: Scalar, i2: Scalar, out: FloatImage) -> None:
    n0, n1, n2 = x.shape
    for a in prange(n0):
        nexta = a + 1 if a + 1 < n0 else 0
        for b in range(n1):
            nextb = b + 1 if b + 1 < n1 else 0
            for c in range(n2):
                nextc = c + 1 if c + 1 < n2 else 0
                v = x[a, b, c]
                out[0, a, b, c] = weights[0, a, b, c] * (x[nexta, b, c] - v) * i0
                out[1, a, b, c] = weights[1, a, b, c] * (x[a, nextb, c] - v) * i1
                out[2, a, b, c] = weights[2, a, b, c] * (x[a, b, nextc] - v) * i2


@jit(parallel=True)
def _weighted_gradient_adjoint(
    g: FloatImage, weights: FloatImage, i0: Scalar, i1: Scalar, i2: Scalar, out: FloatImage
) -> None:
    n0, n1, n2 = out.shape
    for a in prange(n0):
        for b in range(n1):
            for c in range(n2):
                before = c - 1 if c > 0 else n2 - 1
                out[a, b, c] = (
                    (weights[0, a - 1, b, c] * g[0, a - 1, b, c] - weights[0, a, b, c] * g[0, a, b, c]) * i0
                    + (weights[1, a, b - 1, c] * g[1, a, b - 1, c] - weights[1, a, b, c] * g[1, a, b, c]) * i1
                    + (weights[2, a, b, before] * g[2, a, b, before] - weights[2, a, b, c] * g[2, a, b, c]) * i2
                )
