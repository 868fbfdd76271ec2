"""Region growing along the most trusted edges: the serial heart of ROMEO.

Labels tell the state of a voxel: 0 not reached, 1 to 254 the region that reached it, 255 outside the mask. Memory
access bounds the speed, hence the layout:

* Four bytes a voxel, its three forward costs and its label, so that a look at a neighbour is one cache line. Edge e
  belongs to voxel e >> 2 and axis e & 3.
* The queue is one last-in-first-out stack a cost. A stack is a chain of blocks of 32 edges, and only the ends of the
  255 chains are touched, which stay in the cache.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from qsmprep.numerics.arrays import DoubleArray, Labels, RealArray, Scalar
from qsmprep.numerics.jit import jit
from qsmprep.numerics.units import TWO_PI

Whole: TypeAlias = int | np.integer[Any]
OUTSIDE = np.uint8(255)
LAST_LABEL = 254
_BINS = 256
_BLOCK = 32
_FREE, _UNUSED = _BINS, _BINS + 1
_WORST_SEED = 3 * 255


def grow(
    phase: np.ndarray,
    costs: np.ndarray,
    mask: np.ndarray,
    *,
    max_seeds: int = 1,
    wrap_addition: float = 0.0,
    second_phase: np.ndarray | None = None,
    times: tuple[float, float] = (1.0, 1.0),
) -> tuple[np.ndarray, int]:
    """Unwrap an image in place from its best seeds along a minimum spanning tree.

    Up to `max_seeds` regions grow at the same time. Every part of the mask that they cannot reach gets a seed of its
    own, the best one left there.

    Parameters
    ----------
    phase : (n0, n1, n2) float32 in rad, overwritten.
    costs : (n0, n1, n2, 3) uint8, of `edge_costs`.
    mask : (n0, n1, n2) bool.
    max_seeds : 1 to 254.
    wrap_addition : by how much a step between neighbours may exceed pi when the step before it was as steep, rad.
    second_phase, times : another echo and the two echo times in ms (this one first), to bring the seed to the period
        in which both echoes show the same frequency. Without them the seed is wrapped to [-pi, pi].

    Returns
    -------
    labels : (n0, n1, n2) uint8.
    regions : number of regions.
    """
    second = phase[:0] if second_phase is None else second_phase
    state = _packed(costs, np.where(mask, np.uint8(0), OUTSIDE))
    regions = _grow_from_seeds(
        phase.reshape(-1),
        second.reshape(-1),
        np.array(times, np.float64),
        state.reshape(-1, 4),
        steps_of(phase.shape),
        int(max_seeds),
        np.float32(wrap_addition),
    )
    return np.ascontiguousarray(state[..., 3]), int(regions)


def regrow(phase: np.ndarray, costs: np.ndarray, mask: np.ndarray, trusted: np.ndarray) -> None:
    """Unwrap the voxels of the mask that are not trusted again, in place, starting from their trusted neighbours."""
    state = _packed(costs, np.where(mask, trusted.astype(np.uint8), OUTSIDE))
    _grow_from_labels(phase.reshape(-1), state.reshape(-1, 4), steps_of(phase.shape))


def _packed(costs: Labels, labels: Labels) -> Labels:
    state = np.empty((*labels.shape, 4), np.uint8)
    state[..., :3] = costs
    state[..., 3] = labels
    return state


def steps_of(shape: tuple[int, int, int]) -> np.ndarray:
    """Distance in memory, in voxels, to the next neighbour along each axis."""
    return np.array([shape[1] * shape[2], shape[2], 1], np.int64)


@jit()
def _grow_from_seeds(
    phase: RealArray,
    second: RealArray,
    times: DoubleArray,
    state: Labels,
    steps: Labels,
    max_seeds: Whole,
    wrap_addition: Scalar,
) -> Any:
    tops, before, edges = _new_queue(phase.size)
    waiting = _count_unreached(state)
    regions, threshold = 0, _BINS
    order: Labels = np.empty(0, np.int32)
    position = -1
    seed: Any = _best_seed(state)
    while seed >= 0:
        if _push_edges(seed, state, steps, tops, before, edges) < _BINS:
            phase[seed] += TWO_PI * correct_seed(phase, second, times, seed)
            regions += 1
            # Parts beyond the last label share it; nothing touches them, so that merging leaves them alone.
            state[seed, 3] = min(regions, LAST_LABEL)
            waiting -= 1
            threshold = _seed_threshold(seed, state) if regions < max_seeds else _BINS
        waiting = _drain(phase, state, steps, tops, before, edges, wrap_addition, threshold, waiting)
        if waiting == 0:
            break
        if position < 0:
            order, position = _seed_order(state), 0
        seed = -1
        while position < order.size and seed < 0:
            if state[order[position], 3] == 0:
                seed = np.int64(order[position])
            position += 1
    _drain(phase, state, steps, tops, before, edges, wrap_addition, _BINS, waiting)
    return min(regions, LAST_LABEL)


@jit()
def _grow_from_labels(phase: RealArray, state: Labels, steps: Labels) -> None:
    tops, before, edges = _new_queue(phase.size)
    for voxel in range(phase.size):
        for axis in range(3):
            if state[voxel, axis] > 0:
                label, other = state[voxel, 3], state[voxel + steps[axis], 3]
                if (label == 0 and 0 < other < OUTSIDE) or (other == 0 and 0 < label < OUTSIDE):
                    _push(4 * voxel + axis, np.int64(state[voxel, axis]), tops, before, edges)
    _drain(phase, state, steps, tops, before, edges, np.float32(0), _BINS, _count_unreached(state))


@jit()
def _drain(
    phase: RealArray, state: Labels, steps: Labels, tops: Labels, before: Labels, edges: Labels,
    wrap_addition: Any, threshold: Whole, waiting: Whole,
) -> Any:  # fmt: skip
    """Follow the cheapest edge until no voxel waits or the best one costs more than the threshold.

    Returns the number of voxels that still wait.
    """
    lowest = 1
    while waiting > 0:
        while lowest < _BINS and tops[lowest] < 0:
            lowest += 1
        if lowest == _BINS or lowest > threshold:
            break
        edge = np.int64(_pop(lowest, tops, before, edges))
        one, axis = edge >> 2, edge & 3
        step = steps[axis]
        other = one + step
        if state[other, 3] == 0:
            old, new, behind, first = one, other, one - step, one - step
        elif state[one, 3] == 0:
            old, new, behind, first = other, one, other + step, other
        else:
            continue
        label = state[old, 3]
        slope = np.float32(0)
        if wrap_addition > 0 and first >= 0 and state[first, axis] > 0 and state[behind, 3] == label:
            slope = min(max(phase[old] - phase[behind], -wrap_addition), wrap_addition)
        turns = np.rint((np.float64(phase[new]) - phase[old] - slope) / TWO_PI)
        if turns != 0:
            phase[new] -= TWO_PI * turns
        state[new, 3] = label
        waiting -= 1
        lowest = min(lowest, _push_edges(new, state, steps, tops, before, edges))
    return waiting


@jit()
def _push_edges(voxel: Whole, state: Labels, steps: Labels, tops: Labels, before: Labels, edges: Labels) -> Any:
    """Queue the edges to neighbours not reached yet; the lowest cost among them, 256 when there is none."""
    lowest: Any = _BINS
    for axis in range(3):
        step = steps[axis]
        cost = np.int64(state[voxel, axis])
        if cost > 0 and state[voxel + step, 3] == 0:
            _push(4 * voxel + axis, cost, tops, before, edges)
            lowest = min(lowest, cost)
        behind = voxel - step
        if behind >= 0 and state[behind, 3] == 0:
            cost = np.int64(state[behind, axis])
            if cost > 0:
                _push(4 * behind + axis, cost, tops, before, edges)
                lowest = min(lowest, cost)
    return lowest


@jit()
def _new_queue(voxels: Whole) -> tuple[Labels, Labels, Labels]:
    """Ends of the stacks (-1: empty), then a free block and the first block never used; block chains; edges."""
    tops = np.full(_BINS + 2, -1, np.int64)
    tops[_UNUSED] = 0
    blocks = 3 * voxels // _BLOCK + 2 * _BINS
    return tops, np.empty(blocks, np.int32), np.empty(blocks * _BLOCK, np.int32)


@jit()
def _push(edge: Whole, cost: Whole, tops: Labels, before: Labels, edges: Labels) -> None:
    top = tops[cost] + 1
    if top & (_BLOCK - 1) == 0:  # empty stack or full block
        block = tops[_FREE]
        if block >= 0:
            tops[_FREE] = before[block]
        else:
            block = tops[_UNUSED]
            tops[_UNUSED] += 1
        before[block] = -1 if top == 0 else (top - 1) // _BLOCK
        top = block * _BLOCK
    edges[top] = edge
    tops[cost] = top


@jit()
def _pop(cost: Whole, tops: Labels, before: Labels, edges: Labels) -> Any:
    top = tops[cost]
    if top & (_BLOCK - 1) == 0:
        block = top // _BLOCK
        tops[cost] = np.int64(before[block] + 1) * _BLOCK - 1
        before[block] = tops[_FREE]
        tops[_FREE] = block
    else:
        tops[cost] = top - 1
    return edges[top]


@jit()
def _count_unreached(state: Labels) -> Any:
    count = 0
    for voxel in range(len(state)):
        count += state[voxel, 3] == 0
    return count


@jit()
def _seed_sum(state: Labels, voxel: Whole) -> Any:
    """Sum of the costs of the three forward edges, a missing edge counting as the worst."""
    total: Whole = 0
    for axis in range(3):
        cost = np.int64(state[voxel, axis])
        total += cost if cost > 0 else 255
    return total


@jit()
def _best_seed(state: Labels) -> Any:
    best, lowest = -1, _WORST_SEED
    for voxel in range(len(state)):
        if state[voxel, 3] == 0:
            total = _seed_sum(state, voxel)
            if total < lowest:
                best, lowest = voxel, total
    return best


@jit()
def _seed_order(state: Labels) -> Labels:
    """Voxels not reached, best seed first (a counting sort); voxels without any forward edge are left out."""
    starts = np.zeros(_WORST_SEED + 2, np.int64)
    for voxel in range(len(state)):
        if state[voxel, 3] == 0:
            starts[_seed_sum(state, voxel) + 1] += 1
    starts = np.cumsum(starts)
    order = np.empty(starts[_WORST_SEED], np.int32)
    for voxel in range(len(state)):
        if state[voxel, 3] == 0:
            total = _seed_sum(state, voxel)
            if total < _WORST_SEED:
                order[starts[total]] = voxel
                starts[total] += 1
    return order


@jit()
def _seed_threshold(seed: Whole, state: Labels) -> Any:
    return _BINS - np.int64(np.floor((_BINS - _seed_sum(state, seed) / 3) / 2))


@jit()
def correct_seed(phase: RealArray, second: RealArray, times: DoubleArray, seed: Whole) -> Any:
    """Turns to add to a seed: those under which two echoes show the same frequency; one echo: wrap to [-pi, pi]."""
    if second.size == 0 or not np.isfinite(second[seed]):
        return -np.int64(np.rint(phase[seed] / TWO_PI))
    best, chosen = np.inf, 0
    for turns in range(-2, 3):
        for second_turns in range(-1, 2):
            one = (phase[seed] + TWO_PI * turns) / times[0]
            other = (second[seed] + TWO_PI * second_turns) / times[1]
            # Of equally good periods the smallest wins (every pair is as good when TE2 = 2 TE1).
            distance = abs(one - other) + (abs(turns) + abs(second_turns)) / 100
            if distance < best:
                best, chosen = distance, turns
    return chosen
