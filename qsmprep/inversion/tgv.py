"""Single-step inversion with total generalised variation (TGV-QSM): from wrapped phase to susceptibility."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsmprep.inversion import Inversion
from qsmprep.inversion.holes import in_passes, residual_threshold_option, two_pass_option
from qsmprep.inversion.inputs import reliable
from qsmprep.numerics.arrays import FloatImage, Mask, RealArray
from qsmprep.numerics.convergence import ended
from qsmprep.numerics.fourier import to_numpy
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.progress import Progress
from qsmprep.numerics.tgv_primal_dual import MARGIN, State, dual_step, finer_state, make_grid, primal_step, zero_state
from qsmprep.numerics.volume import bounding_box
from qsmprep.options import check_options, option
from qsmprep.scan import Scan, Triple

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
class _Box:
    """The mask's box and the voxels added on either side of each axis, so that all grids are of whole voxels."""

    box: tuple[slice, ...]
    pads: tuple[tuple[int, int], ...]
    grids: int

    def padded(self, image: NDArray[Any]) -> NDArray[Any]:
        """The box of an image (..., n0, n1, n2), with zeros around it."""
        kept: tuple[Any, ...] = (..., *self.box)
        return np.pad(image[kept], [(0, 0)] * (image.ndim - 3) + list(self.pads))

    def restored(self, padded: FloatImage, shape: tuple[int, ...]) -> FloatImage:
        """A volume of that shape with the box of a padded image, 0 elsewhere."""
        inner = tuple(slice(low, low + s.stop - s.start) for s, (low, _) in zip(self.box, self.pads, strict=True))
        volume = np.zeros(shape, np.float32)
        volume[self.box] = padded[inner]
        return volume


@dataclass(frozen=True)
class _Level:
    """Field gradients (ppm/mm, at the voxels' far faces) and masks of one grid."""

    gradients: FloatImage
    usable: Mask
    data: Mask
    penalised: Mask
    voxel_size_mm: Triple


def tgv(
    phase: RealArray,
    total_mask: Mask,
    *,
    scan: Scan,
    magnitude: RealArray | None = None,
    relative_residual: RealArray | None = None,
    options: TgvOptions = TgvOptions(),
    progress: Progress | None = None,
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
    phase : (n_echo, n0, n1, n2) in rad, wrapped or not, without the receiver's phase offset.
    total_mask : (n0, n1, n2) where the phase is valid.
    scan : geometry, echo times and centre frequency.
    magnitude : (n_echo, n0, n1, n2) >= 0, to weight the echoes; None: TE^2 alone.
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

    Examples
    --------
    A ball of 0.1 ppm and 4 mm radius, from its field by the formula of the sphere, as phase that wraps:

    >>> import numpy as np
    >>> from qsmprep.scan import Scan
    >>> x, y, z = np.indices((20, 20, 20)) - 9.5
    >>> r = np.sqrt(x**2 + y**2 + z**2)
    >>> field_ppm = np.where(r > 4, 0.1 / 3 * (4 / r) ** 3 * (3 * (z / r) ** 2 - 1), 0)
    >>> scan = Scan((1, 1, 1), echo_times_s=(0.01, 0.02), centre_frequency_mhz=123.2)
    >>> phase = 2 * np.pi * scan.frequency_mhz * scan.known_echo_times_s[:, None, None, None] * (field_ppm + 0.05 * z)
    >>> found = tgv(np.angle(np.exp(1j * phase)), r < 9, scan=scan, options=TgvOptions(erosions=1))
    >>> chi = found.chi_ppm
    >>> round(float(chi[r < 3].mean() - chi[(r > 6) & found.mask].mean()), 2)
    0.09
    """
    check_options(options)

    def one_pass(relative_residual: RealArray | None, progress: Progress | None) -> Inversion:
        begin = time.perf_counter()
        echoes, strength, inside = _checked(phase, magnitude, total_mask, scan)
        usable = reliable(inside, relative_residual, options.residual_threshold) & np.isfinite(echoes).all(axis=0)
        if strength is not None:
            usable &= np.isfinite(strength).all(axis=0) & (strength[0] > 0)
        mask, box = _eroded(inside, options.erosions), _box_around(inside)
        levels = _levels(box, echoes, strength, usable, mask, scan)
        state, history, converged = _iterate(levels, scan.b0_direction, options, progress, device)
        chi = box.restored(to_numpy(state.chi), inside.shape)
        chi[~mask] = 0
        end = ended(begin, history, converged, monitored="relative change of chi, all grids")
        return Inversion(chi, mask, end)

    return in_passes(one_pass, total_mask, relative_residual, options, progress)


def _checked(
    phase: RealArray, magnitude: RealArray | None, total_mask: Mask, scan: Scan
) -> tuple[RealArray, RealArray | None, Mask]:
    """Phase, magnitude (or None) and boolean mask; ValueError for what does not belong together."""
    phase, inside = np.asarray(phase), np.asarray(total_mask) > 0
    times = scan.known_echo_times_s
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
    magnitude = None if magnitude is None else np.asarray(magnitude)
    if magnitude is not None:
        if magnitude.shape != phase.shape:
            raise ValueError(f"The magnitude has shape {magnitude.shape}; the phase has {phase.shape}.")
        if any(np.nanmin(echo[inside]) < 0 for echo in magnitude):
            raise ValueError("The magnitude must not be negative.")
    return phase, magnitude, inside


def _eroded(mask: Mask, times: int) -> Mask:
    from scipy.ndimage import binary_erosion

    eroded: Mask = binary_erosion(mask, iterations=times)
    if not eroded.any():
        raise ValueError(f"The mask is empty after {times} erosions: lower `erosions`, or use a larger mask.")
    return eroded


def _box_around(mask: Mask) -> _Box:
    box = bounding_box(mask)
    shortest = min(s.stop - s.start for s in box)
    grids = 1 + min(GRIDS - 1, max(0, int(math.log2(max(shortest / SMALLEST, 1)))))
    factor = 2 ** (grids - 1)
    pads = tuple((MARGIN * factor, MARGIN * factor + -(s.stop - s.start) % factor) for s in box)
    return _Box(box, pads, grids)


def _levels(
    box: _Box, phase: RealArray, magnitude: RealArray | None, usable: Mask, mask: Mask, scan: Scan
) -> list[_Level]:
    """The grids from the finest to the coarsest that has data."""
    clean = box.padded(np.where(usable, phase, 0).astype(np.float32))
    weight = None if magnitude is None else box.padded(np.where(usable, magnitude, 0).astype(np.float32))
    finest = _Level(
        gradients=field_gradients(clean, weight, scan),
        usable=box.padded(usable),
        data=box.padded(_eroded(usable, 1) & mask),
        penalised=box.padded(mask),
        voxel_size_mm=scan.voxel_size_mm,
    )
    del clean, weight
    levels = [finest]
    while len(levels) < box.grids:
        levels.append(_coarser(levels[-1]))
    return [level for level in levels if level is finest or level.data.any()]


def field_gradients(phase: FloatImage, magnitude: FloatImage | None, scan: Scan) -> FloatImage:
    """Forward differences of the field in ppm/mm, (3, n0, n1, n2) float32, from wrapped phase of several echoes.

    A difference of phase is wrapped at the first echo, and at every later one taken next to what the echo before
    predicts. Echoes are averaged with weights 1 / (1/w + 1/w') of both voxels' w = (magnitude TE)^2, the inverse
    variance of the difference; 0 where no echo has weight.

    Parameters
    ----------
    phase : (n_echo, n0, n1, n2) float32, rad, finite.
    magnitude : (n_echo, n0, n1, n2) float32, or None for 1.
    scan : voxel size, echo times and centre frequency.
    """
    times = scan.known_echo_times_s
    out = np.zeros((3, *phase.shape[1:]), np.float32)
    magnitude = np.ones((1, 1, 1, 1), np.float32) if magnitude is None else magnitude
    per_radian = (1 / (2 * np.pi * times * scan.frequency_mhz)).astype(np.float32)
    inverse = np.array([1 / h for h in scan.voxel_size_mm], np.float32)
    _field_gradients(phase, magnitude, times.astype(np.float32), per_radian, inverse, out)
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
    usable = np.asarray(level.usable.reshape(n[0] // 2, 2, n[1] // 2, 2, n[2] // 2, 2).all(axis=(1, 3, 5)))
    from scipy.ndimage import binary_erosion

    data: Mask = binary_erosion(usable)
    h0, h1, h2 = level.voxel_size_mm
    return _Level(np.stack(gradients), usable, data, data, (2 * h0, 2 * h1, 2 * h2))


def _iterate(
    levels: list[_Level], b0_direction: Triple, options: TgvOptions, progress: Progress | None, device: str
) -> tuple[State, list[float], bool]:
    """Solve from the coarsest grid to the finest: state there, changes of all grids, whether the finest converged."""
    state = zero_state(levels[-1].usable.shape, device)
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
        state = finer_state(state, grid, shape, device) if depth < len(levels) - 1 else state
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


def _divergence(level: _Level) -> FloatImage:
    total: FloatImage = np.zeros_like(level.gradients[0])
    for axis, (g, h) in enumerate(zip(level.gradients, level.voxel_size_mm, strict=True)):
        total += (g - np.roll(g, 1, axis)) / np.float32(h)
    return total


@jit(parallel=True)
def _field_gradients(
    phase: FloatImage,
    magnitude: FloatImage,
    times: FloatImage,
    per_radian: FloatImage,
    inverse: FloatImage,
    out: FloatImage,
) -> None:
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
