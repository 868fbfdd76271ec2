"""What unwrapping may have left: steps of more than half a turn between neighbouring voxels."""

from __future__ import annotations

import numpy as np


def residual_jumps(field_hz: np.ndarray, mask: np.ndarray, *, period_hz: float) -> tuple[int, int]:
    """Number of face neighbours in the mask whose field differs by more than half a period, and of all such pairs.

    A wrap that was left shows as such a step; so does a field that truly bends that much within a voxel, as it may
    next to air.

    Parameters
    ----------
    field_hz : total field (n0, n1, n2) in Hz.
    mask : (n0, n1, n2).
    period_hz : change of field that turns the phase once, 1 / (echo spacing).

    Examples
    --------
    >>> residual_jumps(np.array([[[0.0, 1.0, 52.0]]]), np.ones((1, 1, 3)), period_hz=51.0)
    (1, 2)
    """
    inside = np.asarray(mask) > 0
    jumps = pairs = 0
    for axis in range(field_hz.ndim):
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(field_hz.ndim))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(field_hz.ndim))
        both = inside[low] & inside[high]
        jumps += int(np.count_nonzero(np.abs(field_hz[high] - field_hz[low])[both] > period_hz / 2))
        pairs += int(np.count_nonzero(both))
    return jumps, pairs
