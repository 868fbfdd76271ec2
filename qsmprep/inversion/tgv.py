"""Single-step inversion with total generalised variation (TGV-QSM): from wrapped phase to susceptibility."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.holes import handles_holes, residual_threshold_option, two_pass_option
from qsmprep.inversion.inputs import reliable
from qsmprep.numerics.convergence import Convergence
from qsmprep.numerics.fourier import to_numpy
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.tgv_primal_dual import MARGIN, State, dual_step, finer_state, make_grid, primal_step, zero_state
from qsmprep.numerics.units import check_echo_times
from qsmprep.numerics.volume import bounding_box
from qsmprep.options import check_options, option

SMALLEST = 12  # voxels along the mask's shortest axis on the coarsest grid
GRIDS = 4
GROWTH = 2.0  # of both regularisation parameters from one grid to the next coarser one


@dataclass(frozen=True)
class TgvOptions:
    """Options of TGV-QSM."""

    alpha1: float = option(1.5e-4, "weight of the first-order term", unit="ppm mm", low=1e-9)
    alpha0: float = option(3e-4, "weight of the second-order term", unit="ppm mm^2", low=1e-9)
    erosions: int = option(
        3, "layers of voxels removed from the mask, where phase is noisy", unit="voxels", low=1, high=50
    )
    max_iterations: int = option(500, "cap on iterations on each of the grids", low=1, high=100000)
    tolerance: float = option(5e-4, "relative change of chi at which to stop; half on each coarser grid", low=0, high=1)
    residual_threshold: float = residual_threshold_option()
    two_pass: bool = two_pass_option()


@dataclass(frozen=True)
class _Level:
    """Field gradients (ppm/mm, at the voxels' far faces) and masks of one grid."""

    gradients: np.ndarray
    usable: np.ndarray
    data: np.ndarray
    penalised: np.ndarray
    voxel_size_mm: tuple[float, ...]


@handles_holes
def tgv(
    echo_phase: np.ndarray,
    total_mask: np.ndarray,
    *,
    voxel_size_mm: tuple[float, float, float],
    b0_direction: tuple[float, float, float],
    centre_frequency_mhz: float,
    echo_times_s: np.ndarray,
    echo_magnitude: np.ndarray | None = None,
    relative_residual: np.ndarray | None = None,
    options: TgvOptions = TgvOptions(),
    progress: Callable[[int, int], None] | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility in one step from wrapped phase, by total generalised variation.

    min over phi, chi, w of 1/2 |M phi|^2 + alpha1 |grad chi - w| + alpha0 |E w| subject to
    laplacian(phi) = (1/3 laplacian - (b . grad)^2) chi - laplacian(f) in the mask M, with E the symmetric gradient.
    The background field is harmonic in M, so that its Laplacian is 0 there; laplacian(f) comes from the differences of
    neighbouring voxels' phase, for which wraps do not matter.

    Three things differ from the publication. (1) Each difference is unwrapped along the echoes (its phase grows in
    proportion to the echo time), each echo divided by its time, and the echoes combined with weights
    (magnitude TE)^2, before the divergence is taken: the noise of the differences then stays a divergence, which
    spoils low frequencies less. (2) Coarser grids, on which the exact Laplacian of the averaged field is known from
    the same differences, give the start: from zero, low frequencies are still missing after 1600 iterations.
    (3) The mean of the Laplacian is kept: it is the field's flux out of the mask. alpha is in ppm: with alpha in
    rad, as published, divide by 2 pi f0 TE, which is 16 rad/ppm at 3 T and 20 ms. The defaults then correspond to
    0.0024 and 0.0048 rad, within the range of published implementations (0.0005 to 0.005 rad).

    Parameters
    ----------
    echo_phase : (n_echo, n0, n1, n2) in rad, wrapped or not, without the receiver's phase offset.
    total_mask : (n0, n1, n2) where the phase is valid.
    voxel_size_mm : edge lengths in mm.
    b0_direction : direction of B0 in voxel axes.
    centre_frequency_mhz : of the scanner.
    echo_times_s : (n_echo,) ascending.
    echo_magnitude : (n_echo, n0, n1, n2) >= 0, to weight the echoes; None: TE^2 alone.
    relative_residual : (n0, n1, n2) of the echo combination; equations that touch voxels above the threshold are
        left out, the voxels stay in the mask.
    options : parameters.
    progress : called as progress(iteration, cap of all grids together).
    device : "cpu", or a torch device, for the iteration.

    Returns
    -------
    Inversion with chi in ppm up to a constant, 0 outside its mask: the total mask, eroded.

    Raises
    ------
    ValueError for options out of range, shapes that differ, a mask that is empty or vanishes when eroded, and phase
    that is not in radians.

    References
    ----------
    Langkammer 2015; Bredies 2010; Chambolle and Pock 2011.
    """
    check_options(options)
    begin = time.perf_counter()
    phase, magnitude, inside, times = _checked(echo_phase, echo_magnitude, total_mask, echo_times_s)
    if not centre_frequency_mhz > 0:
        raise ValueError(f"The centre frequency must be positive; got {centre_frequency_mhz!r} MHz.")
    usable = reliable(inside, relative_residual, options.residual_threshold) & np.isfinite(phase).all(axis=0)
    if magnitude is not None:
        usable &= np.isfinite(magnitude).all(axis=0) & (magnitude[0] > 0)
    mask = _eroded(inside, options.erosions)
    box = bounding_box(inside)
    count = _grid_count(tuple(s.stop - s.start for s in box))
    factor = 2 ** (count - 1)
    pads = [(MARGIN * factor, MARGIN * factor + -(s.stop - s.start) % factor) for s in box]
    crop = tuple(slice(before, before + s.stop - s.start) for s, (before, _) in zip(box, pads, strict=True))

    def padded(image):
        return np.pad(image[(..., *box)], [(0, 0)] * (image.ndim - 3) + pads)

    clean = np.where(usable[(slice(None), *box)] if usable.ndim == 4 else usable[box], phase[(..., *box)], 0)
    clean = np.pad(clean.astype(np.float32), [(0, 0), *pads])
    weight = None if magnitude is None else padded(np.where(usable, magnitude, 0).astype(np.float32))
    level = _Level(
        gradients=field_gradients(clean, weight, times, centre_frequency_mhz, voxel_size_mm),
        usable=padded(usable),
        data=padded(_eroded(usable, 1) & mask),
        penalised=padded(mask),
        voxel_size_mm=tuple(float(h) for h in voxel_size_mm),
    )
    del clean, weight
    levels = [level]
    while len(levels) < count:
        levels.append(_coarser(levels[-1]))
    levels = [one for one in levels if one is level or one.data.any()]
    state, history, converged = _iterate(levels, b0_direction, options, progress, device)
    chi = np.zeros(inside.shape, np.float32)
    chi[box] = to_numpy(state.chi)[crop]
    chi[~mask] = 0
    seconds = time.perf_counter() - begin
    return Inversion(
        chi, mask, Convergence(len(history), converged, tuple(history), "relative change of chi, all grids", seconds)
    )


def _checked(echo_phase, echo_magnitude, total_mask, echo_times_s):
    """Phase, magnitude (or None), boolean mask and echo times; ValueError for what does not belong together."""
    phase, inside = np.asarray(echo_phase), np.asarray(total_mask) > 0
    times = check_echo_times(echo_times_s)
    if phase.ndim != 4 or phase.shape[1:] != inside.shape:
        raise ValueError(
            f"Phase and mask must be of one shape, the phase with echoes first; got {phase.shape} and {inside.shape}."
        )
    if len(phase) != times.size:
        raise ValueError(f"There are {len(phase)} phase images and {times.size} echo times.")
    if not inside.any():
        raise ValueError("The mask is empty: no voxel to invert.")
    strongest = max(float(np.nanmax(np.abs(np.where(np.isfinite(echo[inside]), echo[inside], 0)))) for echo in phase)
    if strongest > 1000:
        raise ValueError(f"The phase reaches {strongest:.4g}: is it in scanner units instead of radians?")
    magnitude = None if echo_magnitude is None else np.asarray(echo_magnitude)
    if magnitude is not None:
        if magnitude.shape != phase.shape:
            raise ValueError(f"The magnitude has shape {magnitude.shape}; the phase has {phase.shape}.")
        if any(np.nanmin(echo[inside]) < 0 for echo in magnitude):
            raise ValueError("The magnitude must not be negative.")
    return phase, magnitude, inside, times


def _eroded(mask: np.ndarray, times: int) -> np.ndarray:
    from scipy.ndimage import binary_erosion

    eroded = binary_erosion(mask, iterations=times)
    if not eroded.any():
        raise ValueError(f"The mask is empty after {times} erosions: lower `erosions`, or use a larger mask.")
    return eroded


def _grid_count(shape: tuple[int, ...]) -> int:
    return 1 + min(GRIDS - 1, max(0, int(math.log2(max(min(shape) / SMALLEST, 1)))))


def field_gradients(
    phase: np.ndarray,
    magnitude: np.ndarray | None,
    echo_times_s: np.ndarray,
    centre_frequency_mhz: float,
    voxel_size_mm: tuple[float, float, float],
) -> np.ndarray:
    """Forward differences of the field in ppm/mm, (3, n0, n1, n2) float32, from wrapped phase of several echoes.

    A difference of phase is wrapped at the first echo, and at every later one taken next to what the echo before
    predicts. Echoes are averaged with weights 1 / (1/w + 1/w') of both voxels' w = (magnitude TE)^2, the inverse
    variance of the difference; 0 where no echo has weight.

    Parameters
    ----------
    phase : (n_echo, n0, n1, n2) float32, rad, finite.
    magnitude : (n_echo, n0, n1, n2) float32, or None for 1.
    echo_times_s : (n_echo,) ascending.
    centre_frequency_mhz : of the scanner.
    voxel_size_mm : edge lengths in mm.
    """
    out = np.zeros((3, *phase.shape[1:]), np.float32)
    magnitude = np.ones((1, 1, 1, 1), np.float32) if magnitude is None else magnitude
    per_radian = (1 / (2 * np.pi * np.asarray(echo_times_s) * centre_frequency_mhz)).astype(np.float32)
    _field_gradients(phase, magnitude, np.asarray(echo_times_s, np.float32), per_radian,
                     np.array([1 / h for h in voxel_size_mm], np.float32), out)  # fmt: skip
    return out


def _coarser(level: _Level) -> _Level:
    """The next grid, of voxels twice as large, each the mean of eight: its field's differences follow exactly."""
    gradients = []
    for axis in range(3):
        g = level.gradients[axis]
        g = np.roll(g, 1, axis) + 2 * g + np.roll(g, -1, axis)
        g = np.moveaxis(np.moveaxis(g, axis, 0)[1::2], 0, axis)
        for other in range(3):
            if other != axis:
                moved = np.moveaxis(g, other, 0)
                g = np.moveaxis(moved[0::2] + moved[1::2], 0, other)
        gradients.append(g / np.float32(16))
    n = level.usable.shape
    usable = level.usable.reshape(n[0] // 2, 2, n[1] // 2, 2, n[2] // 2, 2).all(axis=(1, 3, 5))
    from scipy.ndimage import binary_erosion

    data = binary_erosion(usable)
    return _Level(np.stack(gradients), usable, data, data, tuple(2 * h for h in level.voxel_size_mm))


def _iterate(levels: list[_Level], b0_direction, options: TgvOptions, progress, device):
    """Solve from the coarsest grid to the finest: state there, changes of all grids, whether the finest converged."""
    state: State | None = None
    history: list[float] = []
    converged, total = False, len(levels) * options.max_iterations
    finest = math.prod(levels[0].voxel_size_mm) ** (1 / 3)
    for depth in range(len(levels) - 1, -1, -1):
        level = levels[depth]
        grid = make_grid(
            _divergence(level),
            level.data,
            level.penalised,
            voxel_size_mm=level.voxel_size_mm,
            b0_direction=b0_direction,
            alpha1=options.alpha1 * GROWTH**depth,
            alpha0=options.alpha0 * GROWTH**depth,
            finest_mm=finest,
            device=device,
        )
        shape = level.usable.shape
        state = zero_state(shape, device) if state is None else finer_state(state, grid, shape, device)
        converged = False
        for _ in range(options.max_iterations):
            change, size = primal_step(state, grid)
            dual_step(state, grid)
            history.append(change / size if size > 0 else 1.0)
            if progress is not None:
                progress(len(history), total)
            if history[-1] < options.tolerance / 2**depth:
                converged = True
                break
    return state, history, converged


def _divergence(level: _Level) -> np.ndarray:
    return sum((g - np.roll(g, 1, axis)) / np.float32(h)
               for axis, (g, h) in enumerate(zip(level.gradients, level.voxel_size_mm, strict=True)))  # fmt: skip


@jit(parallel=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
def _field_gradients(phase, magnitude, times, per_radian, inverse, out):
    turn, per_turn, half = np.float32(2 * np.pi), np.float32(0.5 / np.pi), np.float32(0.5)
    zero, tiny = np.float32(0), np.float32(1e-30)
    count, n0, n1, n2 = phase.shape
    even = magnitude.shape[0] == 1 and magnitude.shape[1] == 1
    for a in prange(n0):
        for b in range(n1):
            for c in range(n2):
                for axis in range(3):
                    i, j, k = a + (axis == 0), b + (axis == 1), c + (axis == 2)
                    if i == n0 or j == n1 or k == n2:
                        continue
                    top, bottom, slope = zero, zero, zero
                    for e in range(count):
                        step = phase[e, i, j, k] - phase[e, a, b, c]
                        step -= turn * np.floor((step - slope * times[e]) * per_turn + half)
                        slope = step / times[e]
                        weight = times[e] * times[e]
                        if not even:
                            here, there = magnitude[e, a, b, c] ** 2, magnitude[e, i, j, k] ** 2
                            weight *= here * there / (here + there + tiny)
                        top += weight * step * per_radian[e]
                        bottom += weight
                    if bottom > zero:
                        out[axis, a, b, c] = top / bottom * inverse[axis]
