"""What MEDI, MEDI+0 and TFI share: edges, noise, spherical mean filter (SMV), and model error reduction (MERIT)."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qsmprep.findings import Fact
from qsmprep.inversion.edges import edge_mask
from qsmprep.inversion.inputs import Measurement, checked_image, radians_per_ppm
from qsmprep.inversion.solving import Workspace
from qsmprep.numerics.admm import Penalties, PhaseProblem
from qsmprep.numerics.arrays import Array, FloatImage, Mask, RealArray
from qsmprep.numerics.fourier import irfftn, is_tensor, rfftn, to_device
from qsmprep.numerics.operators import sphere_kernel
from qsmprep.numerics.proximal import threshold_rows
from qsmprep.numerics.spectral import Spectra, spectra
from qsmprep.numerics.volume import frame_around
from qsmprep.options import option

MU_GRADIENT = 100  # penalty parameter of the gradient split over the weight of total variation
MU_DATA = 0.03  # penalty parameter of the data split: with 1, as in FANSI, the iteration takes four times as long
# lambda that suits a field, times its phase per ppm and its variance in ppm^2. Of 2000, 600 and 200 it picks the one of
# least error, or nearly, on two kinds of simulated heads with noise of 0, 0.0015 and 0.003 ppm.
NOISE_BOUND = 0.011
MERIT_INTERVAL = 20
MERIT_TIMES = 5


@dataclass(frozen=True)
class Prepared:
    """MEDI's problem, padded, where the solver runs.

    Attributes
    ----------
    work : the padded grid; its mask is eroded by SMV.
    kept : (n0, n1, n2) bool, padded: that mask.
    problem, penalties : what to minimise, the cost divided by 2 lambda, and how.
    merit : reweighting by MERIT, None without.
    data_weight : lambda, see `suited_data_weight`.
    """

    work: Workspace
    kept: Mask
    problem: PhaseProblem
    penalties: Penalties
    merit: Merit | None
    data_weight: float


def adapt_to_noise_option() -> Any:
    """The option `adapt_to_noise` of MEDI, MEDI+0 and TFI."""
    return option(True, "lower data_weight where the field is noisier than it suits; else noise becomes streaks")


def prepare(measured: Measurement, options: Any, device: str) -> Prepared:
    """Check, scale, crop and filter the inputs of MEDI, which explains them; `options` are those of MEDI or MEDI+0."""
    begin, scan = time.perf_counter(), measured.scan
    inside, field, noise, magnitude_rss = weighed_field(measured, options.residual_threshold)
    h, scale = scan.voxel_size_mm, np.float32(radians_per_ppm(scan))
    data_weight = suited_data_weight(field, noise > 0, float(scale), options)
    radius_mm = options.smv_radius
    frame = frame_around(inside, padding=max(options.padding, math.ceil(radius_mm / min(h))))
    shape = frame.padded_shape
    phase, kept, noise = frame.crop(field * scale), frame.crop(inside), frame.crop(noise)
    penalised = np.ones((3, *shape), bool)
    if magnitude_rss is not None:
        penalised = edge_mask(frame.crop(magnitude_rss), kept, h, options.edge_percentage)
    grid = spectra(shape, h, scan.b0_direction, kernel=options.kernel, device=device)
    if radius_mm >= min(h):
        sphere = sphere_kernel(shape, h, radius_mm)
        phase, kept, noise = _spherical_mean_filter(phase, kept, noise, sphere)
        grid = replace(grid, dipole=grid.dipole * to_device(1 - sphere, device))
    work = Workspace(frame, frame.restore(kept), device, begin, float(scale), (data_weight_fact(data_weight),))
    phase, kept_there, noise = (to_device(image, device) for image in (phase, kept, noise))
    problem, penalties = edge_problem(
        phase, data_weights(noise, kept_there), kept_there, penalised, grid, h, data_weight=data_weight
    )
    merit = Merit(noise, kept_there, phase) if options.merit else None
    return Prepared(work, kept, problem, penalties, merit, data_weight)


def weighed_field(
    measured: Measurement, residual_threshold: float
) -> tuple[Mask, FloatImage, FloatImage, FloatImage | None]:
    """Mask, field, its noise up to a factor (0 where the field is not to be believed), and the magnitude, if any."""
    field, inside, usable = measured.checked(residual_threshold)
    magnitude_rss = checked_image(measured.magnitude_rss, inside, "The magnitude")
    noise = noise_map(inside, measured.weights, measured.noise_hz, magnitude_rss)
    noise[~usable] = 0
    return inside, field, noise, magnitude_rss


def suited_data_weight(field_ppm: FloatImage, usable: Mask, scale: float, options: Any) -> float:
    """The option `data_weight`, or less where `adapt_to_noise` says that the field has more noise than it suits.

    The probability of a field under noise of deviation s gives lambda = 1 / (2 s^2) to a data term in its unit: it
    falls with the noise's variance, and with the phase per ppm (`scale`), as total variation counts that unit once.
    """
    deviation = voxel_noise(field_ppm, usable) if options.adapt_to_noise else 0.0
    if deviation == 0:
        return float(options.data_weight)
    return min(float(options.data_weight), NOISE_BOUND / (scale * deviation**2))


def data_weight_fact(data_weight: float) -> Fact:
    """What the report says of the weight that served."""
    return Fact("data_weight", "weight of the data term against total variation that served", "", data_weight)


def voxel_noise(field: FloatImage, usable: Mask) -> float:
    """Robust deviation of what changes from voxel to voxel: of second differences, along the axis with the least.

    It holds some tissue too, the more the larger the voxels. 0 where no three neighbours are usable.
    """
    deviations = []
    for axis in range(field.ndim):
        values, valid = np.moveaxis(field, axis, 0), np.moveaxis(usable, axis, 0)
        bend = values[1:-1] - (values[2:] + values[:-2]) / 2
        bend = np.abs(bend[valid[1:-1] & valid[2:] & valid[:-2]])
        if bend.size:
            deviations.append(1.4826 * float(np.median(bend)) / math.sqrt(1.5))
    return min(deviations, default=0.0)


def edge_problem(
    phase: Array,
    weights: Array,
    inside: Array,
    penalised: Mask,
    grid: Spectra,
    voxel_size_mm: tuple[float, float, float],
    *,
    data_weight: float,
) -> tuple[PhaseProblem, Penalties]:
    """The problem of MEDI and how to split it: total variation off the edges, and a complex data term.

    Parameters
    ----------
    phase : (n0, n1, n2) in rad, padded, where the solver runs.
    weights : (n0, n1, n2) data weights m, not squared.
    inside : (n0, n1, n2) bool, the mask.
    penalised : (3, n0, n1, n2) bool array, gradients that total variation counts.
    grid : spectra of the padded grid.
    voxel_size_mm : edge lengths in mm.
    data_weight : lambda; the cost is divided by 2 lambda.
    """
    alpha = 0.5 / data_weight
    penalties = Penalties(mu_gradient=MU_GRADIENT * alpha, mu_data=MU_DATA)
    thresholds = threshold_rows(alpha / penalties.mu_gradient, penalised, tuple(phase.shape), phase)
    return PhaseProblem(phase, weights * weights, thresholds, inside, grid, voxel_size_mm), penalties


def data_weights(noise: Array, mask: Array) -> Array:
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


def noise_map(
    inside: Mask, weights: RealArray | None, noise_hz: RealArray | None, magnitude_rss: FloatImage | None
) -> FloatImage:
    """Noise up to a factor, 0 where unknown: as given, else 1 / weights, else 1 / magnitude, else 1."""
    noise = checked_image(noise_hz, inside, "The noise map")
    if noise is not None:
        return noise
    weights = checked_image(weights, inside, "The weight image")
    weights = magnitude_rss if weights is None else weights
    if weights is None:
        return inside.astype(np.float32)
    return np.divide(1, weights, out=np.zeros_like(weights), where=weights > 0)


def _spherical_mean_filter(
    phase: FloatImage, mask: Mask, noise: FloatImage, sphere: FloatImage
) -> tuple[FloatImage, Mask, FloatImage]:
    """Field minus its spherical mean where the whole sphere lies in the mask, and the noise of that difference."""
    shape = phase.shape

    def mean(image: FloatImage) -> FloatImage:
        smooth: FloatImage = irfftn(rfftn(image) * sphere, shape)
        return smooth

    inner = mask & (mean(mask.astype(np.float32)) > 0.999)
    if not inner.any():
        raise ValueError("The spherical mean filter leaves no voxel of the mask: lower smv_radius.")
    filtered = np.where(inner, phase - mean(phase), 0).astype(np.float32)
    spread = np.sqrt(np.maximum(mean(noise**2), 0) + noise**2).astype(np.float32)
    return filtered, inner, np.where(inner & (noise > 0), spread, 0).astype(np.float32)


class Merit:
    """Model error reduction: every few iterations, less weight for voxels whose residual exceeds six deviations."""

    def __init__(self, noise: Array, mask: Array, phase: Array):
        self.given, self.noise, self.mask, self.phase = noise, noise, mask, phase

    def __call__(self, iteration: int, weights: Array, field: Array) -> Array:
        """The weights after this iteration, whose D x is `field`; the first begins anew."""
        if iteration == 1:
            self.noise = self.given
        if iteration % MERIT_INTERVAL or iteration > MERIT_INTERVAL * MERIT_TIMES:
            return weights
        self.noise = discounted_noise(self.noise, weights, self.phase, field, self.mask)
        m = data_weights(self.noise, self.mask)
        return m * m


def discounted_noise(noise: Array, weights: Array, phase: Array, field: Array, mask: Array) -> Array:
    """MERIT's noise map: times (|r| / (6 s.d. of |r|))^2 where that exceeds 1.

    r = m (exp(i field) - exp(i phase)) minus its mean over the mask; `weights` holds m^2, field and phase are in rad.
    """
    if is_tensor(noise):
        import torch

        residual = weights.sqrt() * (torch.exp(1j * field) - torch.exp(1j * phase))
        size = (residual - residual[mask].mean()).abs()
        deviation = float(size[mask].double().std(correction=0))
        return noise if deviation == 0 else noise * (size / (6 * deviation)).clamp(min=1) ** 2
    residual = np.sqrt(weights) * (np.exp(1j * field) - np.exp(1j * phase))
    size = np.abs(residual - residual[mask].mean(dtype=np.complex128).astype(np.complex64))
    spread = np.float32(size[mask].std(dtype=np.float64))
    return noise if spread == 0 else noise * np.maximum(size / (6 * spread), 1) ** 2
