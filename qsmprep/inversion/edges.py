"""Where the magnitude image allows susceptibility to jump: weights of the gradient penalty."""

from __future__ import annotations

import numpy as np

from qsmprep.numerics.arrays import FloatImage, Mask, RealArray
from qsmprep.numerics.operators import gradient

WEIGHT_KINDS = ("none", "vector-field", "l1", "l2")
VOLUME_FLOOR = 1e-3  # of the image's maximum: FANSI's noise for a signal-to-noise ratio of 1000, as SEPIA sets it


def gradient_weights(
    image: RealArray, mask: Mask, voxel_size_mm: tuple[float, float, float], kind: str, *, mean_over: str = "mask"
) -> FloatImage:
    """FANSI's regularisation weights r = mean(G) / G from the gradient G of the masked magnitude.

    Parameters
    ----------
    image : (n0, n1, n2) magnitude, any unit; only its values in the mask count.
    mask : (n0, n1, n2) bool.
    voxel_size_mm : edge lengths in mm.
    kind : "vector-field": each component on its own; "l1", "l2": norm of the gradient vector for all three.
    mean_over : "mask", or "volume" as SEPIA computes it: the mean of G over the whole field of view, the step at the
        mask's rim included, with G floored at a thousandth of the image's maximum.

    Returns
    -------
    (3, n0, n1, n2) float32 weights. Over the mask they have a harmonic mean of 1 between its voxels, and are 1
    elsewhere: the step at the rim is no edge of tissue; G is floored at its noise, taken as 1.4826 times its median, as
    most of a brain is flat. Over the volume they are below 1 in the brain, the more so the more air is around it.

    References
    ----------
    Milovic 2018.
    """
    steps: FloatImage = np.abs(gradient(np.where(mask, image, 0).astype(np.float32), voxel_size_mm))
    between = np.stack([mask & np.roll(mask, -1, axis) for axis in range(3)])
    if mean_over == "mask":
        steps[~between] = 0
    if kind == "l1":
        steps = np.broadcast_to(steps.sum(axis=0), steps.shape)
    elif kind == "l2":
        steps = np.broadcast_to(np.sqrt((steps**2).sum(axis=0)), steps.shape)
    elif kind != "vector-field":
        raise ValueError(f"Unknown gradient weights {kind!r}; choose one of {', '.join(WEIGHT_KINDS)}.")
    if mean_over == "volume":
        steps = np.maximum(steps, np.float32(VOLUME_FLOOR * float(image.max(where=mask, initial=0)) or 1))
        ratios: FloatImage = np.float32(steps.mean(dtype=np.float64)) / steps
        return ratios
    inside = steps[between]
    floor = 1.4826 * float(np.median(inside)) if inside.size else 0.0
    if floor == 0:  # a noise-free image, flat over most of the mask
        floor = float(inside.mean()) if inside.any() else 1.0
    mean = np.float32(np.maximum(inside, floor).mean(dtype=np.float64)) if inside.size else np.float32(floor)
    return np.where(between, mean / np.maximum(steps, np.float32(floor)), np.float32(1))


def edge_mask(image: RealArray, mask: Mask, voxel_size_mm: tuple[float, float, float], percentage: float) -> Mask:
    """MEDI's gradient mask: False (an edge, not penalised) where the masked magnitude's gradient is large.

    Parameters
    ----------
    image : (n0, n1, n2) magnitude, any unit.
    mask : (n0, n1, n2) bool.
    voxel_size_mm : edge lengths in mm.
    percentage : fraction. The number of edge components, all three directions counted, is this fraction of the number
        of mask voxels: 0.9 makes 30 % of the gradient components edges. Components at the mask's rim count.

    Returns
    -------
    (3, n0, n1, n2) bool.

    References
    ----------
    Liu 2012.
    """
    steps: FloatImage = np.abs(gradient(np.where(mask, image, 0).astype(np.float32), voxel_size_mm))
    edges = min(round(percentage * np.count_nonzero(mask)), int(np.count_nonzero(steps)))
    if edges == 0:
        return np.ones(steps.shape, bool)
    nonzero = steps[steps > 0]
    threshold = np.partition(nonzero, nonzero.size - edges)[nonzero.size - edges]
    flat: Mask = steps < threshold
    return flat
