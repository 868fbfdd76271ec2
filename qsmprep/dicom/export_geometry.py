"""A map laid on the slices of a DICOM series: axes exchanged and turned around, but never a value interpolated."""

from __future__ import annotations

import nibabel as nib
import numpy as np

from qsmprep.bids.grid import LARGEST_SHIFT, Grid, by, largest_shift_mm
from qsmprep.numerics.arrays import FloatImage


def lay_on(volume: FloatImage, grid: Grid, target: Grid) -> FloatImage:
    """The map (n0, n1, n2) in the order of the axes of the target grid.

    The grids are one if axes can be exchanged and turned around so that no corner of the volume is further off than
    a tenth of the shortest edge of a voxel. Either transform of a NIfTI header may be the one that fits.

    Raises
    ------
    ValueError : they are not one; both are told.
    """
    shift = np.inf
    for affine in (grid.to_scanner, grid.affine):
        # From voxels of the target to those of the map: +-1 where an axis runs along another, when the grids are one.
        turn = np.linalg.solve(affine[:3, :3], target.affine[:3, :3])
        axes = np.abs(turn).argmax(axis=0)
        if len(set(axes)) < 3 or tuple(volume.shape[axis] for axis in axes) != target.shape:
            continue
        signs = np.sign(turn[axes, range(3)])
        moved = np.zeros((4, 4))
        moved[axes, range(3)] = signs
        moved[axes, 3] = [volume.shape[axis] - 1 if sign < 0 else 0 for axis, sign in zip(axes, signs, strict=True)]
        moved[3, 3] = 1
        shift = min(shift, largest_shift_mm(target.shape, affine @ moved, target.affine))
        if shift <= LARGEST_SHIFT * min(target.voxel_size_mm):
            laid = np.transpose(volume, axes)[tuple(slice(None, None, int(sign)) for sign in signs)]
            return np.ascontiguousarray(laid)
    away = f" Voxels would lie up to {shift:.3g} mm away." if np.isfinite(shift) else ""
    raise ValueError(
        f"The map does not lie on the grid of the reference: the map has {_told(grid)}; the reference has "
        f"{_told(target)}.{away} Give the series that the map was made from; nothing is resampled."
    )


def _told(grid: Grid) -> str:
    """A grid in words: voxels, their size, directions of the axes, and the middle of the volume."""
    size = " x ".join(f"{edge:.4g}" for edge in grid.voxel_size_mm)
    middle = grid.to_scanner @ [*((n - 1) / 2 for n in grid.shape), 1]
    letters = "".join(nib.orientations.aff2axcodes(grid.to_scanner))
    place = ", ".join(f"{coordinate:.1f}" for coordinate in middle[:3])
    turned = np.rad2deg(np.arccos(np.clip(np.abs(grid.to_scanner[:3, :3] / grid.voxel_size_mm).max(axis=0), 0, 1)))
    oblique = f", up to {turned.max():.1f} degrees oblique" if turned.max() > 0.1 else ""
    return f"{by(grid.shape)} voxels of {size} mm, axes {letters}{oblique}, centred at ({place}) mm"
