"""The magnitude as an input channel of mask networks; training and use prepare it here alike."""

from __future__ import annotations

import numpy as np

LARGEST_DEPTH_MM = 10.0  # depth below the brain's surface at which labels are cut, either way
BRIGHT_PERCENT = 99.0


def magnitude_channel(magnitude: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Root of the magnitude over its 99th percentile, so that a dark brain under a bright scalp keeps its contrast.

    Parameters
    ----------
    magnitude : (n0, n1, n2), >= 0, any scale; negative values and those that are not finite count as 0.
    inside : (n0, n1, n2) the field of view.

    Returns
    -------
    (n0, n1, n2) float32 from 0 to 1.2, 0 outside the field of view.

    Raises
    ------
    ValueError : no signal at all.
    """
    usable = np.where(inside & np.isfinite(magnitude), np.maximum(magnitude, 0), 0).astype(np.float32)
    seen = usable[usable > 0]
    bright = float(np.percentile(seen, BRIGHT_PERCENT)) if seen.size else 0.0
    if not bright > 0:
        raise ValueError("The magnitude is 0 everywhere: there is no head to mask.")
    return np.asarray(np.minimum(np.sqrt(usable / np.float32(bright)), np.float32(1.2)))
