"""How far a regional mean moves when the region is not quite in its place."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from qsmprep.analysis.regions import RegionalValue, ValueMap
from qsmprep.numerics.arrays import FloatImage, Mask


def placement_errors(
    labels: np.ndarray,
    value_map: ValueMap,
    values: Iterable[RegionalValue],
    *,
    voxel_size_mm: tuple[float, float, float],
    shift_mm: float,
) -> dict[int, float]:
    """Root mean square of the changes of regional means when each region moves by a length, grows and shrinks by it.

    Parameters
    ----------
    labels : (n0, n1, n2) whole numbers; 0 is background.
    value_map : the map and where it is valid.
    values : the regions' values in that map.
    voxel_size_mm : of the grid.
    shift_mm : along each axis to both sides; voxels that are covered in part count by their share.

    Returns
    -------
    By index of the region, in the map's unit; NaN for a region without voxels.
    """
    from scipy.ndimage import find_objects

    whole = np.asarray(labels).astype(np.int32)
    boxes = find_objects(whole)
    steps = [float(shift_mm / size) for size in voxel_size_mm]
    reach = [int(np.ceil(step)) + 1 for step in steps]
    errors = {}
    for value in values:
        box = boxes[value.index - 1] if 0 < value.index <= len(boxes) else None
        if box is None or not value.n:
            errors[value.index] = float("nan")
            continue
        wide = tuple(slice(max(0, part.start - r), part.stop + r) for part, r in zip(box, reach, strict=True))
        valid = (np.asarray(value_map.mask)[wide] > 0) & np.isfinite(value_map.values[wide])
        means = _moved_means(whole[wide] == value.index, np.asarray(value_map.values[wide], float), valid, steps)
        changes = np.array([mean - value.mean for mean in means])
        errors[value.index] = float(np.sqrt(np.mean(changes**2))) if changes.size else float("nan")
    return errors


def _moved_means(region: Mask, values: np.ndarray, valid: Mask, steps: list[float]) -> list[float]:
    """Means in the region as moved to six sides, grown and shrunk; without those that have no valid voxel."""
    from scipy.ndimage import shift

    moved: list[FloatImage] = []
    for axis, step in enumerate(steps):
        for way in (step, -step):
            offset = [way if i == axis else 0.0 for i in range(3)]
            moved.append(shift(region.astype(np.float32), offset, order=1, mode="constant"))
    moved += [np.maximum.reduce(moved), np.minimum.reduce(moved)]
    weights = [np.where(valid, share, 0) for share in moved]
    known = np.where(valid, values, 0)
    return [float((share * known).sum() / share.sum()) for share in weights if share.sum() > 0]
