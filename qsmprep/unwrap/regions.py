"""Whole periods that an image, or one region of it, may carry too many."""

from __future__ import annotations

import numpy as np

from qsmprep.numerics.arrays import DoubleArray, Labels, RealArray
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.units import TWO_PI
from qsmprep.unwrap.growing import LAST_LABEL, OUTSIDE

_MOST_TURNS = 512


def median_turns(phase: np.ndarray, mask: np.ndarray) -> int:
    """Median over the mask of the phase in whole turns: what correct_global takes away."""
    labels = np.where(mask, np.uint8(1), OUTSIDE)
    return int(_median_turns(phase.reshape(-1), labels.reshape(-1))[1])


def correct_regions(phase: np.ndarray, labels: np.ndarray) -> None:
    """Bring the median of every region, in whole turns, to zero; in place."""
    _add_turns(phase.reshape(-1), labels.reshape(-1), -_median_turns(phase.reshape(-1), labels.reshape(-1)))


def merge_regions(phase: np.ndarray, labels: np.ndarray, costs: np.ndarray, regions: int) -> int:
    """Shift touching regions by whole turns until they meet without a jump, and give them one label; in place.

    Starting from the largest region, the one with the strongest border to what is merged already joins next; a border
    counts by the weights of its edges. Unlike in ROMEO.jl the turns of the regions in between are counted in, and a
    region that needs no shift is joined as well.

    Returns
    -------
    Number of regions that are left (those that do not touch).
    """
    if regions < 2:
        return regions
    jumps, strengths = _borders(phase, labels, costs, regions)
    sizes = np.bincount(labels.reshape(-1), minlength=256)[1 : regions + 1]
    turns = np.zeros(256, np.int64)
    new_label = np.arange(256, dtype=np.uint8)
    waiting = set(range(regions))
    left = 0
    while waiting:
        start = max(waiting, key=lambda region: (sizes[region], -region))
        group, left = [start], left + 1
        waiting.remove(start)
        while waiting:
            candidates = sorted(waiting)
            strength = strengths[np.ix_(group, candidates)].sum(axis=0)
            strongest = int(np.argmax(strength))
            if strength[strongest] == 0:
                break
            region = candidates[strongest]
            shifts = turns[np.array(group) + 1] * TWO_PI
            jump = np.sum(jumps[group, region] + shifts * strengths[group, region]) / strength[strongest]
            turns[region + 1] = round(jump / TWO_PI)
            new_label[region + 1] = start + 1
            group.append(region)
            waiting.remove(region)
    _add_turns(phase.reshape(-1), labels.reshape(-1), turns)
    labels[...] = new_label[labels]
    return left


@jit()
def _borders(phase: RealArray, labels: Labels, costs: Labels, regions: int) -> tuple[DoubleArray, DoubleArray]:
    """Weighted sum of the steps from region j to region i, and the sum of weights, for all pairs (i, j)."""
    jumps, strengths = np.zeros((regions, regions)), np.zeros((regions, regions))
    n0, n1, n2 = phase.shape
    for a in range(n0):
        for b in range(n1):
            for k in range(n2):
                one = labels[a, b, k]
                if one == 0 or one == OUTSIDE:
                    continue
                for d in range(3):
                    if costs[a, b, k, d] == 0:
                        continue
                    other = labels[a + (d == 0), b + (d == 1), k + (d == 2)]
                    reached = 0 < other < OUTSIDE
                    if other == one or not reached:
                        continue
                    weight = 255.0 - costs[a, b, k, d]
                    step = np.float64(phase[a, b, k]) - phase[a + (d == 0), b + (d == 1), k + (d == 2)]
                    jumps[one - 1, other - 1] += weight * step
                    jumps[other - 1, one - 1] -= weight * step
                    strengths[one - 1, other - 1] += weight
                    strengths[other - 1, one - 1] += weight
    return jumps, strengths


@jit()
def _median_turns(phase: RealArray, labels: Labels) -> Labels:
    counts = np.zeros((256, 2 * _MOST_TURNS + 1), np.int64)
    for voxel in range(phase.size):
        label = labels[voxel]
        if 0 < label <= LAST_LABEL and np.isfinite(phase[voxel]):
            turns = np.rint(phase[voxel] / TWO_PI)
            counts[label, np.int64(min(max(turns, -_MOST_TURNS), _MOST_TURNS)) + _MOST_TURNS] += 1
    medians = np.zeros(256, np.int64)
    for label in range(256):
        half = (counts[label].sum() + 1) // 2
        below = 0
        for k in range(2 * _MOST_TURNS + 1):
            below += counts[label, k]
            if half > 0 and below >= half:
                medians[label] = k - _MOST_TURNS
                break
    return medians


@jit(parallel=True)
def _add_turns(phase: RealArray, labels: Labels, turns: Labels) -> None:
    for voxel in prange(phase.size):
        if turns[labels[voxel]] != 0:
            phase[voxel] += TWO_PI * turns[labels[voxel]]
