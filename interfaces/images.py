"""Reading and writing the images that pass between nodes: uncompressed float32 NIfTI, echoes as the fourth axis."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import nibabel as nib
import numpy as np
from nipype.interfaces.base import TraitedSpec, isdefined
from numpy.typing import NDArray

from qsmprep.bids.grid import Grid, grid_of, lay_as
from qsmprep.bids.images import as_stored, open_image, stored_voxels
from qsmprep.numerics.arrays import FloatImage, Mask
from qsmprep.numerics.threads import thread_count
from qsmprep.scan import Scan

Kind = TypeVar("Kind", bound=np.generic)


def read_grid(path: str | Path) -> Grid:
    """Grid of an image file; only the header is read."""
    return grid_of(open_image(path))


def scan_of(grid: Grid, inputs: TraitedSpec) -> Scan:
    """What the steps must know of the scan: the grid's geometry, and those traits of a node that tell the rest.

    The traits are `b0_direction` (in place of the affine's), `echo_times` in s and `centre_frequency` in MHz.
    """
    given: dict[str, Any] = {
        name: getattr(inputs, name, None) for name in ("b0_direction", "echo_times", "centre_frequency")
    }
    given = {name: value for name, value in given.items() if value is not None and isdefined(value)}
    return Scan(
        voxel_size_mm=grid.voxel_size_mm,
        b0_direction=tuple(given.get("b0_direction") or grid.b0_direction),
        echo_times_s=tuple(given.get("echo_times", ())),
        centre_frequency_mhz=given.get("centre_frequency"),
    )


def read_volume(path: str | Path) -> FloatImage:
    """A volume as C-contiguous float32 (n0, n1, n2); an image of several echoes as (n_echo, n0, n1, n2)."""
    data = np.asanyarray(open_image(path).dataobj)
    if data.ndim == 4 and data.shape[3] == 1:
        data = data[..., 0]
    if data.ndim == 3:
        return np.ascontiguousarray(data, dtype=np.float32)
    echoes = np.empty((data.shape[3], *data.shape[:3]), np.float32)
    for echo, image in enumerate(echoes):  # one by one: several times faster than one copy of all axes
        image[...] = data[..., echo]
    return echoes


@dataclass(frozen=True)
class Stored:
    """An image as its file stores it: numbers (n0, n1, n2) without the header's scaling, which is beside them."""

    numbers: NDArray[Any]
    slope: float
    intercept: float

    @property
    def is_scaled(self) -> bool:
        """Whether the header scales the numbers at all."""
        return (self.slope, self.intercept) != (1.0, 0.0)

    def values(self) -> NDArray[Any]:
        """The numbers as the header scales them."""
        return self.numbers * self.slope + self.intercept if self.is_scaled else self.numbers


def read_stored(paths: Sequence[str | Path]) -> list[Stored]:
    """Volumes as stored, read side by side with the threads in force (decompression is the slow part)."""
    with ThreadPoolExecutor(thread_count()) as pool:
        return list(pool.map(_stored, paths))


def _stored(path: str | Path) -> Stored:
    proxy = stored_voxels(open_image(path))
    return Stored(proxy.get_unscaled().reshape(proxy.shape[:3], order="A"), float(proxy.slope), float(proxy.inter))


def copy_volume(path: str | Path, place: int, target: Path) -> str:
    """Write one volume of an image (n0, n1, n2, n) as it is stored, with the header's scaling; returns the path."""
    image = open_image(path)
    proxy = stored_voxels(image)
    single = nib.Nifti1Image(np.asanyarray(as_stored(image)[..., place]), None, image.header.copy())
    single.header.set_slope_inter(float(proxy.slope), float(proxy.inter))
    nib.save(single, target)
    return str(target)


def as_echoes(volume: NDArray[Kind]) -> NDArray[Kind]:
    """The volume with an echo axis in front: a single echo becomes (1, n0, n1, n2)."""
    return volume[None] if volume.ndim == 3 else volume


def read_mask(path: str | Path) -> Mask:
    """A mask as bool (n0, n1, n2), as the nodes write it: everything that is neither zero nor NaN.

    One made elsewhere is read by `qsmprep.bids.masks.read_given_mask`.
    """
    data = np.asanyarray(open_image(path).dataobj)
    data = data[..., 0] if data.ndim == 4 and data.shape[3] == 1 else data
    inside = data != 0
    if data.dtype.kind == "f":
        inside &= ~np.isnan(data)
    return np.ascontiguousarray(inside)


def write_volume(path: str | Path, array: NDArray[Any], grid: Grid) -> str:
    """Write (n0, n1, n2) or (n_echo, n0, n1, n2) as uncompressed NIfTI (masks as uint8) and return the path.

    The file carries both transforms of the image that the grid is of, and their codes.
    """
    data = np.moveaxis(array, 0, -1) if array.ndim == 4 else array
    image = nib.Nifti1Image(data.astype(np.uint8 if array.dtype == bool else np.float32, copy=False), grid.affine)
    image.header.set_xyzt_units("mm")
    if grid.header:
        lay_as(image.header, grid)
        image = nib.Nifti1Image(image.dataobj, None, image.header)
    nib.save(image, path)
    return str(path)
