"""The total field as an input channel of networks; training and use prepare it here alike."""

from __future__ import annotations

import numpy as np


def total_field_channel(field_ppm: np.ndarray, mask: np.ndarray, *, beyond: bool = False) -> np.ndarray:
    """The total field less its mean over the mask: its offset is the choice of a centre frequency and of whole turns.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) total field in ppm; values outside the mask do not matter.
    mask : (n0, n1, n2) where it is valid.
    beyond : whether the field is kept outside the mask too, where it is finite and not exactly 0.

    Returns
    -------
    (n0, n1, n2) float32 in ppm, 0 where the field is not finite or not kept.

    Raises
    ------
    ValueError : an empty mask.
    """
    inside = (np.asarray(mask) > 0) & np.isfinite(field_ppm)
    if not inside.any():
        raise ValueError("The mask is empty: no voxel has a total field.")
    mean = np.asarray(field_ppm)[inside].mean(dtype=np.float64)
    kept = inside | (np.isfinite(field_ppm) & (np.asarray(field_ppm) != 0)) if beyond else inside
    return np.where(kept, np.where(kept, field_ppm, 0) - mean, 0).astype(np.float32)
