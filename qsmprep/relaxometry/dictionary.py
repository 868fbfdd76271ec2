"""R2 by matching spin echo trains with a dictionary of extended phase graphs over T2 and B1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.arrays import DoubleArray, Labels, Mask, RealArray, Scalar
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.progress import Progress, part
from qsmprep.numerics.units import check_echo_times
from qsmprep.options import check_options, option
from qsmprep.relaxometry import SpinEchoRelaxation, flat_magnitude
from qsmprep.relaxometry.epg import UNIFORM, SliceProfile, echo_train, sinc_profile

T2_GRID_S = np.concatenate([np.geomspace(0.010, 0.300, 120), np.geomspace(0.300, 2.0, 21)[1:]])
B1_RANGE = (0.6, 1.2)
B1_STEP = 0.01
PROFILES = ("auto", "3d", "2d")
T2_STRIDE, B1_STRIDE = 5, 5  # of the coarse search
CHUNK = 1 << 16  # voxels matched between two calls of progress


@dataclass(frozen=True)
class DictionaryOptions:
    """Options of the dictionary match."""

    refocusing_angle: float = option(180.0, "nominal refocusing angle", unit="degrees", low=30, high=180)
    profile: str = option("auto", "slice profile of a 2D or a 3D scan; auto: as the sidecar says", choices=PROFILES)
    refocusing_width: float = option(
        1.75, "thickness of the refocused slice over that of the excited one (2D)", low=1, high=3
    )
    t1: float = option(1.0, "T1 assumed everywhere; echoes hardly depend on it", unit="s", low=0.1, high=10)
    fit_b1: bool = option(True, "fit the refocusing angle, with three echoes or more; else it is the nominal one")
    b1_smoothing: float = option(
        2.0, "standard deviation of the Gaussian that smooths B1 before R2 is matched again; 0: R2 of the first match",
        unit="mm", low=0, high=50,
        when=("fit_b1", True),
    )  # fmt: skip


@dataclass(frozen=True)
class Dictionary:
    """Normalised echo trains.

    Attributes
    ----------
    atoms : (n_b1, n_t2, n_echo) float32, each of norm 1.
    b1 : (n_b1,) refocusing angle over the nominal one.
    log_t2 : (n_t2,) ascending, of T2 in s.
    """

    atoms: np.ndarray
    b1: np.ndarray
    log_t2: np.ndarray


def make_dictionary(
    *,
    echo_spacing_s: float,
    positions: np.ndarray,
    refocusing_angle_deg: float = 180.0,
    t1_s: float = 1.0,
    profile: SliceProfile = UNIFORM,
    fit_b1: bool = True,
) -> Dictionary:
    """Trains over T2 of 10 ms to 2 s and B1 of 0.6 to 1.2, of the echoes of those positions, counted from 1.

    Angles a and 360 - a degrees give one train where the whole slice has one angle, so B1 then ends where the angle
    reaches 180 degrees.
    """
    b1 = np.round(np.arange(B1_RANGE[0], B1_RANGE[1] + B1_STEP / 2, B1_STEP), 4) if fit_b1 else np.ones(1)
    if profile.weights.size == 1 and fit_b1:
        b1 = b1[b1 * refocusing_angle_deg <= 180 + 1e-6]
    scale, t2 = np.meshgrid(b1, T2_GRID_S, indexing="ij")
    trains = echo_train(
        t2, np.full(t2.shape, t1_s), scale, echo_spacing_s=echo_spacing_s, n_echoes=int(max(positions)),
        refocusing_angle_deg=refocusing_angle_deg, profile=profile,
    )[:, np.asarray(positions) - 1]  # fmt: skip
    trains /= np.linalg.norm(trains, axis=1, keepdims=True)
    return Dictionary(trains.reshape(*t2.shape, -1).astype(np.float32), b1, np.log(T2_GRID_S))


def dictionary_match(
    magnitude: np.ndarray,
    *,
    echo_times_s: Sequence[float] | DoubleArray,
    mask: np.ndarray | None = None,
    voxel_size_mm: tuple[float, float, float],
    acquired_in_2d: bool = False,
    options: DictionaryOptions = DictionaryOptions(),
    progress: Progress | None = None,
) -> SpinEchoRelaxation:
    """R2 and B1 of a multi-echo spin echo scan, stimulated echoes included.

    Each voxel takes the train with the largest normalised inner product, found on a coarse grid and climbed to on the
    fine one; T2 is then interpolated by a parabola in its logarithm. B1 varies smoothly in a head: it is averaged over
    the neighbourhood, weighted by the signal's energy, and T2 matched anew with B1 held.

    Parameters
    ----------
    magnitude : (n_echo, n0, n1, n2), two echoes or more of an equally spaced train, not necessarily all of it. With
        two, B1 is taken as 1: two echoes cannot tell both.
    echo_times_s : in s, ascending.
    mask : (n0, n1, n2); outside it the result is 0. None: everywhere.
    voxel_size_mm : edge lengths in mm.
    acquired_in_2d : whether a slice profile is needed, where the option `profile` is "auto".
    options : parameters.
    progress : called as progress(voxels done, voxels).

    Returns
    -------
    SpinEchoRelaxation; not valid where the best T2 lies at an end of the grid.

    Raises
    ------
    ValueError : one echo, times that are no multiples of a spacing, shapes that differ, an empty mask.

    References
    ----------
    McPhee and Wilman 2015; Lebel and Wilman 2010.

    Examples
    --------
    Six echoes of a T2 of 80 ms whose pulses turn by 0.8 times what they should:

    >>> times = 0.015 * np.arange(1, 7)
    >>> train = echo_train([0.080], [1.0], [0.8], echo_spacing_s=0.015, n_echoes=6)[0]
    >>> magnitude = train[:, None, None, None] * np.ones((3, 3, 3))
    >>> found = dictionary_match(magnitude, echo_times_s=times, voxel_size_mm=(1, 1, 1))
    >>> round(float(found.r2[1, 1, 1]), 1), round(float(found.b1[1, 1, 1]), 2)
    (12.5, 0.8)
    """
    check_options(options)
    times = check_echo_times(echo_times_s)
    spacing, positions = train_positions(times)
    echoes, inside = flat_magnitude(magnitude, mask, times)
    wide = options.profile == "2d" or (options.profile == "auto" and acquired_in_2d)
    fit_b1 = options.fit_b1 and len(times) > 2
    dictionary = make_dictionary(
        echo_spacing_s=spacing,
        positions=positions,
        refocusing_angle_deg=options.refocusing_angle,
        t1_s=options.t1,
        profile=sinc_profile(options.refocusing_width) if wide else UNIFORM,
        fit_b1=fit_b1,
    )
    shape = magnitude.shape[1:]
    passes = 2 if fit_b1 and options.b1_smoothing > 0 else 1
    free = np.full(inside.size, -1, np.int16)
    matched = match(echoes, inside, free, dictionary, part(progress, 0, passes))
    if passes == 2:
        b1 = smoothed_b1(dictionary.b1[matched[1]], echoes, inside, shape, voxel_size_mm, options.b1_smoothing)
        held = np.rint((b1 - dictionary.b1[0]) / B1_STEP).clip(0, dictionary.b1.size - 1).astype(np.int16)
        matched = match(echoes, inside, held, dictionary, part(progress, 1, passes))
    r2, index, misfit, valid = matched
    fitted_b1 = (dictionary.b1[index] * inside).astype(np.float32).reshape(shape) if fit_b1 else None
    return SpinEchoRelaxation(r2.reshape(shape), fitted_b1, valid.reshape(shape), misfit.reshape(shape))


def train_positions(times: np.ndarray) -> tuple[float, np.ndarray]:
    """Echo spacing in s and which echoes of the train the images are, counted from 1.

    Images may be missing, the first too. Raises ValueError where the times are no multiples of a spacing.

    >>> train_positions(np.array([0.030, 0.045, 0.075]))[1].tolist()
    [2, 3, 5]
    """
    if len(times) < 2:
        raise ValueError("R2 needs at least two spin echoes; there is one.")
    for first in (1, 2, 3) if len(times) > 2 else (1,):
        spacing = times[0] / first
        positions = np.rint(times / spacing)
        if np.all(np.abs(times - positions * spacing) < 0.02 * spacing) and len(np.unique(positions)) == len(times):
            return float(spacing), positions.astype(int)
    raise ValueError(
        f"Spin echoes at {(times * 1e3).round(3).tolist()} ms are no train of equal spacing: stimulated echoes cannot "
        "be followed. Use the mono-exponential fit."
    )


def match(
    echoes: np.ndarray,
    inside: np.ndarray,
    held_b1: np.ndarray,
    dictionary: Dictionary,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Best train of every voxel.

    Parameters
    ----------
    echoes : (n_echo, n) float32.
    inside : (n,) bool, voxels to match.
    held_b1 : (n,) int16 index of the B1 to keep to; -1: any.
    dictionary : of the scan.
    progress : called as progress(voxels done, voxels).

    Returns
    -------
    R2 in 1/s, index of B1, misfit in [0, 1], and whether T2 lies inside the grid: each (n,).
    """
    n = inside.size
    r2, misfit = np.zeros((2, n), np.float32)
    index, valid = np.zeros(n, np.int16), np.zeros(n, bool)
    for start in range(0, n, CHUNK):
        chunk = slice(start, min(start + CHUNK, n))
        _match(
            np.ascontiguousarray(echoes[:, chunk].T), inside[chunk], held_b1[chunk], dictionary.atoms,
            dictionary.log_t2, T2_STRIDE, B1_STRIDE, r2[chunk], index[chunk], misfit[chunk], valid[chunk],
        )  # fmt: skip
        if progress is not None:
            progress(chunk.stop, n)
    return r2, index, misfit, valid


def smoothed_b1(
    b1: np.ndarray,
    echoes: np.ndarray,
    inside: np.ndarray,
    shape: tuple[int, int, int],
    voxel_size_mm: tuple[float, float, float],
    deviation_mm: float,
) -> np.ndarray:
    """B1 (n,) averaged by a Gaussian over the voxels inside, weighted by the energy of their echoes."""
    from scipy.ndimage import gaussian_filter

    energy = np.einsum("en,en->n", echoes, echoes) * inside
    energy = np.nan_to_num(energy).astype(np.float32)
    sigma = [deviation_mm / h for h in voxel_size_mm]
    top = gaussian_filter((energy * b1).astype(np.float32).reshape(shape), sigma, truncate=3)
    bottom = gaussian_filter(energy.reshape(shape), sigma, truncate=3)
    known = bottom > 0
    return np.where(known, top / np.where(known, bottom, 1), b1.reshape(shape)).ravel()


@jit()
def _likeness(atom: RealArray, signal: RealArray) -> Scalar:
    total = np.float32(0)
    for e in range(signal.size):
        total += atom[e] * signal[e]
    return total


@jit(parallel=True)
def _match(
    echoes: RealArray, inside: Mask, held: Labels, atoms: RealArray, log_t2: RealArray, t2_stride: int,
    b1_stride: int, r2: RealArray, index: Labels, misfit: RealArray, valid: Mask,
) -> None:  # fmt: skip
    n_b1, n_t2, n_echo = atoms.shape
    for i in prange(inside.size):
        if not inside[i]:
            continue
        signal = np.empty(n_echo, np.float32)
        energy = 0.0
        for e in range(n_echo):
            value = echoes[i, e]
            signal[e] = value if np.isfinite(value) else np.float32(0)
            energy += np.float64(signal[e]) ** 2
        if not energy > 0:
            continue
        best: Scalar = np.float32(-1)
        b, t = 0, 0
        first, last = (held[i], held[i] + 1) if held[i] >= 0 else (0, n_b1)
        for row in range(first, last, b1_stride):
            for column in range(0, n_t2, t2_stride):
                value = _likeness(atoms[row, column], signal)
                if value > best:
                    best, b, t = value, row, column
        # Climb: a wide window first, then neighbours, until the middle is the best.
        reach_b, reach_t = b1_stride, t2_stride
        while True:
            centre_b, centre_t = b, t
            for row in range(max(first, centre_b - reach_b), min(last, centre_b + reach_b + 1)):
                for column in range(max(0, centre_t - reach_t), min(n_t2, centre_t + reach_t + 1)):
                    value = _likeness(atoms[row, column], signal)
                    if value > best:
                        best, b, t = value, row, column
            if b == centre_b and t == centre_t:
                break
            reach_b, reach_t = 2, 2
        log_best = log_t2[t]
        if 0 < t < n_t2 - 1:
            # Parabola through three points at unequal distances.
            before, after = log_t2[t] - log_t2[t - 1], log_t2[t + 1] - log_t2[t]
            low = np.float64(best) - _likeness(atoms[b, t - 1], signal)
            high = np.float64(best) - _likeness(atoms[b, t + 1], signal)
            bottom = 2 * (low * after + high * before)
            if bottom > 0:
                log_best += min(max((low * after**2 - high * before**2) / bottom, -before / 2), after / 2)
        r2[i] = np.exp(-log_best)
        index[i] = b
        valid[i] = 0 < t < n_t2 - 1
        misfit[i] = np.sqrt(max(1 - np.float64(best) ** 2 / energy, 0.0))
