"""Signal that a voxel loses to the field's gradient across it, and the magnitude without that loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qsmprep.numerics.arrays import DoubleArray

GRADIENT_CORRECTIONS = ("none", "slice", "all")
SMALLEST_SHARE = 0.3  # of the signal left, below which the loss is no longer undone in full


def undo_gradient_loss(
    magnitude: np.ndarray,
    field_hz: np.ndarray,
    mask: np.ndarray,
    *,
    echo_times_s: Sequence[float] | DoubleArray,
    kind: str,
) -> tuple[np.ndarray, float]:
    """Divide each echo by |sinc(d TE)|, d being the change of the field across the voxel in Hz.

    Parameters
    ----------
    magnitude : (n_echo, n0, n1, n2).
    field_hz : (n0, n1, n2) total field, unwrapped.
    mask : (n0, n1, n2) where the field is valid; elsewhere the magnitude stays as it is.
    echo_times_s : in s.
    kind : "slice": across the last axis alone, as fits a 2D scan; "all": the product over the three axes.

    Returns
    -------
    The magnitude so corrected, and the share of the mask where the last echo keeps less than 30 % of its signal: there
    it is taken as 30 %, and R2* still holds a part of the loss.

    References
    ----------
    Fernandez-Seara and Wehrli 2000.
    """
    if kind not in GRADIENT_CORRECTIONS:
        raise ValueError(f"Unknown correction {kind!r}; choose one of {', '.join(GRADIENT_CORRECTIONS)}.")
    if kind == "none":
        return magnitude, 0.0
    mask = np.asarray(mask) > 0
    changes = [_across_voxels(field_hz, mask, axis) for axis in ((2,) if kind == "slice" else (0, 1, 2))]
    corrected, weak = np.array(magnitude, np.float32), 0.0
    for echo, time in zip(corrected, echo_times_s, strict=True):
        left = np.ones(mask.shape, np.float32)
        for change in changes:
            left *= np.abs(np.sinc(change * np.float32(time)))
        weak = float((left[mask] < SMALLEST_SHARE).mean()) if mask.any() else 0.0
        echo /= np.where(mask, np.maximum(left, SMALLEST_SHARE), 1)
    return corrected, weak


def _across_voxels(field: np.ndarray, mask: np.ndarray, axis: int) -> np.ndarray:
    """Change of the field from one side of a voxel to the other, from its neighbours in the mask; 0 without any."""
    field = np.moveaxis(np.where(mask, field, 0).astype(np.float32), axis, 0)
    inside = np.moveaxis(mask, axis, 0)
    step = (field[1:] - field[:-1]) * (inside[1:] & inside[:-1])
    known = (inside[1:] & inside[:-1]).astype(np.float32)
    total, count = np.zeros_like(field), np.zeros_like(field)
    total[:-1], count[:-1] = step, known
    total[1:] += step
    count[1:] += known
    return np.moveaxis(total / np.maximum(count, 1), 0, axis)
