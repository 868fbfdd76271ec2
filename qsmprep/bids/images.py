"""Image files looked at before anything is computed: headers first, then every voxel once."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from qsmprep.bids.problem import Problem
from qsmprep.numerics.arrays import DoubleArray
from qsmprep.numerics.threads import thread_count


@dataclass(frozen=True)
class Header:
    """What an image's header says.

    Attributes
    ----------
    shape : as stored, of any number of dimensions.
    affine : voxel to world, (4, 4).
    oriented : whether the header says how the image lies in the scanner (qform or sform code above 0).
    dtype : as stored.
    offset : bytes before the first voxel.
    """

    path: Path
    shape: tuple[int, ...]
    affine: DoubleArray
    oriented: bool
    dtype: np.dtype[Any]
    offset: int

    @property
    def grid(self) -> tuple[int, ...]:
        """The shape without trailing dimensions of one."""
        shape = self.shape
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        return shape


@dataclass(frozen=True)
class VoxelSurvey:
    """Stored values of an image: number of voxels, of NaN and infinite ones, least and greatest of the finite ones."""

    path: Path
    voxels: int
    nan: int
    infinite: int
    minimum: float
    maximum: float


def open_image(path: str | Path) -> SpatialImage:
    """The image of a file whose voxels lie in space, as those of NIfTI and MGZ do; no voxel is read yet."""
    image = nib.load(path)
    if not isinstance(image, SpatialImage):
        raise ImageFileError(f"{path}: {type(image).__name__} is not an image of voxels in space.")
    return image


def stored_voxels(image: SpatialImage) -> ArrayProxy:
    """The voxels of an image file as they are stored; none is read yet."""
    if not isinstance(image.dataobj, ArrayProxy):
        raise ImageFileError(f"{type(image).__name__}: its voxels are not those of a file.")
    return image.dataobj


def read_header(path: Path) -> Header | Problem:
    """The header of an image file, or why it cannot be read."""
    try:
        image = open_image(path)
        header = image.header
        if not isinstance(header, Nifti1Header):
            raise ImageFileError(f"a file of type {type(image).__name__}")
        oriented = any(int(header[code]) > 0 for code in ("qform_code", "sform_code"))
        stored = stored_voxels(image)
        return Header(path, tuple(map(int, image.shape)), image.affine, oriented, stored.dtype, int(stored.offset))
    except FileNotFoundError:
        return Problem("error", "image-missing", path, "the file (or what it links to) does not exist", "",
                       "Fetch or restore the data.")  # fmt: skip
    except PermissionError:
        return Problem(
            "error", "image-not-allowed", path, "the file may not be read", "", "Give yourself permission to read it."
        )
    except Exception as error:  # nibabel raises many kinds for files that are not what their name says
        found = f"not a readable NIfTI image ({_short(error)})"
        return Problem(
            "error", "image-not-nifti", path, found, "", "Copy it anew, or convert the scanner's images again."
        )


def survey_all(headers: Sequence[Header], *, threads: int | None = None) -> list[VoxelSurvey | Problem]:
    """Read every voxel of several images, side by side, and tell for each what it holds or why it cannot be read."""
    with ThreadPoolExecutor(max(1, min(threads or thread_count(), len(headers) or 1))) as pool:
        return list(pool.map(survey, headers))


def survey(header: Header) -> VoxelSurvey | Problem:
    """Read every voxel of one image."""
    path, remedy = header.path, "Copy it anew, or convert the scanner's images again."
    count = int(np.prod(header.shape))
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        values = np.frombuffer(content, header.dtype, count=count, offset=header.offset)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        found = f"the compressed file is truncated or damaged ({_short(error)})"
        return Problem("error", "image-truncated", path, found, "", remedy)
    except ValueError:
        expected, there = header.offset + count * header.dtype.itemsize, len(content)
        found = f"the file is truncated: it holds {there} bytes instead of {expected}"
        return Problem("error", "image-too-short", path, found, "", remedy)
    except OSError as error:
        return Problem("error", "image-unreadable", path, f"the file cannot be read ({_short(error)})", "", remedy)
    return _survey_values(path, values)


def _survey_values(path: Path, values: NDArray[Any]) -> VoxelSurvey:
    nan = infinite = 0
    if values.dtype.kind == "f":
        if not values.dtype.isnative:
            values = values.astype(values.dtype.newbyteorder("="))
        low, high = values.min(), values.max()  # NaN if any is NaN
        if not (np.isfinite(low) and np.isfinite(high)):
            nan = int(np.count_nonzero(np.isnan(values)))
            infinite = int(np.count_nonzero(np.isinf(values)))
            values = values[np.isfinite(values)]
    if not values.size:
        return VoxelSurvey(path, nan + infinite, nan, infinite, np.nan, np.nan)
    return VoxelSurvey(path, values.size + nan + infinite, nan, infinite, float(values.min()), float(values.max()))


def check_grids(headers: Sequence[Header], *, b0_direction: Sequence[float] | None) -> list[Problem]:
    """Problems of shape, affine and data type: each image by itself, then all against the first."""
    problems = []
    for header in headers:
        problems += _check_grid(header)
    if problems or not headers:
        return problems
    first = headers[0]
    for header in headers[1:]:
        if header.grid != first.grid:
            found, needed = f"{_by(header.grid)} voxels", f"{_by(first.grid)} as in {first.path.name}"
            remedy = "Give one grid for all echoes and parts: never resample phase, convert the images again."
            problems.append(Problem("error", "grid-differs", header.path, found, needed, remedy))
        elif (shift := _largest_shift(header, first)) > 0.1 * _voxel_size(first).min():
            found, needed = f"the affine puts voxels up to {shift:.3g} mm away", f"the affine of {first.path.name}"
            remedy = "All echoes and parts must lie alike: convert the images of one series together."
            problems.append(Problem("error", "affine-differs", header.path, found, needed, remedy))
    unoriented = [header for header in headers if not header.oriented]
    if unoriented and b0_direction is None and not problems:
        found = "the header does not say how the image lies in the scanner (qform_code and sform_code are 0)"
        needed = "the direction of B0 in the image"
        problems.append(Problem("error", "orientation-missing", unoriented[0].path, found, needed,
                                "Give --b0-direction, or mend the header."))  # fmt: skip
    return problems


def _check_grid(header: Header) -> list[Problem]:
    path, grid = header.path, header.grid
    if header.dtype.kind == "c" or header.dtype.fields:
        remedy = "Write part-real and part-imag, or part-mag and part-phase."
        return [Problem("error", "numbers-not-real", path, f"{header.dtype} numbers", "real numbers", remedy)]
    if len(grid) > 3:
        found = f"{len(grid)} dimensions ({_by(grid)})"
        remedy = "Uncombined coils? Combine them first. Several echoes or volumes in one file? Split them."
        return [Problem("error", "too-many-dimensions", path, found, "one three-dimensional volume a file", remedy)]
    if len(grid) < 3 or min(grid, default=0) < 2:
        found = f"an image of {_by(grid)} voxels"
        return [Problem("error", "too-few-voxels", path, found, "at least 2 voxels along each of three axes",
                        "Give the whole volume.")]  # fmt: skip
    sizes = _voxel_size(header)
    lost = not np.isfinite(header.affine).all() or sizes.min() <= 0
    if lost or abs(np.linalg.det(header.affine[:3, :3] / np.where(sizes > 0, sizes, 1))) < 1e-3:
        found = "the affine is zero, singular or not finite"
        remedy = "Convert the scanner's images again, or copy the geometry from another image of the series."
        return [Problem("error", "affine-singular", path, found, "an affine that maps voxels to millimetres", remedy)]
    return []


def _voxel_size(header: Header) -> DoubleArray:
    return np.asarray(np.linalg.norm(header.affine[:3, :3], axis=0))


def _largest_shift(one: Header, other: Header) -> float:
    """Largest distance in mm between the places the two affines give to a corner of the volume."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in one.grid])).reshape(3, -1)
    moved = (one.affine - other.affine)[:3] @ np.vstack([corners, np.ones(corners.shape[1])])
    return float(np.linalg.norm(moved, axis=0).max())


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "0"


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
