"""Squares of four voxels around which wrapped phase does not come back to itself."""

from __future__ import annotations

import numpy as np

from qsmprep.numerics.arrays import FloatImage, Mask


def turning_squares(phase: FloatImage, mask: Mask) -> tuple[Mask, Mask, Mask]:
    """Squares of neighbours inside a mask around which the phase turns by 2 pi, for each axis across them.

    Parameters
    ----------
    phase : (n0, n1, n2) rad.
    mask : (n0, n1, n2) bool.

    Returns
    -------
    Three bool arrays; the one of axis 0 is (n0, n1 - 1, n2 - 1), and so on.
    """
    steps = []
    for axis in range(3):
        first, second = neighbours(axis)
        step = phase[second] - phase[first]
        step -= np.float32(2 * np.pi) * np.rint(step / np.float32(2 * np.pi))
        steps.append(step)
    found = []
    for across in range(3):
        a, b = (axis for axis in range(3) if axis != across)
        (a0, a1), (b0, b1) = neighbours(a), neighbours(b)
        turn = steps[a][b0] + steps[b][a1] - steps[a][b1] - steps[b][a0]
        inside = mask[a0][b0] & mask[a1][b0] & mask[a0][b1] & mask[a1][b1]
        found.append((np.abs(turn) > np.pi) & inside)
    return found[0], found[1], found[2]


def neighbours(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """What of an array is first, and what second, in a pair of neighbours along an axis."""
    first, second = [slice(None)] * 3, [slice(None)] * 3
    first[axis], second[axis] = slice(None, -1), slice(1, None)
    return tuple(first), tuple(second)
