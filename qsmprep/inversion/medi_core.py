"""What MEDI and MEDI+0 share: edges, spherical mean filter (SMV), data weights and model error reduction (MERIT)."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.edges import edge_mask
from qsmprep.inversion.inputs import checked_field, checked_image, radians_per_ppm, reliable
from qsmprep.numerics.admm import Penalties, PhaseProblem
from qsmprep.numerics.convergence import Convergence
from qsmprep.numerics.fourier import irfftn, is_tensor, rfftn, to_device, to_numpy
from qsmprep.numerics.operators import sphere_kernel
from qsmprep.numerics.proximal import threshold_rows
from qsmprep.numerics.spectral import spectra
from qsmprep.numerics.volume import Frame, frame_around

MU_GRADIENT = 100  # penalty parameter of the gradient split over the weight of total variation
MU_DATA = 0.03  # penalty parameter of the data split: with 1, as in FANSI, the iteration takes four times as long
MERIT_INTERVAL = 20
MERIT_TIMES = 5


@dataclass(frozen=True)
class Prepared:
    """MEDI's problem, padded, where the solver runs.

    Attributes
    ----------
    problem, penalties : what to minimise, the cost divided by 2 lambda, and how.
    merit : reweighting by MERIT, None without.
    frame : of the padded grid in the volume.
    kept : (n0, n1, n2) bool, padded: the mask, eroded by SMV.
    scale : rad per ppm.
    """

    problem: PhaseProblem
    penalties: Penalties
    merit: Merit | None
    frame: Frame
    kept: np.ndarray
    scale: np.float32

    def inversion(
        self, x: Any, history: list[float], converged: bool, begin: float, warnings: tuple[str, ...] = ()
    ) -> Inversion:
        """The result from x in rad on the padded grid; `begin` is when the work began, by time.perf_counter()."""
        inside = self.frame.restore(self.kept)
        chi = self.frame.restore(to_numpy(x)) / self.scale
        chi[~inside] = 0
        seconds = time.perf_counter() - begin
        convergence = Convergence(len(history), converged, tuple(history), "change of chi in percent", seconds)
        return Inversion(chi, inside, convergence, warnings)


def prepare(
    field_ppm: np.ndarray,
    mask: np.ndarray,
    *,
    voxel_size_mm: tuple[float, float, float],
    b0_direction: tuple[float, float, float],
    centre_frequency_mhz: float,
    echo_times_s: np.ndarray,
    weights: np.ndarray | None,
    noise_hz: np.ndarray | None,
    magnitude: np.ndarray | None,
    relative_residual: np.ndarray | None,
    options: Any,
    device: str,
) -> Prepared:
    """Check, scale, crop and filter the inputs of MEDI, which explains them; `options` are those of MEDI or MEDI+0."""
    field, inside, measured = checked_field(field_ppm, mask)
    magnitude = checked_image(magnitude, inside, "The magnitude")
    noise = noise_map(inside, weights, noise_hz, magnitude)
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
    merit = Merit(noise, kept_there, phase) if options.merit else None
    return Prepared(problem, penalties, merit, frame, kept, scale)


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


def noise_map(inside, weights, noise_hz, magnitude) -> np.ndarray:
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


class Merit:
    """Model error reduction: every few iterations, less weight for voxels whose residual exceeds six deviations."""

    def __init__(self, noise: Any, mask: Any, phase: Any):
        self.given, self.noise, self.mask, self.phase = noise, noise, mask, phase

    def __call__(self, iteration: int, weights: Any, field: Any) -> Any:
        """The weights after this iteration, whose D x is `field`; the first begins anew."""
        if iteration == 1:
            self.noise = self.given
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
