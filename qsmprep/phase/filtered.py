"""Phase that lacks its low spatial frequencies, which no susceptibility can be computed from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def looks_filtered(
    phase: np.ndarray, magnitude: np.ndarray | None, mask: np.ndarray, echo_times_s: Sequence[float]
) -> bool:
    """Whether phase lacks its low spatial frequencies, as high-pass (homodyne, SWI) filtered phase does.

    At echo times of 15 ms and more the field of a head turns the phase by several radians from one region to another;
    filtered phase is zero on average in every region and seldom wraps. Such phase is unfit for QSM. Never True when
    all echoes are earlier than that.

    Parameters
    ----------
    phase : (n_echo, n0, n1, n2) in rad.
    magnitude : same shape, or None.
    mask : (n0, n1, n2), the head or brain.
    echo_times_s : echo times in s.
    """
    late = [echo for echo, time in enumerate(echo_times_s) if time >= 0.015]
    if not late or not np.any(mask):
        return False
    echo = late[-1]
    weight = np.asarray(mask, np.float32) * (1 if magnitude is None else np.nan_to_num(magnitude[echo]))
    signal = weight * np.exp(1j * phase[echo].astype(np.float32))
    # Regions of a twelfth of the field of view are larger than what the usual filters leave.
    for axis, size in enumerate(mask.shape):
        starts = np.arange(0, size, max(4, size // 12))
        signal, weight = np.add.reduceat(signal, starts, axis), np.add.reduceat(weight, starts, axis)
    inside = weight > 0.25 * weight.max()
    regions = signal[inside]
    regions = regions / np.maximum(np.abs(regions), 1e-20)
    return bool(regions.size >= 8 and regions.mean().real > 0.97)
