"""How far the unwrapping of a voxel can be trusted: the mean weight of its edges."""

from __future__ import annotations

import numpy as np

from qsmprep.numerics.arrays import Labels, Mask, RealArray
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.volume import bounding_box
from qsmprep.unwrap.weights import edge_costs


def voxel_quality(
    phase: np.ndarray,
    *,
    mask: np.ndarray,
    preset: str = "romeo",
    second_phase: np.ndarray | None = None,
    time_ratio: float = 1.0,
    magnitude: np.ndarray | None = None,
) -> np.ndarray:
    """Quality map of one image, without unwrapping it.

    Parameters
    ----------
    phase, mask, preset, second_phase, time_ratio, magnitude : see `qsmprep.unwrap.weights.edge_costs`.

    Returns
    -------
    (n0, n1, n2) float32 in [0, 1], 0 outside the mask.

    References
    ----------
    Dymerska et al. 2021, Magn Reson Med 85:2294.
    """
    box = bounding_box(mask, 1)

    def crop(volume: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(volume[box])

    costs = edge_costs(
        crop(phase),
        mask=crop(mask),
        preset=preset,
        second_phase=None if second_phase is None else crop(second_phase),
        time_ratio=time_ratio,
        magnitude=None if magnitude is None else crop(magnitude),
    )
    quality = np.zeros(mask.shape, np.float32)
    quality[box] = quality_of_edges(costs, crop(mask))
    return quality


def quality_of_edges(costs: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean weight of the six edges of each voxel of the mask, from integer costs (resolution 1/255).

    An edge that does not exist (border of the array, NaN) counts as 0.
    """
    quality = np.empty(mask.shape, np.float32)
    _quality(costs, mask, quality)
    return quality


@jit(parallel=True)
def _quality(costs: Labels, mask: Mask, quality: RealArray) -> None:
    n0, n1, n2 = mask.shape
    for a in prange(n0):
        for b in range(n1):
            for k in range(n2):
                if not mask[a, b, k]:
                    quality[a, b, k] = 0
                    continue
                edges, total = 0, 0
                for d in range(3):
                    a2, b2, k2 = a - (d == 0), b - (d == 1), k - (d == 2)
                    if costs[a, b, k, d] > 0:
                        edges += 1
                        total += costs[a, b, k, d]
                    if a2 >= 0 and b2 >= 0 and k2 >= 0 and costs[a2, b2, k2, d] > 0:
                        edges += 1
                        total += costs[a2, b2, k2, d]
                quality[a, b, k] = (edges - total / np.float32(255)) / np.float32(6)
