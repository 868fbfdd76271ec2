"""ROMEO: unwrapping along the most trusted neighbours, other echoes following the template echo in time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.arrays import DoubleArray, FloatImage, Labels, Mask, RealArray
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.progress import Progress
from qsmprep.numerics.units import TWO_PI
from qsmprep.numerics.volume import bounding_box
from qsmprep.options import check_options, option
from qsmprep.scan import Scan
from qsmprep.unwrap import Unwrapping, growing, regions
from qsmprep.unwrap.forest import unwrap_by_forest
from qsmprep.unwrap.quality import quality_of_edges
from qsmprep.unwrap.weights import PRESETS, edge_costs


@dataclass(frozen=True)
class RomeoOptions:
    """Options of ROMEO; the defaults are those of the ROMEO application, global correction apart."""

    weights: str = option("romeo", "edge weights; romeo: romeo3 with a magnitude, romeo4 without", choices=PRESETS)
    template_echo: int = option(
        1, "echo that is unwrapped in space, counted from 1; the others follow it", low=1, when=("individual", False)
    )
    individual: bool = option(False, "unwrap every echo in space, for data with phase offsets or motion")
    tree: str = option(
        "grown",
        "how the spanning tree is built; grown: from seeds; sorted: at once from all edges by weight, twice as "
        "fast, different among equal weights, one seed, no wrap addition",
        choices=("grown", "sorted"),
    )
    max_seeds: int = option(1, "number of regions that grow at the same time", low=1, high=growing.LAST_LABEL)
    merge_regions: bool = option(False, "join touching regions without a jump between them")
    correct_regions: bool = option(False, "bring the median of every region nearest to zero by a multiple of 2 pi")
    correct_global: bool = option(True, "bring the median of the whole image nearest to zero by a multiple of 2 pi")
    wrap_addition: float = option(
        0.0, "amount by which a step may exceed pi after an equally steep one", unit="rad", low=0, high=3.1416
    )
    # The application of the authors has 0, their library 0.5. In vivo 0 leaves single voxels of later echoes a turn
    # off where noise or a phase offset breaks the proportion of echo times.
    temporal_uncertain: float = option(
        0.3,
        "temporal quality up to which voxels are unwrapped in space from better ones; 0: none are",
        low=0,
        high=1,
        when=("individual", False),
    )


def romeo(
    phase: np.ndarray,
    *,
    scan: Scan,
    magnitude: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    options: RomeoOptions = RomeoOptions(),
    progress: Progress | None = None,
) -> Unwrapping:
    """Unwrap phase images by ROMEO.

    The template echo is unwrapped in space; every other echo takes the period nearest to what its neighbour in time
    predicts, which asks for phase offsets to be removed before. Parts of the mask that do not touch are unwrapped one
    by one.

    Parameters
    ----------
    phase : (n_echo, n0, n1, n2) or (n0, n1, n2) float32, rad. Voxels that are not finite stay isolated and become 0.
    scan : one echo time an echo.
    magnitude : shape of `phase`; NaN counts as 0.
    mask : (n0, n1, n2) bool; by default the whole volume.
    progress : called as progress(echoes done, echoes).

    Returns
    -------
    Unwrapping; its quality map is that of the template echo (individual: the mean over the echoes).

    Raises
    ------
    ValueError
        When shapes do not fit, the mask is empty, or an option is out of range.

    References
    ----------
    Dymerska et al. 2021, Magn Reson Med 85:2294.

    Examples
    --------
    Two echoes whose phase spans several turns:

    >>> scan = Scan((1, 1, 1), echo_times_s=(0.005, 0.010))
    >>> truth = np.linspace(-8, 8, 24)[:, None, None] + np.zeros((2, 24, 4, 4))
    >>> truth[1] *= 2
    >>> found = romeo(np.angle(np.exp(1j * truth)).astype(np.float32), scan=scan)
    >>> round(float(np.abs(found.phase - truth).max()), 3), found.isolated_voxels
    (0.0, 0)
    """
    check_options(options)
    times = scan.known_echo_times_s
    echoes = phase[None] if phase.ndim == 3 else phase
    strengths = magnitude[None] if magnitude is not None and magnitude.ndim == 3 else magnitude
    mask = np.ones(echoes.shape[1:], bool) if mask is None else np.asarray(mask, bool)
    _check_input(echoes, times, strengths, mask, options)
    report = progress or (lambda done, total: None)

    box = bounding_box(mask)
    inside = np.ascontiguousarray(mask[box])
    unwrapped = np.zeros(echoes.shape, np.float32)
    stack = _Stack(echoes, strengths, times, box, inside, unwrapped)
    quality = np.zeros(mask.shape, np.float32)
    solve = _individual if options.individual else _template
    quality[box], isolated, parts = solve(stack, options, report)
    return Unwrapping(unwrapped.reshape(phase.shape), quality, isolated, parts)


@dataclass(frozen=True)
class _Stack:
    """Echoes and where to work: `box` is the part of the volume around the mask, `inside` the mask in it."""

    phase: np.ndarray
    magnitude: np.ndarray | None
    times: np.ndarray
    box: tuple[slice, ...]
    inside: np.ndarray
    unwrapped: np.ndarray

    def wrapped(self, echo: int) -> np.ndarray:
        """A copy of the phase of an echo in the box."""
        return np.array(self.phase[echo][self.box], np.float32, order="C")

    def strength(self, echo: int) -> np.ndarray | None:
        """Magnitude of an echo in the box, what is not finite or negative set to 0."""
        if self.magnitude is None:
            return None
        cropped = np.array(self.magnitude[echo][self.box], np.float32, order="C")
        _clean(cropped.reshape(-1))
        return cropped


def _check_input(
    echoes: RealArray,
    times: DoubleArray,
    strengths: RealArray | None,
    mask: Mask,
    options: RomeoOptions,
) -> None:
    if echoes.ndim != 4 or len(times) != len(echoes):
        raise ValueError(f"Phase of shape {echoes.shape} does not fit {len(times)} echo times.")
    if strengths is not None and strengths.shape != echoes.shape:
        raise ValueError(f"Magnitude of shape {strengths.shape} does not fit phase of shape {echoes.shape}.")
    if mask.shape != echoes.shape[1:]:
        raise ValueError(f"Mask of shape {mask.shape} does not fit phase of shape {echoes.shape}.")
    if options.tree == "sorted" and (options.max_seeds > 1 or options.wrap_addition > 0):
        raise ValueError("The sorted tree has one seed and no wrap addition; choose the grown tree for these.")
    if mask.size >= 2**29:
        raise ValueError(f"A volume of {mask.size} voxels is too large: edges are counted in 32 bits.")
    if options.template_echo > len(echoes):
        raise ValueError(f"Template echo {options.template_echo} does not exist: there are {len(echoes)} echoes.")


def _template(stack: _Stack, options: RomeoOptions, report: Progress) -> tuple[FloatImage, int, int]:
    count, template = len(stack.times), options.template_echo - 1
    volume, costs, labels, parts = _unwrap_in_space(stack, template, options)
    if options.correct_global:
        volume -= np.float32(TWO_PI * _global_turns(stack, template, volume))
    _store(stack, template, volume)
    report(1, count)
    outwards = [*range(template - 1, -1, -1), *range(template + 1, count)]
    for number, echo in enumerate(outwards):
        neighbour = echo + 1 if echo < template else echo - 1
        _follow_in_time(stack, echo, neighbour, costs, options)
        report(number + 2, count)
    isolated = int(np.count_nonzero(labels == 0))
    return quality_of_edges(costs, stack.inside), isolated, parts


def _individual(stack: _Stack, options: RomeoOptions, report: Progress) -> tuple[FloatImage, int, int]:
    count = len(stack.times)
    quality = np.zeros(stack.inside.shape, np.float32)
    isolated, parts, previous = 0, 0, None
    for echo in range(count):
        volume, costs, labels, found = _unwrap_in_space(stack, echo, options)
        if options.correct_global:
            volume -= np.float32(TWO_PI * regions.median_turns(volume, stack.inside))
            if previous is not None:
                predicted = previous * np.float32(stack.times[echo] / stack.times[echo - 1])
                volume += np.float32(TWO_PI * regions.median_turns(predicted - volume, stack.inside))
        _store(stack, echo, volume)
        quality += quality_of_edges(costs, stack.inside) / np.float32(count)
        isolated += int(np.count_nonzero(labels == 0))
        parts, previous = max(parts, found), volume
        report(echo + 1, count)
    return quality, isolated, parts


def _unwrap_in_space(stack: _Stack, echo: int, options: RomeoOptions) -> tuple[FloatImage, Labels, Labels, int]:
    """One echo unwrapped by region growing: phase, edge costs, labels and number of regions."""
    volume = stack.wrapped(echo)
    second, ratio, times_ms = None, 1.0, (1.0, 1.0)
    if len(stack.times) > 1:
        other = echo - 1 if echo > 0 else 1
        second = stack.wrapped(other)
        ratio = stack.times[echo] / stack.times[other]
        times_ms = (1e3 * stack.times[echo], 1e3 * stack.times[other])
    costs = edge_costs(
        volume,
        mask=stack.inside,
        preset=options.weights,
        second_phase=second,
        time_ratio=ratio,
        magnitude=stack.strength(echo),
    )
    if options.tree == "sorted":
        labels, parts = unwrap_by_forest(volume, costs, stack.inside, second_phase=second, times=times_ms)
    else:
        labels, parts = growing.grow(
            volume,
            costs,
            stack.inside,
            max_seeds=options.max_seeds,
            wrap_addition=options.wrap_addition,
            second_phase=second,
            times=times_ms,
        )
    if options.merge_regions:
        parts = regions.merge_regions(volume, labels, costs, parts)
    if options.correct_regions:
        regions.correct_regions(volume, labels)
    return volume, costs, labels, parts


def _global_turns(stack: _Stack, template: int, volume: FloatImage) -> int:
    """Whole turns to take away from the template echo.

    One echo: the median. ROMEO.jl takes the median for several echoes too; with TE2/TE1 not an integer this breaks the
    proportion between the echoes that the others are unwrapped by. Here the turns nearest to the median are sought
    under which the second echo fits best.
    """
    median = regions.median_turns(volume, stack.inside)
    if len(stack.times) == 1:
        return median
    other = template - 1 if template > 0 else 1
    candidates = median + np.array([0, -1, 1, -2, 2, -3, 3])
    ratio = stack.times[other] / stack.times[template]
    selected = stack.inside & np.isfinite(volume)
    every = max(1, np.count_nonzero(selected) // 50_000)
    first = volume[selected][::every].astype(float)
    second = stack.phase[other][stack.box][selected][::every].astype(float)
    usable = np.isfinite(second)
    if not usable.any():
        return median
    misfit = [np.mean(1 - np.cos((first - TWO_PI * k) * ratio - second), where=usable) for k in candidates]
    # Within 2 % of the full range the fits are as good, and the candidate nearest to the median wins.
    return int(candidates[np.argmax(np.array(misfit) <= np.min(misfit) + 0.04)])


def _follow_in_time(stack: _Stack, echo: int, neighbour: int, costs: Labels, options: RomeoOptions) -> None:
    wrapped = stack.wrapped(echo)
    predicted = stack.unwrapped[neighbour][stack.box] * np.float32(stack.times[echo] / stack.times[neighbour])
    volume = np.empty_like(wrapped)
    _nearest_period(wrapped.reshape(-1), predicted.reshape(-1), volume.reshape(-1))
    if options.temporal_uncertain > 0:
        pair = edge_costs(
            volume / 2,
            mask=stack.inside,
            preset=options.weights,
            second_phase=predicted / 2,
            magnitude=stack.strength(echo),
        )
        # Beyond the reference: a voxel within an eighth of a turn of its prediction is certain, however steep the phase
        # is around it; without this, steep but perfect phase would be unwrapped in space, and wrongly.
        certain = np.abs(volume - predicted) < np.float32(np.pi / 4)
        trusted = stack.inside & (certain | (quality_of_edges(pair, stack.inside) > options.temporal_uncertain))
        growing.regrow(volume, costs, stack.inside, trusted)
    _store(stack, echo, volume)


def _store(stack: _Stack, echo: int, volume: FloatImage) -> None:
    """Put an unwrapped box into the result, 0 outside the mask and where the phase was not finite."""
    _masked_copy(volume, stack.inside, stack.unwrapped[echo][stack.box])


@jit(parallel=True)
def _masked_copy(volume: RealArray, inside: Mask, out: RealArray) -> None:
    for a in prange(volume.shape[0]):
        for b in range(volume.shape[1]):
            for k in range(volume.shape[2]):
                if inside[a, b, k] and np.isfinite(volume[a, b, k]):
                    out[a, b, k] = volume[a, b, k]


@jit(parallel=True)
def _nearest_period(wrapped: RealArray, predicted: RealArray, out: RealArray) -> None:
    for voxel in prange(wrapped.size):
        turns = np.rint((np.float64(wrapped[voxel]) - predicted[voxel]) / TWO_PI)
        out[voxel] = wrapped[voxel] - TWO_PI * turns


@jit(parallel=True)
def _clean(magnitude: RealArray) -> None:
    for voxel in prange(magnitude.size):
        if not (magnitude[voxel] >= 0 and magnitude[voxel] < np.inf):
            magnitude[voxel] = 0
