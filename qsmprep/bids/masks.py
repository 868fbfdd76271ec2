"""Masks made elsewhere: one place decides what counts as inside, what is doubtful and what is no mask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qsmprep.bids.grid import Grid, grid_difference, grid_of
from qsmprep.bids.images import open_image
from qsmprep.bids.problem import Problem
from qsmprep.findings import Note, Warning
from qsmprep.numerics.arrays import Mask

ROUNDING = 1e-3  # by which interpolation may leave 0 to 1
MOST_FACES = 4  # of the volume that a head may touch: both ends of a slab, and a neck that is cut
SEVERAL = 20  # values of an image that are looked at one by one
REMEDY = (
    "Make it 1 in the brain and 0 outside (labels: take those of the brain; a segmentation is given by "
    "--segmentation-file)."
)


class EmptyMaskError(ValueError):
    """A mask without a voxel inside."""


@dataclass(frozen=True)
class GivenMask:
    """A mask made elsewhere: bool (n0, n1, n2), and what was decided to come to it."""

    mask: Mask
    notes: tuple[Note, ...] = ()


def binary_mask(values: NDArray[Any]) -> GivenMask:
    """A mask of an image's values, where that can be told without doubt.

    NaN is outside. One value above 0 beside 0 is inside (1, 255, a scaled integer); values from 0 to 1 are inside from
    0.5 on.

    Raises
    ------
    EmptyMaskError : no voxel inside.
    ValueError : any other values; it tells what was found.
    """
    notes = []
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{values.dtype} numbers are no mask")
    if values.dtype.kind == "f" and (lost := int(np.count_nonzero(np.isnan(values)))):
        values = np.where(np.isnan(values), 0, values)
        notes.append(Note("mask-nan", f"{lost} voxels of the mask are NaN: they are outside."))
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not np.isfinite((low, high)).all():
        raise ValueError("the mask holds infinite values")
    inside = np.asarray(values != 0)
    if low == high == 0:
        raise EmptyMaskError("the mask is empty")
    if low >= 0 and bool((values[inside] == high).all()):
        return GivenMask(inside, tuple(notes))
    if values.dtype.kind == "f" and low >= -ROUNDING and high <= 1 + ROUNDING:
        between = int(np.count_nonzero((values > ROUNDING) & (values < 1 - ROUNDING)))
        inside = np.asarray(values >= 0.5)
        if not inside.any():
            raise EmptyMaskError(f"the mask is empty: its values reach {high:.3g}, and inside is 0.5 and more")
        if between:
            text = f"{between} voxels of the mask lie between 0 and 1: those from 0.5 on are inside."
            notes.append(Note("mask-threshold", text))
        return GivenMask(inside, tuple(notes))
    raise ValueError(f"the mask is not binary: {_described(values, low, high)}")


def _described(values: NDArray[Any], low: float, high: float) -> str:
    found = np.unique(values)
    if found.size <= SEVERAL:
        return f"its values are {', '.join(f'{value:.4g}' for value in found)}"
    return f"it has {found.size} values from {low:.4g} to {high:.4g}"


def read_given_mask(path: Path, like: Grid | None = None) -> GivenMask | Problem:
    """A mask made elsewhere, or why it is none.

    Parameters
    ----------
    path : the image, of three dimensions once trailing ones of length one are left out.
    like : the grid that it must lie on; None for any.
    """
    image = open_image(path)
    if like is not None and (problem := grid_problem(path, grid_of(image), like)):
        return problem
    values = np.asanyarray(image.dataobj)
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    try:
        return binary_mask(values)
    except EmptyMaskError as error:
        return Problem("error", "mask-empty", path, str(error), "", "Give a mask that covers the brain.")
    except ValueError as error:
        return Problem("error", "mask-not-binary", path, str(error), "", REMEDY)


def grid_problem(path: Path, grid: Grid, like: Grid, *, what: str = "mask") -> Problem | None:
    """That an image made elsewhere does not lie on the grid of the images, and by how much; None where it does."""
    difference = grid_difference(like, grid)
    if not difference:
        return None
    code = "grid-differs" if grid.shape != like.shape else "affine-differs"
    needed = "the grid of the images, to a tenth of a voxel"
    remedy = f"Resample the {what} to the images (nearest neighbour), or make it anew on them."
    return Problem("error", code, path, f"the {what} lies elsewhere: {difference}", needed, remedy)


def edge_warning(mask: Mask) -> Warning | None:
    """That a mask touches nearly every face of the volume, as no head does; None where it does not."""
    faces = sum(bool(mask.take(end, axis).any()) for axis in range(3) for end in (0, -1))
    if faces <= MOST_FACES:
        return None
    return Warning(
        "mask-touches-edges",
        f"The brain mask touches {faces} of the six faces of the volume; a brain leaves air around it.",
        "Look at the outline of mask 1: it may hold the whole field of view. Give a mask of the brain by --mask-file.",
    )
