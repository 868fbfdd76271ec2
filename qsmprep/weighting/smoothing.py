"""Gaussian smoothing inside a mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qsmprep.numerics.arrays import FloatImage, Mask, RealArray

LEAST_WEIGHT = 1e-4  # of the smoothed weights, below which a place is too far from all of them


def smooth_inside(image: RealArray, weights: RealArray | Mask, sigma: Sequence[float]) -> FloatImage:
    """Normalised convolution with a Gaussian: mean of the image around each voxel by the weights given.

    Parameters
    ----------
    image, weights : (n0, n1, n2); weights >= 0, 0 where a voxel shall not contribute.
    sigma : standard deviation along each axis in voxels; 0 leaves the axis as it is.

    Returns
    -------
    (n0, n1, n2) float32; the weighted mean of all where no weight is near.

    References
    ----------
    Knutsson & Westin 1993, CVPR:515.
    """
    from scipy.ndimage import gaussian_filter

    weights = np.asarray(weights, np.float32)
    values = np.where(weights > 0, image, 0).astype(np.float32) * weights
    total = float(weights.sum(dtype=np.float64))
    mean = float(values.sum(dtype=np.float64)) / total if total > 0 else 0.0
    # Less the mean, so that a flat image stays flat to the last digit, whatever the rounding.
    above = gaussian_filter(values - np.float32(mean) * weights, sigma, mode="constant")
    share = gaussian_filter(weights, sigma, mode="constant")
    near = share > LEAST_WEIGHT
    return np.float32(mean) + np.where(near, above / np.where(near, share, 1), 0).astype(np.float32)
