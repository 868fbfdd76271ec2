"""Masks by a threshold that the magnitude itself gives, and the brain out of a mask of the head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.masking.morphology import largest_component
from qsmprep.numerics.arrays import Mask, RealArray
from qsmprep.numerics.jit import jit, prange
from qsmprep.options import check_options, option

_SAMPLE = 100_000


@dataclass(frozen=True)
class RobustMaskOptions:
    """Options of the magnitude threshold mask."""

    factor: float = option(1.0, "factor on the threshold found from the magnitude", low=0, high=20)


def robust_mask(
    image: np.ndarray,
    *,
    options: RobustMaskOptions = RobustMaskOptions(),
) -> np.ndarray:
    """Mask of the voxels with signal: a threshold between noise and tissue, holes filled, edges smoothed.

    Parameters
    ----------
    image : (n0, n1, n2) magnitude, >= 0; voxels that are not finite lie outside.

    Returns
    -------
    (n0, n1, n2) bool.

    Raises
    ------
    ValueError
        When the image is not 3-D or the mask comes out empty.

    References
    ----------
    Dymerska et al. 2021, Magn Reson Med 85:2294 (the default mask of the ROMEO application).

    Examples
    --------
    >>> x, y, z = np.indices((20, 20, 20)) - 10
    >>> head = x**2 + y**2 + z**2 < 64
    >>> found = robust_mask(np.where(head, 100.0, 1.0))
    >>> bool(found[10, 10, 10]), bool(found[0, 0, 0])
    (True, False)
    """
    check_options(options)
    if image.ndim != 3:
        raise ValueError(f"The mask needs one 3-D magnitude image; got shape {image.shape}.")
    with np.errstate(invalid="ignore"):
        mask = image > signal_threshold(image) * options.factor
    mask = box_mean(mask, 5) > 0.4
    mask = _fill_small_holes(mask, mask.size / 20)
    mask = box_mean(box_mean(mask, 3), 3) > 0.6
    if not mask.any():
        raise ValueError("The magnitude threshold mask is empty: the image shows no signal above the noise.")
    return mask


def signal_threshold(magnitude: np.ndarray) -> float:
    """Magnitude that separates tissue from noise: five times the noise, at least a fifth of bright tissue."""
    finite = magnitude[np.isfinite(magnitude)]
    if finite.size == 0:
        raise ValueError("The magnitude has no finite voxel.")
    sample = finite[:: max(1, finite.size // _SAMPLE)].astype(np.float64)
    q05, q15, q80, q99 = np.quantile(sample, (0.05, 0.15, 0.80, 0.99))
    high = sample[(sample >= q80) & (sample <= q99)].mean()
    noise = sample[sample <= q15].mean()
    if noise > high / 10:  # little or no air in the image
        noise = sample[sample <= q05].mean()
    if noise > high / 10:
        noise = 0.0
    return float(max(5 * noise, high / 5))


def brain_from_head(mask: np.ndarray) -> np.ndarray:
    """Brain out of a mask of the head, where a gap lies between brain and skull.

    Parameters
    ----------
    mask : (n0, n1, n2) bool, of `robust_mask` for example.

    Returns
    -------
    (n0, n1, n2) bool, a part of `mask`.

    Raises
    ------
    ValueError
        When nothing is left.
    """
    inner = np.zeros_like(mask)
    inner[1:-1, 1:-1, 1:-1] = mask[1:-1, 1:-1, 1:-1]
    core = largest_component(box_mean(inner, 7) > 0.7)
    if not core.any():
        raise ValueError("No brain is left in the head mask.")
    return np.asarray((box_mean(box_mean(core, 7), 7) > 0.2) & mask)


def box_mean(volume: np.ndarray, width: int) -> np.ndarray:
    """Mean over a cube of odd `width` voxels around each voxel, over what lies inside the array: float32."""
    mean = np.array(volume, np.float32, order="C")
    for axis in range(3):
        # (before, along, after): one loop serves every axis.
        before, after = int(np.prod(mean.shape[:axis])), int(np.prod(mean.shape[axis + 1 :]))
        smoothed = np.empty_like(mean)
        folded = (before, mean.shape[axis], after)
        _mean_along(mean.reshape(folded), width // 2, smoothed.reshape(folded))
        mean = smoothed
    return mean


@jit(parallel=True)
def _mean_along(volume: RealArray, reach: int, out: RealArray) -> None:
    before, along, after = volume.shape
    for row in prange(before * along):
        b, i = row // along, row % along
        first, last = max(0, i - reach), min(along - 1, i + reach)
        for k in range(after):
            total = np.float32(0)
            for j in range(first, last + 1):
                total += volume[b, j, k]
            out[b, i, k] = total / np.float32(last - first + 1)


def _fill_small_holes(mask: Mask, largest: float) -> Mask:
    from scipy.ndimage import label

    parts, _ = label(~mask)
    hole = np.bincount(parts.reshape(-1)) <= largest
    hole[0] = True  # the mask itself
    return np.asarray(hole[parts])
