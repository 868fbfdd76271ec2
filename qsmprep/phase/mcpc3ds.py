"""MCPC-3D-S: removal of the phase that does not evolve with echo time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from qsmprep.masking.morphology import largest_component
from qsmprep.masking.robust import robust_mask
from qsmprep.numerics.arrays import DoubleArray, FloatImage, Mask, RealArray, Scalar
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.progress import Progress
from qsmprep.numerics.units import TWO_PI
from qsmprep.options import check_options, option
from qsmprep.phase.smoothing import smooth_phase
from qsmprep.scan import Scan
from qsmprep.unwrap.romeo import RomeoOptions, romeo

RELIABLE = 0.7  # share of the median quality
TENTHS = 10  # of the work: mask and difference take one, unwrapping five


@dataclass(frozen=True)
class Mcpc3dsOptions:
    """Options of MCPC-3D-S."""

    sigma_mm: float = option(7.0, "standard deviation of the smoothing of the offset", unit="mm", low=0.05, high=50)
    passes: int = option(
        2, "number of smoothing passes; each after the first adds what was smoothed away", low=1, high=10
    )
    trend: bool = option(True, "remove a second-order trend of the offset before smoothing and add it back")


@dataclass(frozen=True)
class PhaseOffset:
    """Phase without offset, and what was removed.

    Attributes
    ----------
    phase : (n_echo, n0, n1, n2) float32 in [-pi, pi], every echo.
    offset : (n0, n1, n2) float32 in rad, subtracted from every echo.
    bipolar : (n0, n1, n2) float32 in rad, the phase by which even echoes differed; None when it was not asked for.
    left_out_voxels : voxels of the mask left out of the estimate: their phase difference is not reliable, or does not
        hang together reliably with that of most of the head.
    """

    phase: np.ndarray
    offset: np.ndarray
    bipolar: np.ndarray | None = None
    left_out_voxels: int = 0


def mcpc3ds(
    phase: np.ndarray,
    magnitude: np.ndarray,
    *,
    scan: Scan,
    mask: np.ndarray | None = None,
    bipolar: bool = False,
    options: Mcpc3dsOptions = Mcpc3dsOptions(),
    progress: Progress | None = None,
) -> PhaseOffset:
    """Remove the phase offset of coil-combined data, estimated from the first two echoes.

    The unwrapped phase difference of echoes 1 and 2, scaled to TE1, is what evolved until echo 1; what echo 1 shows
    beyond it, smoothed, is the offset phi(TE = 0). It is subtracted from every echo.

    The estimate is made where the unwrapping can be trusted: behind the dark skull the scalp is often whole turns off,
    and smoothing would carry that into the rim of the brain.

    Parameters
    ----------
    phase : (n_echo >= 2, n0, n1, n2) float32, rad.
    magnitude : shape of `phase`.
    scan : its voxel size, and one echo time an echo.
    mask : (n0, n1, n2) bool, where the offset is estimated; by default the magnitude threshold mask. Around the mask
        the offset is continued smoothly, and beyond two standard deviations of the smoothing nothing is subtracted.
    bipolar : whether to remove the smooth phase that alternates between odd and even echoes too, from three echoes on.
    progress : called as progress(done, total).

    Raises
    ------
    ValueError
        With one echo, equal first echo times, bipolar correction of fewer than three echoes, or shapes that do not fit.

    References
    ----------
    Eckstein et al. 2018, Magn Reson Med 79:2996.

    Examples
    --------
    A head in a field gradient, whose echoes all carry 0.7 rad too much:

    >>> scan = Scan((2, 2, 2), echo_times_s=(0.005, 0.010))
    >>> field_hz = np.linspace(-40, 40, 16)[:, None, None] + np.zeros((16, 16, 16))
    >>> phase = np.stack([TWO_PI * field_hz * time + 0.7 for time in scan.echo_times_s]).astype(np.float32)
    >>> found = mcpc3ds(phase, np.ones_like(phase), scan=scan, mask=np.ones(field_hz.shape, bool))
    >>> round(float(found.offset.mean()), 2), found.phase.shape
    (0.7, (2, 16, 16, 16))
    """
    check_options(options)
    times = _checked_times(phase, magnitude, scan, bipolar)
    report = progress or (lambda done, total: None)
    difference, strength = np.empty(phase.shape[1:], np.float32), np.empty(phase.shape[1:], np.float32)
    _hermitian_product(*_flat(phase[0], phase[1], magnitude[0], magnitude[1], difference, strength))
    mask = robust_mask(strength) if mask is None else np.asarray(mask, bool)
    report(1, TENTHS)

    spacing = times[1] - times[0]
    evolution = romeo(
        difference,
        scan=replace(scan, echo_times_s=(spacing,)),
        magnitude=strength,
        mask=mask,
        options=RomeoOptions(tree="sorted", correct_regions=True),
    )
    report(6, TENTHS)
    usable = np.empty(mask.shape, bool)
    estimate = difference  # its memory serves again
    _offset(*_flat(phase[0], evolution.phase, evolution.quality, times[0] / spacing, estimate, usable))
    core = reliable_core(evolution.quality, usable)
    left_out = int(np.count_nonzero(mask) - np.count_nonzero(core))
    smooth = partial(
        smooth_phase,
        mask=core,
        sigma_mm=options.sigma_mm,
        voxel_size_mm=scan.voxel_size_mm,
        passes=options.passes,
        trend=options.trend,
    )
    offset = smooth(estimate)
    corrected = np.empty(phase.shape, np.float32)
    _subtract(phase.reshape(len(phase), -1), offset.reshape(-1), corrected.reshape(len(phase), -1))
    artefact = None
    if bipolar:
        corrected, artefact = _without_bipolar(corrected, magnitude[0], scan, usable, smooth)
    report(TENTHS, TENTHS)
    return PhaseOffset(corrected, offset, artefact, left_out)


def bipolar_artefact(phase: np.ndarray, echo_times_s: Sequence[float] | DoubleArray) -> np.ndarray:
    """Combination of the first three echoes in which field and odd-even symmetry cancel: TE-weighted, not wrapped.

    With phase offsets removed by echoes 1 and 2 it holds only the phase that alternates between odd and even echoes,
    times the factor that `subtract_bipolar` divides by.

    Parameters
    ----------
    phase : (n_echo >= 3, ...) rad. Echo 2 must be unwrapped in space unless (TE1 + TE3) / TE2 is an integer.
    echo_times_s : (n_echo,) in s.
    """
    _, k = _bipolar_ratios(echo_times_s)
    return np.asarray(phase[0] + phase[2] - k * phase[1])


def subtract_bipolar(
    phase: np.ndarray, artefact: np.ndarray, echo_times_s: Sequence[float] | DoubleArray
) -> np.ndarray:
    """Subtract from odd and even echoes their share of the (smoothed, unwrapped) artefact.

    The phase G of even echoes was spread by the offset removal: odd echoes hold m G, even ones (m + 1) G, with
    m = TE1 / (TE2 - TE1).

    Parameters
    ----------
    phase : (n_echo >= 3, ...) rad.
    artefact : (...) of `bipolar_artefact`.
    echo_times_s : (n_echo,) in s.
    """
    m, k = _bipolar_ratios(echo_times_s)
    gradient = artefact / ((2 - k) * m - k)
    return np.stack([echo - (m + number % 2) * gradient for number, echo in enumerate(phase)])


def _bipolar_ratios(echo_times_s: Sequence[float] | DoubleArray) -> tuple[float, float]:
    first, second, third = (float(t) for t in echo_times_s[:3])
    m, k = first / (second - first), (first + third) / second
    # k = 2 for equally spaced echoes; rounding of the times must not make it a fraction.
    return m, float(round(k)) if abs(k - round(k)) < 0.01 else k


def _without_bipolar(
    phase: FloatImage, magnitude: RealArray, scan: Scan, mask: Mask, smooth: Callable[[FloatImage], FloatImage]
) -> tuple[FloatImage, FloatImage]:
    times = scan.echo_times_s
    m, k = _bipolar_ratios(times)
    three = phase[:3]
    if k != round(k):
        # The MCPC-3D-S of MriResearchTools.jl unwraps echo 2 when k IS an integer: k times a wrap is no whole turn
        # only when it is not.
        second = romeo(phase[1], scan=replace(scan, echo_times_s=times[1:2]), magnitude=magnitude, mask=mask)
        three = np.stack([phase[0], second.phase, phase[2]])
    smoothed = smooth(bipolar_artefact(three, times).astype(np.float32))
    artefact = romeo(smoothed, scan=replace(scan, echo_times_s=times[:1]), magnitude=magnitude, mask=mask).phase
    corrected = subtract_bipolar(phase, artefact.astype(np.float32), times).astype(np.float32)
    corrected -= np.float32(TWO_PI) * np.rint(corrected / np.float32(TWO_PI))
    return corrected, np.asarray(artefact / np.float32((2 - k) * m - k))


def _checked_times(phase: RealArray, magnitude: RealArray, scan: Scan, bipolar: bool) -> DoubleArray:
    if phase.ndim != 4 or len(phase) < 2:
        raise ValueError(f"MCPC-3D-S needs two or more echoes; got phase of shape {phase.shape}.")
    if magnitude.shape != phase.shape:
        raise ValueError(f"Magnitude of shape {magnitude.shape} does not fit phase of shape {phase.shape}.")
    times = scan.known_echo_times_s
    if len(times) != len(phase):
        raise ValueError(f"{len(times)} echo times do not fit {len(phase)} echoes.")
    if bipolar and len(phase) < 3:
        raise ValueError("Bipolar correction needs three or more echoes.")
    return times


def reliable_core(quality: FloatImage, usable: Mask) -> Mask:
    """The largest piece of the voxels whose quality is not far below the usual one."""
    if not usable.any():
        raise ValueError("MCPC-3D-S finds no two neighbouring voxels of the mask with a phase to compare.")
    return largest_component(usable & (quality >= np.float32(RELIABLE) * np.median(quality[usable])))


def _flat(*arrays: RealArray | Mask | float) -> list[Any]:
    return [a.reshape(-1) if isinstance(a, np.ndarray) else np.float32(a) for a in arrays]


@jit()
def _wrap(x: Scalar) -> Scalar:
    return np.float32(x - TWO_PI * np.rint(x / TWO_PI))


@jit(parallel=True)
def _hermitian_product(
    first: RealArray,
    second: RealArray,
    first_magnitude: RealArray,
    second_magnitude: RealArray,
    difference: RealArray,
    strength: RealArray,
) -> None:
    for voxel in prange(first.size):
        difference[voxel] = _wrap(second[voxel] - first[voxel])
        product = np.float32(first_magnitude[voxel] * second_magnitude[voxel])
        strength[voxel] = np.sqrt(product) if 0 < product < np.inf else 0


@jit(parallel=True)
def _offset(
    first: RealArray,
    evolution: RealArray,
    quality: RealArray,
    ratio: Scalar,
    estimate: RealArray,
    usable: Mask,
) -> None:
    for voxel in prange(first.size):
        # Quality is 0 outside the mask and where no neighbour could be compared.
        usable[voxel] = quality[voxel] > 0 and np.isfinite(first[voxel])
        estimate[voxel] = first[voxel] - evolution[voxel] * ratio if usable[voxel] else 0


@jit(parallel=True)
def _subtract(phase: RealArray, offset: RealArray, corrected: RealArray) -> None:
    for echo in range(phase.shape[0]):
        for voxel in prange(offset.size):
            value = _wrap(phase[echo, voxel] - offset[voxel])
            corrected[echo, voxel] = value if np.isfinite(value) else 0
