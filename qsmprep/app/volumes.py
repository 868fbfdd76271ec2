"""Images of one grid, read together for the programs beside the pipeline."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from qsmprep.bids.grid import Grid, grid_difference
from qsmprep.bids.images import read_header
from qsmprep.bids.masks import read_given_mask
from qsmprep.bids.problem import Problem
from qsmprep.interfaces.images import read_grid, read_volume
from qsmprep.numerics.arrays import Mask


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


def read_mask_of_user(path: Path) -> Mask:
    """A mask (n0, n1, n2) bool given to a program beside the pipeline, by the rules of `qsmprep.bids.masks`.

    What was decided is told on stderr. Raises ValueError naming the file, where it is no mask.
    """
    given = read_given_mask(Path(path))
    if isinstance(given, Problem):
        raise ValueError(str(given))
    for note in given.notes:
        print(f"{path}: {note.text}", file=sys.stderr)
    return given.mask
