"""What tells brain from its surroundings without a surface: bright, slowly decaying, and in one thick piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qsmprep.masking.morphology import fill_holes
from qsmprep.numerics.arrays import Mask, RealArray

GRID_MM = 2.5  # balls of 6 mm and more need no finer grid
FILLED = 0.7  # share of tissue above which a coarse voxel is tissue; a dark sheet of a millimetre leaves less
DARK = 0.3  # of the median intensity: bone and air are darker, fluid is brighter
SPREAD = 4.0  # interquartile ranges above the median of R2*, and
FAST = 3.5  # times that median: deep nuclei decay less fast, marrow and bone faster


def decay_rate(magnitude: np.ndarray, echo_times_s: Sequence[float]) -> np.ndarray | None:
    """A rough R2*, from how much less signal all echoes but the first have than all but the last.

    Exact for one exponential at even echo times; sums over echoes bear noise better than the ratio of two.

    Parameters
    ----------
    magnitude : (n_echo, n0, n1, n2).
    echo_times_s : ascending.

    Returns
    -------
    (n0, n1, n2) float32 in 1/s; None for one echo or where the times are not known.

    Examples
    --------
    >>> times = (0.005, 0.010, 0.015)
    >>> signal = np.exp(-40 * np.array(times)).reshape(3, 1, 1, 1)
    >>> round(float(decay_rate(signal, times)[0, 0, 0]), 3)
    40.0
    """
    if magnitude.ndim != 4 or len(magnitude) < 2 or len(echo_times_s) != len(magnitude):
        return None
    spacing = (echo_times_s[-1] - echo_times_s[0]) / (len(echo_times_s) - 1)
    early = magnitude[:-1].sum(axis=0, dtype=np.float32)
    late = magnitude[1:].sum(axis=0, dtype=np.float32)
    least = np.float32(1e-6) * np.nanmax(early) + np.finfo(np.float32).tiny  # where there is no signal at all
    return np.asarray(np.log(np.maximum(early, least) / np.maximum(late, least)) / np.float32(spacing))


@dataclass(frozen=True)
class Tissue:
    """Where brain tissue may be, on a grid of about 2.5 mm.

    Attributes
    ----------
    coarse : (m0, m1, m2) bool.
    factors : voxels of the image per coarse voxel along each axis.
    shape : of the image.
    size_mm : edges of a coarse voxel.
    """

    coarse: np.ndarray
    factors: tuple[int, int, int]
    shape: tuple[int, int, int]
    size_mm: tuple[float, float, float]

    def core_distance(self, radius_mm: float) -> np.ndarray | None:
        """Distance in mm of each coarse voxel from the core: the largest piece of what is left `radius_mm` deep.

        Voxels nearer than `radius_mm` are the opening with a ball: what hangs on by something thinner than the ball
        is gone. None where nothing lies that deep.
        """
        from scipy.ndimage import distance_transform_edt, label

        deep = distance_transform_edt(self.coarse, sampling=self.size_mm) > radius_mm
        if not deep.any():
            return None
        pieces, _ = label(deep)
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        return np.asarray(distance_transform_edt(pieces != sizes.argmax(), sampling=self.size_mm))

    def near(self, distance: np.ndarray, limit_mm: float) -> np.ndarray:
        """The voxels of the image whose coarse voxel has a smaller distance than a limit: (n0, n1, n2) bool."""
        fine = distance < limit_mm
        for axis, factor in enumerate(self.factors):
            fine = np.repeat(fine, factor, axis=axis)
        missing = [(0, max(0, size - have)) for size, have in zip(self.shape, fine.shape, strict=True)]
        return np.asarray(np.pad(fine, missing, mode="edge"))


def find_tissue(
    mask: Mask, image: RealArray, decay: RealArray | None, voxel_size_mm: np.ndarray, intensities: tuple[float, float]
) -> Tissue:
    """What of a mask is neither dark nor of fast decay.

    Parameters
    ----------
    mask : (n0, n1, n2) bool, a first guess at the brain.
    image, decay : (n0, n1, n2) magnitude and R2*; None: decay is not known.
    voxel_size_mm : (3,).
    intensities : of the darkest voxels and the median of the brain.
    """
    darkest, median = intensities
    good = mask & (image > darkest + DARK * (median - darkest))
    if decay is not None and (good & np.isfinite(decay)).any():
        values = decay[good & np.isfinite(decay)]
        low, middle, high = np.percentile(values[:: max(1, values.size // 100_000)], (25, 50, 75))
        good &= decay <= max(middle + SPREAD * (high - low), FAST * middle)
    factors = tuple(max(1, min(round(GRID_MM / size), n)) for size, n in zip(voxel_size_mm, mask.shape, strict=True))
    whole = tuple(n // factor for n, factor in zip(mask.shape, factors, strict=True))
    blocks = good[tuple(slice(0, n * factor) for n, factor in zip(whole, factors, strict=True))]
    blocks = blocks.reshape(whole[0], factors[0], whole[1], factors[1], whole[2], factors[2])
    coarse = fill_holes(blocks.mean(axis=(1, 3, 5), dtype=np.float32) > FILLED)
    a, b, c = (float(edge * factor) for edge, factor in zip(voxel_size_mm, factors, strict=True))
    return Tissue(coarse, factors, mask.shape, (a, b, c))
