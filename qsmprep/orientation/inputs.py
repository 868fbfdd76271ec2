"""The registered fields of several orientations, as every method of this room is given them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qsmprep.numerics.units import check_field_ppm
from qsmprep.orientation.directions import check_condition, unit_directions
from qsmprep.scan import Triple


@dataclass(frozen=True)
class Orientations:
    """Tissue fields of several orientations of the head, registered to one grid.

    Attributes
    ----------
    fields_ppm : (n, n0, n1, n2) in ppm.
    mask : (n0, n1, n2) where the result is wanted.
    voxel_size_mm : edge lengths of the grid in mm.
    b0_directions : (n, 3) direction of B0 of each orientation in the voxel axes of the grid, of any length.
    weights : (n, n0, n1, n2) >= 0, 0 where a field is not valid; or None.
    """

    fields_ppm: np.ndarray
    mask: np.ndarray
    voxel_size_mm: Triple
    b0_directions: np.ndarray
    weights: np.ndarray | None = None

    @property
    def support(self) -> np.ndarray:
        """(n0, n1, n2) bool, once checked: the mask, and where any orientation weighs something."""
        return self.mask if self.weights is None else self.mask | self.weights.any(axis=0)


def checked(
    orientations: Orientations, what: str, *, least: int, condition_of: Callable[[np.ndarray], float], largest: float
) -> tuple[Orientations, float]:
    """The orientations made safe to transform, and the condition number of their directions.

    Parameters
    ----------
    orientations : as they were given.
    what : name of the method, for messages.
    least : number of orientations that it needs.
    condition_of : condition number of (n, 3) unit vectors.
    largest : condition number that is accepted.

    Returns
    -------
    Orientations of unit directions, float32 fields, 0 where they do not count, boolean mask, and float32 weights,
    largest 1, or None. Without weights the fields count inside the mask; with weights, wherever they weigh.

    Raises
    ------
    ValueError : too few orientations or too much alike, shapes that differ, an empty mask, negative or vanishing
        weights, or a field that cannot be in ppm.
    """
    directions = unit_directions(orientations.b0_directions, least, what[0].upper() + what[1:])
    condition = condition_of(directions)
    check_condition(condition, largest, directions, what)
    fields, inside, weights = _checked_fields(orientations, len(directions))
    return Orientations(fields, inside, orientations.voxel_size_mm, directions, weights), condition


def _checked_fields(given: Orientations, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    fields, inside, weights = np.asarray(given.fields_ppm), np.asarray(given.mask) > 0, given.weights
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
