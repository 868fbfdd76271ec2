"""What ASPIRE and MCPC-3D-S share: the echoes' difference over all coils, and the sum of the coils without offsets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.coils.images import CoilImages
from qsmprep.findings import Fact, Warning
from qsmprep.numerics.arrays import DoubleArray, FloatImage, Mask, RealArray
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.phasors import arctan2
from qsmprep.numerics.progress import Progress
from qsmprep.options import option
from qsmprep.phase.smoothing import smooth_phase
from qsmprep.scan import Scan

# Measured on simulated coils with steep offsets (docs/coils.md): 3 to 5 mm follow them, 7 mm and more do not.
SIGMA_MM = 4.0
LEAST_VOXELS = (
    2.0  # of the smoothing: with less the noise of the two echoes stays in the offset, and goes into all echoes
)
PASSES = 3  # each after the first adds what was smoothed away: at the rim of the head the Gaussian is one-sided
# Of signal 1 that is lost where coils cancel each other: order of coils that differs, magnitude of another scan.
LEAST_COHERENCE = 0.7


@dataclass(frozen=True)
class CoilOptions:
    """How the images of single coils are recognised and combined."""

    coils: str = option(
        "auto",
        "images of single coils; auto: as names and sidecars tell; last-axis: the last axis of images of four "
        "dimensions is the coils",
        choices=("auto", "last-axis"),
    )
    coil_sigma: float = option(
        SIGMA_MM,
        "standard deviation of the smoothing of each coil's phase offset; two voxels where that is more",
        unit="mm",
        low=0.5,
        high=30,
    )


@dataclass(frozen=True)
class CombinedCoils:
    """Echoes combined over the coils.

    Attributes
    ----------
    magnitude, phase : (n_echo, n0, n1, n2) float32; the phase in rad, wrapped. The magnitude is near the root of
        the coils' sum of squares, without its floor of noise.
    coherence : (n0, n1, n2) float32 from 0 to 1, what is left of the first echo's signal in the sum: 1 where all coils
        are in phase.
    facts, warnings : for the record.
    """

    magnitude: np.ndarray
    phase: np.ndarray
    coherence: np.ndarray
    facts: tuple[Fact, ...]
    warnings: tuple[Warning, ...]


def check_coils(coils: CoilImages, scan: Scan) -> DoubleArray:
    """The echo times in s of coils that can be combined.

    Raises
    ------
    ValueError : one coil, one echo, or echo times that are not one an echo.
    """
    if coils.n_coils < 2:
        raise ValueError("A single coil: there is nothing to combine.")
    if coils.n_echoes < 2:
        raise ValueError("Coils are combined by two or more echoes; there is one. Combine them on the scanner.")
    times = scan.known_echo_times_s
    if len(times) != coils.n_echoes:
        raise ValueError(f"{len(times)} echo times do not fit {coils.n_echoes} echoes.")
    return times


def echo_difference(coils: CoilImages, progress: Progress) -> tuple[FloatImage, FloatImage]:
    """Phase by which echo 2 is ahead of echo 1, in rad, wrapped, and its strength: the Hermitian inner product.

    H = sum over coils of M1 M2 exp(i (phi2 - phi1)): the offsets of the coils cancel. Its strength is the root of |H|.
    """
    real, imaginary = np.zeros(coils.shape, np.float32), np.zeros(coils.shape, np.float32)
    for coil in range(coils.n_coils):
        first, second = coils.read(coil, 0), coils.read(coil, 1)
        one, two = (tuple(image.reshape(-1) for image in images) for images in (first, second))
        _add_product(one[0], one[1], two[0], two[1], real.reshape(-1), imaginary.reshape(-1))
        progress(coil + 1, 2 * coils.n_coils)
    return arctan2(imaginary, real), np.sqrt(np.hypot(real, imaginary))


def combine(
    coils: CoilImages, evolution: FloatImage, mask: Mask, *, scan: Scan, sigma_mm: float, progress: Progress
) -> CombinedCoils:
    """Sum of the coils, each turned back by its own smoothed phase offset and weighted by where it sees.

    C_j = sum over coils of w M_j exp(i (phi_j - phi_0)) / sqrt(sum of w^2), with phi_0 the smoothed phi_1 - evolution
    and w the smoothed M_1: weights with noise of their own would lift the echo they come from above the others.

    Parameters
    ----------
    coils : two or more.
    evolution : (n0, n1, n2) rad, what evolved until echo 1: phi_1 without any offset, wrapped or not.
    mask : (n0, n1, n2) bool, where it is known. Beyond four standard deviations of the smoothing around it nothing is
        turned back.
    scan : its voxel size.
    sigma_mm : standard deviation of the smoothing, weighted by the squared magnitude; two voxels where that is more.
    """
    sigma_mm = max(sigma_mm, LEAST_VOXELS * float(np.prod(scan.voxel_size_mm)) ** (1 / 3))
    n_echoes, size = coils.n_echoes, int(np.prod(coils.shape))
    sums, power, envelope = np.zeros((n_echoes, 2, size), np.float32), *np.zeros((2, size), np.float32)
    signal = np.zeros(n_echoes)
    everywhere = np.ones(coils.shape, bool)
    for coil in range(coils.n_coils):
        first, phase = coils.read(coil, 0)
        share = np.where(mask, first, 0)
        largest = float(share.max())
        if largest > 0:  # a coil that is dead has no say
            share *= np.float32(1 / largest)
            offset = smooth_phase(
                phase - evolution, everywhere, sigma_mm=sigma_mm, voxel_size_mm=scan.voxel_size_mm, passes=PASSES,
                trend=True, weights=share * share,
            ).reshape(-1)  # fmt: skip
            weight = _seen(first, sigma_mm, scan)
            for echo in range(n_echoes):
                magnitude, angle = (first, phase) if echo == 0 else coils.read(coil, echo)
                _add_coil(weight, magnitude.reshape(-1), angle.reshape(-1), offset, sums[echo, 0], sums[echo, 1])
                signal[echo] += np.dot(weight.astype(np.float64), (magnitude * mask).reshape(-1))
            power += np.square(weight)
            envelope += weight * first.reshape(-1)
        progress(coils.n_coils + coil + 1, 2 * coils.n_coils)
    for echo in range(n_echoes):
        _finish(sums[echo, 0], sums[echo, 1], power)
    weight = np.sqrt(power)
    coherence = np.divide(sums[0, 0] * weight, envelope, out=np.zeros(size, np.float32), where=envelope > 0)
    weight[~mask.reshape(-1)] = 0
    left = [float(np.sum(magnitude * weight, dtype=np.float64)) for magnitude in sums[:, 0]]
    shares = [part / whole if whole > 0 else 0.0 for part, whole in zip(left, signal, strict=True)]
    told = [round(float(100 * share), 2) for share in shares]
    facts = (
        Fact("coils", "coils combined", "", coils.n_coils),
        Fact("coil_coherence", "signal left in the sum of the coils, each echo", "%", told),
    )
    magnitude, angle = (sums[:, part].reshape(n_echoes, *coils.shape) for part in (0, 1))
    return CombinedCoils(magnitude, angle, coherence.reshape(coils.shape), facts, _incoherent(shares))


def _seen(magnitude: FloatImage, sigma_mm: float, scan: Scan) -> FloatImage:
    """Mean magnitude around each voxel, flat: where a coil sees, without the noise of single voxels."""
    from scipy.ndimage import uniform_filter

    size = tuple(2 * max(1, round(sigma_mm / h)) + 1 for h in scan.voxel_size_mm)
    mean: FloatImage = uniform_filter(magnitude, size, mode="nearest")
    return mean.reshape(-1)


def _incoherent(shares: list[float]) -> tuple[Warning, ...]:
    """A warning where the coils cancel each other in an echo."""
    worst = int(np.argmin(shares))
    if shares[worst] >= LEAST_COHERENCE:
        return ()
    text = (
        f"In echo {worst + 1} only {100 * shares[worst]:.0f} % of the coils' signal is left in their sum: their phases "
        "do not fit together."
    )
    remedy = (
        "Check that magnitude and phase of all echoes have the coils in the same order, and that nobody moved; combine "
        "the coils on the scanner otherwise."
    )
    return (Warning("coils-incoherent", text, remedy),)


@jit(parallel=True)
def _add_product(
    first_magnitude: RealArray,
    first_phase: RealArray,
    second_magnitude: RealArray,
    second_phase: RealArray,
    real: RealArray,
    imaginary: RealArray,
) -> None:
    for voxel in prange(real.size):
        weight = first_magnitude[voxel] * second_magnitude[voxel]
        angle = second_phase[voxel] - first_phase[voxel]
        real[voxel] += weight * np.cos(angle)
        imaginary[voxel] += weight * np.sin(angle)


@jit(parallel=True)
def _add_coil(
    weights: RealArray,
    magnitude: RealArray,
    phase: RealArray,
    offset: RealArray,
    real: RealArray,
    imaginary: RealArray,
) -> None:
    for voxel in prange(real.size):
        weight = weights[voxel] * magnitude[voxel]
        angle = phase[voxel] - offset[voxel]
        real[voxel] += weight * np.cos(angle)
        imaginary[voxel] += weight * np.sin(angle)


@jit(parallel=True)
def _finish(real: RealArray, imaginary: RealArray, power: RealArray) -> None:
    """In place of sums their magnitude over the root of the weights' power, and their phase."""
    for voxel in prange(real.size):
        length = np.sqrt(real[voxel] * real[voxel] + imaginary[voxel] * imaginary[voxel])
        imaginary[voxel] = np.arctan2(imaginary[voxel], real[voxel])
        real[voxel] = length / np.sqrt(power[voxel]) if power[voxel] > 0 else 0
