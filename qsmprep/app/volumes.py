"""Images of one grid, read together for the programs beside the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from qsmprep.bids.images import read_header
from qsmprep.bids.problem import Problem
from qsmprep.interfaces.images import Grid, read_grid, read_volume

LARGEST_SHIFT = 0.1  # of a voxel's shortest edge, by which two affines may differ


def read_on_one_grid(paths: Mapping[str, Path], remedy: str) -> tuple[dict[str, np.ndarray], Grid]:
    """Volumes (n0, n1, n2) float32 by the names given, and the grid that they share.

    Parameters
    ----------
    paths : name -> NIfTI file; the first file's grid is that which the others must have.
    remedy : what the user can do about differing grids, told with the two files' names.

    Raises
    ------
    ValueError naming the file that cannot be read, is no single volume, or lies on another grid.
    """
    volumes, grids = {}, {}
    for name, path in paths.items():
        header = read_header(Path(path))
        if isinstance(header, Problem):
            raise ValueError(str(header))
        if len(header.grid) != 3:
            raise ValueError(f"{path}: an image of shape {header.shape}; give one three-dimensional volume.")
        grids[name] = read_grid(path)
    first_name, first = next(iter(grids.items()))
    for name, grid in grids.items():
        if difference := grid_difference(first, grid):
            raise ValueError(f"{paths[name]} does not lie on the grid of {paths[first_name]}: {difference}. {remedy}")
        volumes[name] = read_volume(paths[name])
    return volumes, first


def grid_difference(one: Grid, other: Grid) -> str:
    """In words how two grids differ; empty where they are one."""
    if one.shape != other.shape:
        return f"{' x '.join(map(str, other.shape))} voxels instead of {' x '.join(map(str, one.shape))}"
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in one.shape])).reshape(3, -1)
    moved = (one.affine - other.affine)[:3] @ np.vstack([corners, np.ones(corners.shape[1])])
    shift = float(np.linalg.norm(moved, axis=0).max())
    if not shift <= LARGEST_SHIFT * min(one.voxel_size_mm):
        return f"the affines put voxels up to {shift:.3g} mm apart"
    return ""
