"""Quality numbers of the phase: how straight it grows over the echoes, wraps left in it, fringes that end, noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.phasors import angle
from qsmprep.numerics.winding import neighbours, turning_squares
from qsmprep.quality.regions import bright, dilated, eroded, local_mean, on_grid, rms, voxels_of
from qsmprep.scan import Scan

SMOOTHING_MM = 6.0  # averages noise away, keeps what a wrong echo time or eddy currents leave
FINE_MM, COARSE_MM = 3.0, 9.0  # the band of anatomy, finer than what the removal of phase offsets smooths over
AIR_DISTANCE_MM = 8.0
TRUSTED_DEPTH_MM = 16.0  # below it the phase offset that was taken off is hardly wrong
FEWEST = 200  # voxels below which a number means little
_NAN = float("nan")


@dataclass(frozen=True)
class _Lines:
    """Weighted straight lines through the phase of the echoes, voxel by voxel (n voxels)."""

    intercept: np.ndarray
    slope: np.ndarray
    residual: np.ndarray
    weight: np.ndarray
    alternation: np.ndarray | None
    alternation_weight: np.ndarray | None


def phase_numbers(
    scan: Scan,
    *,
    magnitude: np.ndarray | None,
    phase: np.ndarray | None,
    unwrapped: np.ndarray | None,
    total_field_hz: np.ndarray | None,
    mask: np.ndarray,
) -> dict[str, float]:
    """Numbers about the phase of the echoes inside a mask.

    Parameters
    ----------
    scan : echo times and voxel size.
    magnitude, phase : (n_echo, n0, n1, n2); phase in rad, wrapped, offset removed.
    unwrapped : (n_echo, n0, n1, n2) in rad, or one volume or None, when the echoes are unwrapped about the field.
    total_field_hz : (n0, n1, n2), only needed for that.
    mask : (n0, n1, n2) bool.

    Returns
    -------
    phase_linearity, phase_nonlinearity (rad), echo_time_offset (ms), bipolar_phase (rad), residual_wraps (%): NaN
    where an input is missing or the echoes are too few.
    """
    names = ("phase_linearity", "phase_nonlinearity", "echo_time_offset", "bipolar_phase", "residual_wraps")
    numbers = dict.fromkeys(names, _NAN)
    if magnitude is None or not mask.any():
        return numbers
    inside = mask & bright(magnitude[0], mask)
    echoes = _unwrapped_echoes(scan, phase, unwrapped, total_field_hz, inside)
    if unwrapped is not None:
        numbers["residual_wraps"] = residual_wraps(unwrapped, eroded(inside, 0.0, scan.voxel_size_mm))
    if echoes is None or len(echoes) < 2 or np.count_nonzero(inside) < FEWEST:
        return numbers
    lines = fit_lines(echoes, np.stack([image[inside] for image in magnitude]), scan.echo_times_s)
    numbers["echo_time_offset"] = echo_time_offset_ms(lines.intercept, lines.slope, inside, scan.voxel_size_mm)
    if len(echoes) > 2:
        numbers["phase_linearity"], numbers["phase_nonlinearity"] = _misfit(lines, inside, scan.voxel_size_mm)
        numbers["bipolar_phase"] = _alternating_plane(lines, inside)
    return numbers


def fit_lines(phase: np.ndarray, magnitude: np.ndarray, echo_times_s: Sequence[float]) -> _Lines:
    """Straight line through the unwrapped phase (n_echo, n) of each voxel over echo time, weights magnitude^2.

    The intercept is in rad, the slope in Hz. With three echoes or more the phase by which odd echoes lie above and
    even ones below the line is fitted along with it, for itself.
    """
    times = np.asarray(echo_times_s, np.float32)[:, None]
    weight = np.square(magnitude)
    total = np.maximum(weight.sum(0), np.finfo(np.float32).tiny)
    mean_time = (weight * times).sum(0) / total
    from_mean = times - mean_time
    spread = np.maximum((weight * from_mean**2).sum(0), np.finfo(np.float32).tiny)

    def line(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        level = (weight * values).sum(0) / total
        slope = (weight * from_mean * values).sum(0) / spread
        return level, slope, values - level - slope * from_mean

    level, slope, residual = line(phase)
    alternation = alternation_weight = None
    if len(phase) > 2:
        pattern = line(np.where(np.arange(len(phase)) % 2, -1, 1).astype(np.float32)[:, None])[2]
        alternation_weight = (weight * pattern**2).sum(0)
        above = (weight * pattern * residual).sum(0)
        alternation = above / np.maximum(alternation_weight, np.finfo(np.float32).tiny)
    intercept = level - slope * mean_time
    return _Lines(intercept, slope / np.float32(2 * np.pi), residual, weight, alternation, alternation_weight)


def echo_time_offset_ms(
    intercept: np.ndarray, field_hz: np.ndarray, mask: np.ndarray, voxel_size_mm: Sequence[float]
) -> float:
    """By how much the recorded echo times are too long, in ms, if all are by the same.

    Phase at echo time 0 comes from receiver and tissue conductivity: it is smooth and knows nothing of the field. With
    echo times too long by d the lines meet zero at -2 pi d field instead. Both are looked at between two smoothings
    (cubes of 3 and 9 mm), which leaves anatomy, and regressed on each other. The noise of intercept and slope of one
    voxel is correlated, which would look like an error of echo times: so the intercept of one half of the voxels (as
    the white squares of a chessboard) is compared with the field of the other half. Only voxels 16 mm and more from the
    mask's rim and from dropouts count, where there are some: near those the offset that was taken off may be wrong.
    """
    fine = tuple(max(3, n) for n in voxels_of(FINE_MM, voxel_size_mm))
    coarse = tuple(max(7, n) for n in voxels_of(COARSE_MM, voxel_size_mm))
    whole = eroded(mask, (max(coarse) // 2) * max(voxel_size_mm), voxel_size_mm)
    deep = eroded(mask, TRUSTED_DEPTH_MM, voxel_size_mm)
    whole = whole & deep if np.count_nonzero(deep) > 0.05 * np.count_nonzero(mask) else whole
    if np.count_nonzero(whole) < FEWEST:
        return _NAN
    even = (sum(np.ogrid[tuple(slice(n) for n in mask.shape)]) % 2 == 0) & mask
    offset, field = on_grid(intercept, mask), on_grid(field_hz, mask)
    offset, here = _bands([offset, field], even, fine, coarse, whole)
    (there,) = _bands([field], mask & ~even, fine, coarse, whole)
    # Veins and cavities would decide alone by their strength, and their phase is the least linear of all.
    usual = np.abs(there) <= np.percentile(np.abs(there), 98)
    product = np.dot(here[usual], there[usual])
    return float(-1000 * np.dot(offset[usual], there[usual]) / (2 * np.pi * product)) if product > 0 else _NAN


def _bands(
    images: Sequence[np.ndarray], part: np.ndarray, fine: tuple[int, ...], coarse: tuple[int, ...], where: np.ndarray
) -> list[np.ndarray]:
    """What the voxels of a part tell of each image between two box means: values at `where`, float64."""
    shares = [np.maximum(local_mean(part, size)[where], 1e-3) for size in (fine, coarse)]
    found = []
    for image in images:
        values = np.where(part, image, 0)
        means = [local_mean(values, n)[where] / share for n, share in zip((fine, coarse), shares, strict=True)]
        found.append((means[0] - means[1]).astype(np.float64))
    return found


def residual_wraps(unwrapped: np.ndarray, mask: np.ndarray) -> float:
    """Per cent of the pairs of neighbours in a mask whose unwrapped phase differs by more than pi.

    `unwrapped` is (n0, n1, n2) or (n_echo, n0, n1, n2) in rad; of several echoes the first counts, where no true field
    is so steep.
    """
    image = unwrapped[0] if unwrapped.ndim == 4 else unwrapped
    pairs = jumps = 0
    for axis in range(3):
        first, second = neighbours(axis)
        both = mask[first] & mask[second]
        pairs += int(np.count_nonzero(both))
        jumps += int(np.count_nonzero(np.abs(image[second] - image[first])[both] > np.pi))
    return 100 * jumps / pairs if pairs else _NAN


def fringe_ends_cm(phase: np.ndarray, mask: np.ndarray, voxel_size_mm: Sequence[float]) -> float:
    """Length in cm of the lines around which wrapped phase turns by 2 pi: there fringes end in the open.

    The phase (n0, n1, n2) is followed around every square of four neighbours of the mask; where it does not come back
    to itself a line passes, as long as the voxel's edge across the square.
    """
    squares = turning_squares(phase, mask)
    length = sum(h * np.count_nonzero(found) for h, found in zip(voxel_size_mm, squares, strict=True))
    return float(length) / 10


def ghost_level(magnitude: np.ndarray, mask: np.ndarray, voxel_size_mm: Sequence[float]) -> float:
    """Signal in the air above noise, in per cent of the brain's median; ghosts of motion and pulsation make it.

    Air is all that lies 8 mm and more from what is brighter than 15 % of the brain's median. Its noise is told from its
    darkest quarter (Rayleigh). NaN where there is hardly any air, or where it was set to zero.
    """
    median = float(np.median(magnitude[mask]))
    thin = tuple(slice(None, None, 2 if h < 1.5 else 1) for h in voxel_size_mm)
    sizes = [h * (step.step or 1) for h, step in zip(voxel_size_mm, thin, strict=True)]
    image = magnitude[thin]
    head = (local_mean(image > 0.15 * median, (3, 3, 3)) > 0.2) | mask[thin]  # a thin scalp counts, specks do not
    air = image[~dilated(head, AIR_DISTANCE_MM, sizes)]
    if air.size < FEWEST or median <= 0 or np.count_nonzero(air) < 0.9 * air.size:
        return _NAN
    variance = np.percentile(air, 25) ** 2 / (2 * np.log(4 / 3))
    return 100 * float(np.sqrt(max(np.mean(np.square(air, dtype=np.float64)) - 2 * variance, 0))) / median


def _unwrapped_echoes(
    scan: Scan,
    phase: np.ndarray | None,
    unwrapped: np.ndarray | None,
    total_field_hz: np.ndarray | None,
    inside: np.ndarray,
) -> np.ndarray | None:
    """Unwrapped phase (n_echo, n) of a mask's voxels: as it is, or unwrapped about what the field predicts."""
    if unwrapped is not None and unwrapped.ndim == 4 and len(unwrapped) == len(scan.echo_times_s):
        return np.stack([image[inside] for image in unwrapped])
    if phase is None or total_field_hz is None or phase.ndim != 4 or len(phase) != len(scan.echo_times_s):
        return None
    predicted = np.stack([total_field_hz[inside] * np.float32(2 * np.pi * te) for te in scan.echo_times_s])
    rest = np.stack([image[inside] for image in phase]) - predicted
    offset = angle(np.exp(1j * rest).sum(0)).astype(np.float32)
    rest -= offset
    return np.asarray(predicted + offset + rest - np.float32(2 * np.pi) * np.rint(rest / np.float32(2 * np.pi)))


def _misfit(lines: _Lines, inside: np.ndarray, voxel_size_mm: Sequence[float]) -> tuple[float, float]:
    """R.m.s. misfit in rad, all of it and what is left of it after averaging over cubes of 6 mm."""
    echoes = len(lines.residual)
    degrees = echoes / (echoes - 2)
    everything = np.sum(lines.weight * lines.residual**2, dtype=np.float64) / np.sum(lines.weight, dtype=np.float64)
    size = tuple(max(3, n) for n in voxels_of(SMOOTHING_MM, voxel_size_mm))
    whole = eroded(inside, (max(size) // 2) * max(voxel_size_mm), voxel_size_mm)
    energy = 0.0
    for residual in lines.residual:
        energy += rms(local_mean(on_grid(residual, inside), size)[whole]) ** 2
    return float(np.sqrt(degrees * everything)), float(np.sqrt(degrees * energy / echoes))


def _alternating_plane(lines: _Lines, inside: np.ndarray) -> float:
    """Range in rad, over the mask, of the plane by which the phase of odd and even echoes differs."""
    if lines.alternation is None or lines.alternation_weight is None:
        return _NAN
    usable = np.abs(lines.alternation) < np.pi / 2
    weight = (lines.alternation_weight * usable).astype(np.float64)
    places = np.nonzero(inside)
    columns = np.stack([np.ones(len(weight)), *((p - p.mean()) / (np.ptp(p) or 1) for p in places)])
    weighted = columns * weight
    normal = weighted @ columns.T
    if np.linalg.cond(normal) > 1e10:
        return _NAN
    _, *slopes = np.linalg.solve(normal, weighted @ lines.alternation)
    return 2 * float(np.ptp(np.tensordot(slopes, columns[1:], 1)))
