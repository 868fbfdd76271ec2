"""What COSMOS and susceptibility tensor imaging check in the same way."""

from __future__ import annotations

import numpy as np

from qsmprep.numerics.units import check_field_ppm


def checked_fields(
    fields_ppm: np.ndarray, mask: np.ndarray, weights: np.ndarray | None, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Fields and weights made safe to transform.

    Parameters
    ----------
    fields_ppm : (n, n0, n1, n2) tissue fields in ppm, registered to one grid.
    mask : (n0, n1, n2) where the result is wanted.
    weights : (n, n0, n1, n2) or None, >= 0; 0 where a field is not valid.
    count : number of directions that n must be.

    Returns
    -------
    Fields as float32, 0 where they do not count; boolean mask; weights as float32, largest 1, or None. Without weights
    the fields count inside the mask; with weights, wherever they weigh.

    Raises
    ------
    ValueError for shapes that differ, an empty mask, negative or vanishing weights, or a field that cannot be in ppm.
    """
    fields, inside = np.asarray(fields_ppm), np.asarray(mask) > 0
    if fields.ndim != 4 or fields.shape[1:] != inside.shape:
        raise ValueError(
            f"Fields must be (n, n0, n1, n2) and the mask (n0, n1, n2); got {fields.shape}, {inside.shape}."
        )
    if len(fields) != count:
        raise ValueError(f"There are {len(fields)} fields, but {count} directions of B0.")
    if not inside.any():
        raise ValueError("The mask is empty: no voxel to reconstruct.")
    counts = np.isfinite(fields)
    if weights is None:
        counts &= inside
    else:
        weights = np.asarray(weights)
        if weights.shape != fields.shape:
            raise ValueError(f"Weights have shape {weights.shape}; the fields have {fields.shape}.")
        weights = np.where(counts & np.isfinite(weights), weights, 0).astype(np.float32)
        if weights.min() < 0:
            raise ValueError(f"Weights must not be negative; the smallest is {weights.min():.3g}.")
        if not weights.reshape(count, -1).any(axis=1).all():
            raise ValueError("The weights of an orientation are 0 everywhere.")
        weights /= weights.max()
        counts &= weights > 0
    fields = np.where(counts, fields, 0).astype(np.float32)
    for field in fields:
        check_field_ppm(field)
    return fields, inside, weights
