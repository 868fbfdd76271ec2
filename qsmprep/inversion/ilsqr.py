"""iLSQR: a least-squares map, and the streaks near the dipole kernel's zeros estimated and subtracted from it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.holes import handles_holes, residual_threshold_option, two_pass_option
from qsmprep.inversion.inputs import checked_field, reliable
from qsmprep.numerics.convergence import Convergence
from qsmprep.numerics.dipole import KINDS, dipole_kernel
from qsmprep.numerics.fourier import half_shape, irfftn, is_tensor, rfftn, to_device, to_numpy
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.krylov import Solution, lsmr
from qsmprep.numerics.operators import gradient, gradient_adjoint, sphere_kernel
from qsmprep.numerics.volume import frame_around
from qsmprep.options import check_options, option

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
    kernel: str = option("continuous", "form of the dipole kernel", choices=KINDS)
    padding: int = option(16, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


@handles_holes
def ilsqr(
    field_ppm: np.ndarray,
    mask: np.ndarray,
    *,
    voxel_size_mm: tuple[float, float, float],
    b0_direction: tuple[float, float, float],
    relative_residual: np.ndarray | None = None,
    options: IlsqrOptions = IlsqrOptions(),
    progress: Callable[[int, int], None] | None = None,
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
    voxel_size_mm : edge lengths in mm; gradients are per mm.
    b0_direction : direction of B0 in voxel axes.
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
    """
    check_options(options)
    begin = time.perf_counter()
    field, inside, measured = checked_field(field_ppm, mask)
    measured &= reliable(inside, relative_residual, options.residual_threshold)
    frame = frame_around(inside, padding=options.padding)
    shape = frame.padded_shape
    field, inside_here, measured = (frame.crop(image) for image in (field * measured, inside, measured))
    dipole = dipole_kernel(shape, voxel_size_mm, b0_direction, kind=options.kernel)
    weights = laplacian_weights(field, inside_here, voxel_size_mm, absolute=options.absolute_laplacian)
    weights[inside_here & ~measured] = 0
    there = [to_device(image, device) for image in (field, weights, inside_here.astype(np.float32))]
    total = 2 * options.max_iterations
    initial, first = initial_map(*there, to_device(dipole, device), options, _after(progress, 0, total))
    fast = fast_map(there[0], there[2], dipole, voxel_size_mm, device)
    weights = flatness(to_numpy(fast), inside_here, voxel_size_mm, absolute=options.absolute_gradient)
    cone = to_device((np.abs(dipole) < options.cone).astype(np.float32), device)
    del fast, dipole
    streaks, second = streak_map(
        initial, to_device(weights, device), cone, voxel_size_mm, options, _after(progress, first.iterations, total)
    )
    chi = frame.restore(to_numpy(initial - streaks))
    chi[~inside] = 0
    convergence = Convergence(
        first.iterations + second.iterations,
        first.converged and second.converged,
        first.history + second.history,
        f"normal residual of the initial map ({first.iterations} iterations), then of the streaks",
        time.perf_counter() - begin,
    )
    return Inversion(chi, inside, convergence)


def laplacian_weights(
    field: np.ndarray, mask: np.ndarray, voxel_size_mm: tuple[float, float, float], *, absolute: bool
) -> np.ndarray:
    """Weight of each voxel from the field's 7-point Laplacian, taken between voxels of the mask; 1 outside it.

    Outside, the field counts as measured to be 0, as published: without that, sources out there take part of the field
    of those inside.
    """
    bent = np.zeros_like(field)
    for axis, size in enumerate(voxel_size_mm):
        step = (np.roll(field, -1, axis) - field) * (mask & np.roll(mask, -1, axis)) / np.float32(size**2)
        bent += step - np.roll(step, 1, axis)
    return np.where(mask, _ramp(np.abs(bent) if absolute else bent, mask, LAPLACIAN_PERCENTILES), np.float32(1))


def flatness(
    image: np.ndarray, mask: np.ndarray, voxel_size_mm: tuple[float, float, float], *, absolute: bool
) -> np.ndarray:
    """Weight of each gradient component, (3, n0, n1, n2): 1 where the image is flat, 0 on its edges and at the rim."""
    steps = gradient(np.ascontiguousarray(image), voxel_size_mm)
    for axis in range(3):
        between = mask & np.roll(mask, -1, axis)
        steps[axis] = _ramp(np.abs(steps[axis]) if absolute else steps[axis], between, GRADIENT_PERCENTILES)
    return steps


def _ramp(values: np.ndarray, mask: np.ndarray, percentiles: tuple[float, float]) -> np.ndarray:
    """1 below the first percentile of the values in the mask, 0 above the second, linear between; 0 outside."""
    if not mask.any():
        return np.zeros_like(values)
    low, high = (np.float32(v) for v in np.percentile(values[mask], percentiles))
    if high == low:
        return ((values <= low) & mask).astype(np.float32)
    return np.clip((high - values) / (high - low), 0, 1) * mask


def initial_map(
    field: Any,
    weights: Any,
    mask: Any,
    dipole: Any,
    options: IlsqrOptions,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Any, Solution]:
    """Least squares of D W D chi = D W f, times the mask; the unknown is chi's spectrum."""
    operator = WeightedField(dipole, weights)
    solution = lsmr(
        operator.apply,
        operator.apply,
        operator.data(field),
        tolerance=options.tolerance,
        max_iterations=options.max_iterations,
        progress=progress,
    )
    return mask * image_of(solution.x, dipole * 0 + 1 / unit_scale(field), tuple(field.shape)), solution


def fast_map(
    field: Any, mask: Any, dipole: np.ndarray, voxel_size_mm: tuple[float, float, float], device: str = "cpu"
) -> Any:
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
    initial: Any,
    weights: Any,
    cone: Any,
    voxel_size_mm: tuple[float, float, float],
    options: IlsqrOptions,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Any, Solution]:
    """The image with frequencies in the cone whose weighted gradients fit those of `initial` best."""
    operator = ConeGradient(cone, weights, voxel_size_mm)
    solution = lsmr(
        operator.forward,
        operator.adjoint,
        weighted_gradient(initial, weights, voxel_size_mm),
        tolerance=options.streak_tolerance,
        max_iterations=options.max_iterations,
        progress=progress,
    )
    return operator.image(solution.x), solution


class WeightedField:
    """The operator D W D: symmetric, on unknowns as `unknown_of` makes them, with one pair of transforms."""

    def __init__(self, dipole: Any, weights: Any):
        row = unit_scale(weights)
        self.to_unknown, self.to_spectrum = dipole * row, dipole / row
        self.weights, self.shape = weights, tuple(weights.shape)

    def data(self, field: Any) -> Any:
        """D W f as unknown."""
        return unknown_of(self.weights * field, self.to_unknown)

    def apply(self, unknown: Any) -> Any:
        """D W D u."""
        image = image_of(unknown, self.to_spectrum, self.shape)
        image *= self.weights
        return unknown_of(image, self.to_unknown)


class ConeGradient:
    """Weighted gradient of an image that has frequencies in the cone only, on unknowns as `unknown_of` makes them."""

    def __init__(self, cone: Any, weights: Any, voxel_size_mm: tuple[float, float, float]):
        row = unit_scale(weights[0])
        self.to_unknown, self.to_spectrum = cone * row, cone / row
        self.weights, self.voxel_size_mm, self.shape = weights, voxel_size_mm, tuple(weights.shape[1:])

    def image(self, unknown: Any) -> Any:
        """The image (n0, n1, n2) of an unknown."""
        return image_of(unknown, self.to_spectrum, self.shape)

    def forward(self, unknown: Any) -> Any:
        """Unknown -> (3, n0, n1, n2) weighted gradient."""
        return weighted_gradient(self.image(unknown), self.weights, self.voxel_size_mm)

    def adjoint(self, components: Any) -> Any:
        """(3, n0, n1, n2) -> unknown."""
        return unknown_of(weighted_gradient_adjoint(components, self.weights, self.voxel_size_mm), self.to_unknown)


def unit_scale(image: Any) -> Any:
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


def unknown_of(image: Any, factors: Any) -> Any:
    """Half spectrum of an image times real factors, as a real vector."""
    spectrum = rfftn(image)
    if is_tensor(image):
        import torch

        return torch.view_as_real((spectrum * factors).contiguous()).reshape(-1)
    spectrum = np.ascontiguousarray(spectrum)
    _multiply(spectrum.reshape(-1), np.ascontiguousarray(factors).reshape(-1), spectrum.reshape(-1))
    return spectrum.view(image.dtype).reshape(-1)


def image_of(unknown: Any, factors: Any, shape: tuple[int, int, int]) -> Any:
    """Image whose half spectrum is the unknown times real factors."""
    if is_tensor(unknown):
        import torch

        return irfftn(torch.view_as_complex(unknown.reshape(*half_shape(shape), 2)) * factors, shape)
    spectrum = unknown.view(np.result_type(unknown.dtype, np.complex64))
    scaled = np.empty(half_shape(shape), spectrum.dtype)
    _multiply(spectrum, np.ascontiguousarray(factors).reshape(-1), scaled.reshape(-1))
    return irfftn(scaled, shape)


def weighted_gradient(image: Any, weights: Any, voxel_size_mm: tuple[float, float, float]) -> Any:
    """Components of the gradient times their weights: (n0, n1, n2) -> (3, n0, n1, n2)."""
    if is_tensor(image):
        return gradient(image, voxel_size_mm) * weights
    out = np.empty(weights.shape, image.dtype)
    _weighted_gradient(image, weights, *(image.dtype.type(1 / h) for h in voxel_size_mm), out)
    return out


def weighted_gradient_adjoint(components: Any, weights: Any, voxel_size_mm: tuple[float, float, float]) -> Any:
    """Adjoint of `weighted_gradient`."""
    if is_tensor(components):
        return gradient_adjoint(components * weights, voxel_size_mm)
    out = np.empty(weights.shape[1:], components.dtype)
    _weighted_gradient_adjoint(components, weights, *(components.dtype.type(1 / h) for h in voxel_size_mm), out)
    return out


def _after(progress: Callable[[int, int], None] | None, done: int, total: int) -> Callable[[int, int], None] | None:
    """Progress of one of the two solves, counted on from `done` towards a common total."""
    return None if progress is None else lambda iteration, _: progress(done + iteration, total)


@jit(parallel=True)
def _multiply(spectrum, factors, out):
    for i in prange(spectrum.size):
        value, factor = spectrum[i], factors[i]
        out[i] = complex(factor * value.real, factor * value.imag)


@jit(parallel=True)
def _weighted_gradient(x, weights, i0, i1, i2, out):
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
def _weighted_gradient_adjoint(g, weights, i0, i1, i2, out):
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
