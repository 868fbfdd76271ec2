"""What ASPIRE and MCPC-3D-S share: the echoes' difference over all coils, and the sum of the coils without offsets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.coils.images import CoilImages
from qsmprep.findings import Fact, Warning
from qsmprep.numerics.arrays import DoubleArray, FloatImage, Mask, RealArray
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.progress import Progress
from qsmprep.options import option
from qsmprep.phase.smoothing import smooth_phase
from qsmprep.scan import Scan

# Measured on simulated coils with steep offsets (docs/coils.md): 3 to 5 mm follow them, 7 mm and more do not.
SIGMA_MM = 4.0
LEAST_VOXELS = 2.0  # of the smoothing: with less the noise of the two echoes stays in the offset, and goes into all echoes
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
    magnitude, phase : (n_echo, n0, n1, n2) float32; the phase in rad, wrapped. The magnitude of the first echo is the
        root of the coils' sum of squares where they agree.
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
        _add_product(*(image.reshape(-1) for image in (*first, *second, real, imaginary)))
        progress(coil + 1, 2 * coils.n_coils)
    return np.arctan2(imaginary, real), np.sqrt(np.hypot(real, imaginary))


def combine(
    coils: CoilImages, evolution: FloatImage, mask: Mask, *, scan: Scan, sigma_mm: float, progress: Progress
) -> CombinedCoils:
    """Sum of the coils, each turned back by its own smoothed phase offset and weighted by its first magnitude.

    C_j = sum over coils of M_1 M_j exp(i (phi_j - phi_0)), with phi_0 the smoothed phi_1 - evolution. The weights are
    those of the first echo in all echoes, so that noise of a coil without signal does not weigh itself up in late ones.

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
    sums, power = np.zeros((n_echoes, 2, size), np.float32), np.zeros(size, np.float32)
    signal = np.zeros(n_echoes)
    everywhere = np.ones(coils.shape, bool)
    for coil in range(coils.n_coils):
        first, phase = coils.read(coil, 0)
        weights = np.where(mask, first, 0)
        largest = float(weights.max())
        if largest > 0:  # a coil that is dead has no say
            weights *= np.float32(1 / largest)
            offset = smooth_phase(
                phase - evolution, everywhere, sigma_mm=sigma_mm, voxel_size_mm=scan.voxel_size_mm, passes=PASSES,
                trend=True, weights=weights * weights,
            ).reshape(-1)  # fmt: skip
            for echo in range(n_echoes):
                later = (first, phase) if echo == 0 else coils.read(coil, echo)
                _add_coil(first.reshape(-1), *(image.reshape(-1) for image in later), offset, *sums[echo])
                signal[echo] += np.sum((first * later[0])[mask], dtype=np.float64)
            power += np.square(first.reshape(-1))
        progress(coils.n_coils + coil + 1, 2 * coils.n_coils)
    for echo in range(n_echoes):
        _finish(*sums[echo], power)
    weight = np.sqrt(power)
    coherence = np.divide(sums[0, 0], weight, out=np.zeros(size, np.float32), where=power > 0)
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
    first_magnitude: RealArray,
    magnitude: RealArray,
    phase: RealArray,
    offset: RealArray,
    real: RealArray,
    imaginary: RealArray,
) -> None:
    for voxel in prange(real.size):
        weight = first_magnitude[voxel] * magnitude[voxel]
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
