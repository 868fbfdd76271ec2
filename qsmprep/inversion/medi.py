"""MEDI-L1: morphology enabled dipole inversion, with spherical mean filter (SMV) and model error reduction (MERIT)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qsmprep.admm import Penalties, PhaseProblem, minimise_total_variation
from qsmprep.convergence import Convergence
from qsmprep.dipole import KINDS
from qsmprep.fourier import irfftn, is_tensor, rfftn, to_device, to_numpy
from qsmprep.inversion import Inversion
from qsmprep.inversion.edges import edge_mask
from qsmprep.inversion.inputs import checked_field, checked_image, radians_per_ppm, reliable
from qsmprep.operators import sphere_kernel
from qsmprep.options import check_options, option
from qsmprep.proximal import threshold_rows
from qsmprep.spectral import spectra
from qsmprep.volume import frame_around

MU_GRADIENT = 100  # penalty parameter of the gradient split over the weight of total variation
MU_DATA = 0.03  # penalty parameter of the data split: with 1, as in FANSI, the iteration takes four times as long
MERIT_INTERVAL = 20
MERIT_TIMES = 5


@dataclass(frozen=True)
class MediOptions:
    """Options of MEDI; the defaults are the consensus settings."""

    data_weight: float = option(2000.0, "Weight lambda of the data term against total variation.", low=1e-6)
    edge_percentage: float = option(
        0.9, "Edge components of the magnitude's gradient, as a fraction of the mask voxels.", low=0, high=3
    )
    smv_radius: float = option(5.0, "Radius of the spherical mean filter, 0 for none.", unit="voxels", low=0, high=50)
    merit: bool = option(True, "Lower the weight of voxels that the model does not fit, after each outer iteration.")
    residual_threshold: float = option(
        0.3, "Relative residual of the echo combination above which a voxel has no weight.", low=0
    )
    max_iterations: int = option(300, "Cap on iterations.", low=1, high=100000)
    tolerance: float = option(0.5, "Change of chi at which to stop.", unit="%", low=0, high=100)
    kernel: str = option("continuous", "Form of the dipole kernel.", choices=KINDS)
    padding: int = option(16, "Zeros added to each axis before the transform.", unit="voxels", low=0, high=1024)


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
    over one echo spacing (over the echo time, when there is one echo), and chi = x in ppm. The published Gauss-Newton
    iteration smooths the l1 norm and solves each step by conjugate gradients; alternating directions minimise the same
    cost, the norm as it is, and reach the same value in a quarter of the Fourier transforms.

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
    alpha = 0.5 / options.data_weight  # the cost divided by 2 lambda
    penalties = Penalties(mu_gradient=MU_GRADIENT * alpha, mu_data=MU_DATA)
    phase, kept_there, noise = (to_device(image, device) for image in (phase, kept, noise))
    weights = data_weights(noise, kept_there)
    problem = PhaseProblem(
        phase=phase,
        weights=weights * weights,
        thresholds=threshold_rows(alpha / penalties.mu_gradient, penalised, shape, phase),
        inside=kept_there,
        grid=grid,
        voxel_size_mm=voxel_size_mm,
    )
    x, history, converged = minimise_total_variation(
        problem,
        penalties,
        tolerance_percent=options.tolerance,
        max_iterations=options.max_iterations,
        reweight=_Merit(noise, kept_there, phase) if options.merit else None,
        progress=progress,
    )
    inside = frame.restore(kept)
    chi = frame.restore(to_numpy(x)) / scale
    chi[~inside] = 0
    seconds = time.perf_counter() - begin
    return Inversion(
        chi, inside, Convergence(len(history), converged, tuple(history), "change of chi in percent", seconds)
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
        raise ValueError("The spherical mean filter leaves no voxel of the mask: lower smv_radius.")
    filtered = np.where(inner, phase - mean(phase), 0).astype(np.float32)
    spread = np.sqrt(np.maximum(mean(noise**2), 0) + noise**2).astype(np.float32)
    return filtered, inner, np.where(inner & (noise > 0), spread, 0).astype(np.float32)


class _Merit:
    """Model error reduction: every few iterations, less weight for voxels whose residual exceeds six deviations."""

    def __init__(self, noise: Any, mask: Any, phase: Any):
        self.noise, self.mask, self.phase = noise, mask, phase

    def __call__(self, iteration: int, weights: Any, field: Any) -> Any:
        if iteration % MERIT_INTERVAL or iteration > MERIT_INTERVAL * MERIT_TIMES:
            return weights
        self.noise = discounted_noise(self.noise, weights, self.phase, field, self.mask)
        m = data_weights(self.noise, self.mask)
        return m * m


def discounted_noise(noise: Any, weights: Any, phase: Any, field: Any, mask: Any) -> Any:
    """MERIT's noise map: times (|r| / (6 s.d. of |r|))^2 where that exceeds 1.

    r = m (exp(i field) - exp(i phase)) minus its mean over the mask; `weights` holds m^2, field and phase are in rad.
    """
    if is_tensor(noise):
        import torch

        residual = weights.sqrt() * (torch.exp(1j * field) - torch.exp(1j * phase))
        size = (residual - residual[mask].mean()).abs()
        spread = float(size[mask].double().std(correction=0))
        return noise if spread == 0 else noise * (size / (6 * spread)).clamp(min=1) ** 2
    residual = np.sqrt(weights) * (np.exp(1j * field) - np.exp(1j * phase))
    size = np.abs(residual - residual[mask].mean(dtype=np.complex128).astype(np.complex64))
    spread = np.float32(size[mask].std(dtype=np.float64))
    return noise if spread == 0 else noise * np.maximum(size / (6 * spread), 1) ** 2
