"""Minimum-intensity projection: veins that run through several slices, in one picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.arrays import FloatImage, Mask, RealArray
from qsmprep.options import option


@dataclass(frozen=True)
class MinipOptions:
    """Options of the minimum-intensity projection."""

    thickness: float = option(
        10.0, "thickness of the slab of which the minimum-intensity projection of SWI shows the minimum", unit="mm",
        low=0.1, high=200,
    )  # fmt: skip


def minimum_projection(image: RealArray, mask: Mask, *, slices: int, slice_axis: int) -> FloatImage:
    """The minimum over a slab centred at each voxel, within the mask; 0 outside of it.

    Parameters
    ----------
    image : (n0, n1, n2).
    mask : (n0, n1, n2) of the brain: what is dark outside would hide what lies near its border.
    slices : thickness of the slab, odd; it is thinner at the ends of the volume.
    slice_axis : across the slices; no voxel is interpolated, so an oblique slab stays one.
    """
    from scipy.ndimage import minimum_filter1d

    inside = np.asarray(mask) > 0
    brain = np.where(inside, image, np.inf).astype(np.float32)
    lowest = minimum_filter1d(brain, slices, axis=slice_axis, mode="constant", cval=np.inf)
    return np.where(inside, lowest, 0).astype(np.float32)


def slices_of(thickness_mm: float, spacing_mm: float) -> int:
    """The odd number of slices nearest to a thickness; 1 for what is thinner than a slice.

    >>> slices_of(10, 2), slices_of(10, 1), slices_of(0.5, 1)
    (5, 9, 1)
    """
    return 2 * max(0, round((thickness_mm / spacing_mm - 1) / 2)) + 1
