"""Scores of a map against the truth that are sums over voxels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

HISTOGRAM_BINS = 256


class FittedLine(NamedTuple):
    """The line recon = slope * truth + offset through voxels.

    Attributes
    ----------
    slope : without unit.
    residual : what the line leaves, of the voxels' shape.
    rmse : error in percent after the line is undone on the reconstruction, 100 sqrt(1/r^2 - 1) for a correlation r.
    """

    slope: float
    residual: np.ndarray
    rmse: float


def rmse(recon: np.ndarray, truth: np.ndarray) -> float:
    """100 |x - t| / |t| in percent, as in the 2016 challenge: neither map is demeaned.

    >>> rmse(np.array([0.8, 1.6]), np.array([1.0, 2.0])).__round__(6)
    20.0
    """
    return _ratio(recon - truth, truth)


def demeaned_rmse(recon: np.ndarray, truth: np.ndarray) -> float:
    """100 |x - t| / |t| in percent, both without their mean over the given voxels, as in the 2019 challenge."""
    return rmse(recon - recon.mean(), truth - truth.mean())


def detrend(recon: np.ndarray, truth: np.ndarray) -> FittedLine:
    """Least-squares line of the reconstruction on the truth, and the error that is left when it is undone.

    Undoing a damped map's line also amplifies its error, so the result may exceed `demeaned_rmse`. The first version of
    the challenge's program applied the line instead of undoing it; the published scores have it undone.
    """
    x, t = recon - recon.mean(), truth - truth.mean()
    power = float((t * t).sum())
    slope = float((x * t).sum()) / power if power > 0 else float("nan")
    residual = x - slope * t
    return FittedLine(slope, residual, _ratio(residual, slope * t))


def correlation(recon: np.ndarray, truth: np.ndarray) -> float:
    """Pearson's correlation; NaN where one map is constant."""
    x, t = recon - recon.mean(), truth - truth.mean()
    size = float(np.linalg.norm(x) * np.linalg.norm(t))
    return float((x * t).sum()) / size if size > 0 else float("nan")


def mutual_information(recon: np.ndarray, truth: np.ndarray, bins: int = HISTOGRAM_BINS) -> float:
    """Mutual information in nats from the joint histogram, each axis cut into `bins` between its extremes."""
    joint, _, _ = np.histogram2d(recon.ravel(), truth.ravel(), bins=bins)
    joint /= joint.sum()
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    filled = joint > 0
    return float((joint[filled] * np.log(joint[filled] / independent[filled])).sum())


def mean_absolute_difference(recon: np.ndarray, truth: np.ndarray) -> float:
    """100 sum |x - t| / sum |t| in percent, neither map demeaned."""
    return float(100 * np.abs(recon - truth).sum() / np.abs(truth).sum())


def gradient_error(
    recon: np.ndarray, truth: np.ndarray, voxel_size_mm: tuple[float, float, float], *, axes: int = 2
) -> float:
    """100 |grad x - grad t| / |grad t| in percent over whole volumes (0 outside the mask).

    Gradients are periodic differences per mm. The published score (GXE) looks at the first two axes only, and so
    depends on how the volume is stored; axes=3 takes all.
    """
    error = power = 0.0
    difference = recon - truth
    for axis, size in zip(range(axes), voxel_size_mm, strict=False):
        error += _difference_power(difference, axis) / size**2
        power += _difference_power(truth, axis) / size**2
    return float(100 * np.sqrt(error / power)) if power > 0 else float("nan")


def _difference_power(image: np.ndarray, axis: int) -> float:
    step = np.roll(image, 1, axis)
    np.subtract(image, step, out=step)
    return float(np.einsum("ijk,ijk->", step, step))


def _ratio(error: np.ndarray, whole: np.ndarray) -> float:
    size = float(np.linalg.norm(whole))
    return float(100 * np.linalg.norm(error) / size) if size > 0 else float("inf")
