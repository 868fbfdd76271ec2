"""MEDI-L1: morphology enabled dipole inversion, with spherical mean filter (SMV) and model error reduction (MERIT)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qsmprep.convergence import Convergence
from qsmprep.dipole import KINDS
from qsmprep.fourier import irfftn, is_tensor, rfftn, to_device, to_numpy
from qsmprep.inversion import Inversion
from qsmprep.inversion.edges import edge_mask
from qsmprep.inversion.inputs import checked_field, checked_image, radians_per_ppm, reliable
from qsmprep.inversion.lagged import diffuse, diffusivity
from qsmprep.inversion.spectral import Spectra, pack, spectra, unpack
from qsmprep.operators import sphere_kernel
from qsmprep.options import check_options, option
from qsmprep.proximal import relative_change
from qsmprep.solvers import conjugate_gradient, norm
from qsmprep.volume import frame_around


@dataclass(frozen=True)
class MediOptions:
    """Options of MEDI; the defaults are the consensus settings."""

    data_weight: float = option(2000.0, "Weight lambda of the data term against total variation.", low=1e-6)
    edge_percentage: float = option(
        0.9, "Edge components of the magnitude's gradient, as a fraction of the mask voxels.", low=0, high=3
    )
    smv_radius: float = option(5.0, "Radius of the spherical mean filter; 0 turns it off.", unit="voxels", low=0, high=50)
    merit: bool = option(True, "Lower the weight of voxels that the model does not fit, after each outer iteration.")
    residual_threshold: float = option(
        0.3, "Relative residual of the echo combination above which a voxel has no weight.", low=0
    )
    max_iterations: int = option(10, "Cap on outer (Gauss-Newton) iterations.", low=1, high=1000)
    tolerance: float = option(0.1, "Relative change of chi at which to stop.", low=0, high=1)
    cg_iterations: int = option(100, "Cap on conjugate gradient iterations in each outer iteration.", low=1, high=10000)
    cg_tolerance: float = option(0.01, "Relative residual at which conjugate gradients stop.", low=0, high=1)
    smoothing: float = option(1e-6, "Added to the squared gradient before its root.", low=1e-12)
    kernel: str = option("continuous", "Form of the dipole kernel.", choices=KINDS)
    padding: int = option(16, "Zeros added to each axis before the transform.", unit="voxels", low=0, high=1024)


@dataclass(frozen=True)
class _Problem:
    """What the iteration works on, padded, on its device.

    Attributes
    ----------
    phase, weights : measured phase in rad and data weights m, 0 outside the mask.
    noise : the noise map behind the weights, 0 where there is no weight.
    penalised : (3, n0, n1, n2) bool, gradient components that are no edges.
    grid : spectra, the dipole kernel already filtered by SMV.
    """

    phase: Any
    weights: Any
    noise: Any
    penalised: Any
    grid: Spectra
    voxel_size_mm: tuple[float, float, float]


def medi(
    field_ppm: np.ndarray,
    mask: np.ndarray,
    *,
    voxel_size_mm: tuple[float, float, float],
    b0_direction: tuple[float, float, float],
    centre_frequency_mhz: float,
    echo_times_s: np.ndarray,
    weights: np.ndarray | None = None,
    noise_hz: np.ndarray | None = None,
    magnitude: np.ndarray | None = None,
    relative_residual: np.ndarray | None = None,
    options: MediOptions = MediOptions(),
    progress: Callable[[int, int], None] | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility with gradients allowed where the magnitude has edges, and a non-linear data term.

    min over x of lambda |m (exp(i D x) - exp(i f))|^2 + |w grad x|_1, with f the phase in rad that the field gathers
    over one echo spacing (over the echo time, when there is one echo), and chi = x in ppm. Gauss-Newton, each step
    solved by conjugate gradients in k-space with the spectrum's diagonal as preconditioner.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    voxel_size_mm : edge lengths in mm; gradients are per mm.
    b0_direction : direction of B0 in voxel axes.
    centre_frequency_mhz : of the scanner.
    echo_times_s : (n_echo,) ascending.
    weights : (n0, n1, n2) data weights m >= 0, scaled here to a mean of 1 in the mask.
    noise_hz : (n0, n1, n2) noise of the field, any scale; gives m = 1 / noise and takes precedence over `weights`.
    magnitude : (n0, n1, n2) for the edges; also for m where neither weights nor noise are given. None: no edges.
    relative_residual : (n0, n1, n2) of the echo combination; excludes voxels from the weights, not from the mask.
    options : parameters.
    progress : called as progress(outer iteration, max_iterations).
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
    """
    check_options(options)
    begin = time.perf_counter()
    field, inside, measured = checked_field(field_ppm, mask)
    magnitude = checked_image(magnitude, inside, "The magnitude")
    noise = _noise_map(inside, weights, noise_hz, magnitude)
    noise[~(measured & reliable(inside, relative_residual, options.residual_threshold))] = 0
    scale = np.float32(radians_per_ppm(centre_frequency_mhz, echo_times_s))
    radius_mm = options.smv_radius * min(voxel_size_mm)
    frame = frame_around(inside, padding=max(options.padding, math.ceil(options.smv_radius)))
    shape = frame.padded_shape
    phase, kept, noise = frame.crop(field * scale), frame.crop(inside), frame.crop(noise)
    penalised = np.ones((3, *shape), bool)
    if magnitude is not None:
        penalised = edge_mask(frame.crop(magnitude), kept, voxel_size_mm, options.edge_percentage)
    grid = spectra(shape, voxel_size_mm, b0_direction, kernel=options.kernel, device=device)
    if radius_mm >= min(voxel_size_mm):
        sphere = sphere_kernel(shape, voxel_size_mm, radius_mm)
        phase, kept, noise = _spherical_mean_filter(phase, kept, noise, sphere)
        grid = replace(grid, dipole=grid.dipole * to_device(1 - sphere, device))
    problem = _Problem(
        phase=to_device(phase, device),
        weights=to_device(data_weights(noise, kept), device),
        noise=to_device(noise, device),
        penalised=to_device(penalised, device),
        grid=grid,
        voxel_size_mm=voxel_size_mm,
    )
    x, history, converged = _gauss_newton(problem, to_device(kept, device), options, progress)
    inside = frame.restore(kept)
    chi = frame.restore(to_numpy(x)) / scale
    chi[~inside] = 0
    seconds = time.perf_counter() - begin
    return Inversion(
        chi, inside, Convergence(len(history), converged, tuple(history), "relative change of chi", seconds)
    )


def data_weights(noise: Any, mask: Any) -> Any:
    """m = 1 / noise, 0 where the noise is 0 or outside the mask, scaled to a mean of 1 over the mask."""
    counted = (noise > 0) & (mask > 0)
    if is_tensor(noise):
        weights = counted / noise.where(counted, noise * 0 + 1)
        return weights * (float(mask.sum()) / float(weights.double().sum()))
    weights = np.divide(1, noise, out=np.zeros_like(noise), where=counted)
    total = float(weights.sum(dtype=np.float64))
    if total == 0:
        raise ValueError("No voxel of the mask has a data weight above 0.")
    weights *= np.float32(np.count_nonzero(mask) / total)
    return weights


def _noise_map(inside, weights, noise_hz, magnitude) -> np.ndarray:
    """Noise up to a factor, 0 where unknown: as given, else 1 / weights, else 1 / magnitude, else 1."""
    noise = checked_image(noise_hz, inside, "The noise map")
    if noise is not None:
        return noise
    weights = checked_image(weights, inside, "The weight image")
    weights = magnitude if weights is None else weights
    if weights is None:
        return inside.astype(np.float32)
    return np.divide(1, weights, out=np.zeros_like(weights), where=weights > 0)


def _spherical_mean_filter(phase, mask, noise, sphere):
    """Field minus its spherical mean where the whole sphere lies in the mask, and the noise of that difference."""
    shape = phase.shape

    def mean(image):
        return irfftn(rfftn(image) * sphere, shape)

    inner = mask & (mean(mask.astype(np.float32)) > 0.999)
    if not inner.any():
        raise ValueError("The spherical mean filter leaves no voxel of the mask: lower smv_radius, or 0 to turn it off.")
    filtered = np.where(inner, phase - mean(phase), 0).astype(np.float32)
    spread = np.sqrt(np.maximum(mean(noise**2), 0) + noise**2).astype(np.float32)
    return filtered, inner, np.where(inner & (noise > 0), spread, 0).astype(np.float32)


def _gauss_newton(problem: _Problem, mask: Any, options: MediOptions, progress) -> tuple[Any, list[float], bool]:
    shape = tuple(problem.phase.shape)
    dipole, phase, noise, weights = problem.grid.dipole, problem.phase, problem.noise, problem.weights
    strength = np.float32(2 * options.data_weight)
    x, field, history = phase * 0, phase * 0, []
    for iteration in range(1, options.max_iterations + 1):
        lagged = diffusivity(x, problem.penalised, problem.voxel_size_mm, options.smoothing)
        precision = strength * weights * weights
        sine = (phase - field).sin() if is_tensor(phase) else np.sin(phase - field)
        pull = dipole * rfftn(precision * sine) - rfftn(diffuse(x, lagged, problem.voxel_size_mm))
        step = unpack(_solve_step(problem, lagged, precision, pack(pull, shape), options), shape)
        field += irfftn(dipole * step, shape)
        step = irfftn(step, shape)
        x += step
        history.append(relative_change(norm(step), norm(x)))
        if progress is not None:
            progress(iteration, options.max_iterations)
        if history[-1] < options.tolerance:
            return x, history, True
        if options.merit:
            noise = _discount(noise, weights, phase, field, mask)
            weights = data_weights(noise, mask)
    return x, history, False


def _solve_step(problem: _Problem, lagged: Any, precision: Any, rhs: Any, options: MediOptions) -> Any:
    """Solve [grad' V grad + D m^2 D] dx = rhs in k-space, where the mean operator is a diagonal preconditioner."""
    shape, dipole = tuple(problem.phase.shape), problem.grid.dipole
    size = float(np.prod(shape))
    mean_lagged, mean_precision = float(lagged.sum()) / (3 * size), float(precision.sum()) / size
    diagonal = mean_lagged * problem.grid.laplacian + mean_precision * dipole**2
    diagonal[0, 0, 0] = 1
    inverse = 1 / diagonal

    def apply(direction):
        spectrum = unpack(direction, shape)
        forward = irfftn(dipole * spectrum, shape)
        forward *= precision
        data = rfftn(forward)
        data *= dipole
        data += rfftn(diffuse(irfftn(spectrum, shape), lagged, problem.voxel_size_mm))
        return pack(data, shape)

    def precondition(residual):
        return pack(unpack(residual, shape) * inverse, shape)

    return conjugate_gradient(
        apply, rhs, tolerance=options.cg_tolerance, max_iterations=options.cg_iterations, precondition=precondition
    ).x


def _discount(noise: Any, weights: Any, phase: Any, field: Any, mask: Any) -> Any:
    """MERIT: raise the noise of voxels whose residual exceeds six standard deviations, by the square of the excess."""
    counted = mask > 0
    if is_tensor(noise):
        import torch

        residual = weights * (torch.exp(1j * field) - torch.exp(1j * phase))
        inside = residual[counted]
        size = (residual - inside.mean()).abs()
        excess = size / (6 * float((inside - inside.mean()).abs().std(correction=0)))
        return noise * excess.clamp(min=1) ** 2
    residual = weights * (np.exp(1j * field) - np.exp(1j * phase))
    mean = residual[counted].mean(dtype=np.complex128)
    size = np.abs(residual - np.complex64(mean))
    spread = float(size[counted].std(dtype=np.float64))
    if spread == 0:
        return noise
    return noise * np.maximum(size / np.float32(6 * spread), 1) ** 2
