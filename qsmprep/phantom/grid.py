"""Where the voxels lie: the slab in the world, and the grid on which the field is simulated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.phantom.anatomy import BRAIN, HEAD, Body, extent_mm, rotation
from qsmprep.phantom.options import SimulationOptions

CLEARANCE_MM = 3.0


def slab_affine(options: SimulationOptions) -> np.ndarray:
    """Voxel-to-world matrix: the slab with the head in it, rotated about x, then about y.

    The field of view is centred on the head left-right and front-back; a short one is placed to hold the vertex,
    a shorter one to hold the brain.
    """
    size, shape = np.array(options.voxel_size_mm()), np.array(options.grid_shape())
    turn = rotation(1, options.tilt_y) @ rotation(0, options.tilt_x)
    affine = np.eye(4)
    affine[:3, :3] = turn * size
    affine[:3, 3] = turn @ _first_centre(size, shape)
    return affine


@dataclass(frozen=True)
class SimulationGrid:
    """The field of view, finer by the oversampling, and around it the rest of the head.

    Attributes
    ----------
    voxel_size_mm, shape : of the whole grid.
    first_centre_mm : centre of voxel (0, 0, 0) in the head's frame.
    view : the field of view inside it.
    """

    voxel_size_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    first_centre_mm: tuple[float, float, float]
    view: tuple[slice, slice, slice]


def simulation_grid(options: SimulationOptions, bodies: tuple[Body, ...]) -> SimulationGrid:
    """The grid for an acquisition of a head. Raises ValueError if the field of view does not hold the brain."""
    size, shape = np.array(options.voxel_size_mm()), np.array(options.grid_shape())
    low = _first_centre(size, shape) - size / 2
    high = low + shape * size
    brain = extent_mm(bodies, "grey_matter")
    if np.any(brain[0] < low) or np.any(brain[1] > high):
        raise ValueError(
            f"The field of view, {_times(shape * size)} mm, does not hold the brain, {_times(brain[1] - brain[0])} mm; "
            "give a larger --shape or --voxel-size."
        )
    size, shape = size / options.oversampling, shape * options.oversampling
    # The head beyond the field of view still makes a field inside it.
    head = extent_mm(bodies, "muscle")
    before = np.maximum(0, np.ceil((low - head[0]) / size) + 1).astype(int)
    after = np.maximum(0, np.ceil((head[1] - high) / size) + 1).astype(int)
    n0, n1, n2 = (int(n) for n in shape + before + after)
    view0, view1, view2 = (slice(int(b), int(b + n)) for b, n in zip(before, shape, strict=True))
    return SimulationGrid(
        voxel_size_mm=_triple(size),
        shape=(n0, n1, n2),
        first_centre_mm=_triple(low + size / 2 - before * size),
        view=(view0, view1, view2),
    )


def _first_centre(size: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Centre of voxel (0, 0, 0) in the head's frame, mm."""
    half = size * shape / 2
    vertex = HEAD[0][2] + HEAD[1][2] + CLEARANCE_MM
    brain_base = BRAIN[0][2] - BRAIN[1][2] - CLEARANCE_MM
    centre = np.array([0.0, 0.0, min(max(0.0, vertex - half[2]), half[2] + brain_base)])
    return centre - half + size / 2


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z


def _times(lengths: np.ndarray) -> str:
    return " x ".join(f"{length:.0f}" for length in lengths)
