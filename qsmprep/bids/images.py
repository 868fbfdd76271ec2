"""Image files looked at before anything is computed: headers first, then every voxel once."""

from __future__ import annotations

import gzip
import logging
import math
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel import imageglobals
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import SpatialImage

from qsmprep.bids.grid import (
    LARGEST_TURN_DEG,
    Assumption,
    Grid,
    angle_deg,
    assumption_of,
    by,
    grid_difference,
    grid_of,
    largest_shift_mm,
)
from qsmprep.bids.problem import Problem
from qsmprep.bids.reading import UnreadableFileError, open_regular
from qsmprep.numerics.arrays import DoubleArray
from qsmprep.numerics.threads import thread_count

logger = logging.getLogger("qsmprep")
_told: set[str] = set()
GZIP = b"\x1f\x8b"
CHUNK_BYTES = 2**24
# Of a voxel's shortest edge: by how much images of one run may differ unsaid; rounding in headers is below.
TOLD_SHIFT = 0.01
# A whole head at 0.3 mm has 2e8 voxels. What a file holds beyond what its header says is not read.
MOST_VOXELS = 2**30
LONGEST_HEADER = 2**26  # bytes, extensions included
LONGEST_TAIL = 2**26
# No stream of zlib unpacks to more than 1032 times its size, and only one of equal bytes comes near.
LARGE, MOST_PACKED = 2**28, 900


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
    place : the grid with its transforms.
    assumption : what the header leaves open about B0.
    slope, intercept : a value is slope * stored + intercept.
    """

    path: Path
    shape: tuple[int, ...]
    affine: DoubleArray
    oriented: bool
    dtype: np.dtype[Any]
    offset: int
    place: Grid
    assumption: Assumption
    slope: float = 1.0
    intercept: float = 0.0

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
    """The image of a file whose voxels lie in space, as those of NIfTI and MGZ do; no voxel is read yet.

    Raises
    ------
    UnreadableFileError : no regular file, or one that may not be read.
    ImageFileError : not such an image; nibabel raises others for what is damaged.
    """
    os.close(open_regular(path))  # nibabel would wait for a pipe without end
    with _remarks() as remarks:
        image = nib.load(path)
    if remarks and parent_process() is None and str(path) not in _told:  # workers open what was opened before
        _told.add(str(path))
        logger.warning(
            "%s: its header was read as far as it makes sense (%s).", path, "; ".join(dict.fromkeys(remarks))
        )
    if not isinstance(image, SpatialImage):
        raise ImageFileError(f"{path}: {type(image).__name__} is not an image of voxels in space.")
    return image


class _Remarks(logging.Filter):
    """Keeps what nibabel remarks about a header, which names no file, from its log."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        self.texts.append(record.getMessage())
        return False


@contextmanager
def _remarks() -> Iterator[list[str]]:
    """What nibabel remarks about headers while the block runs, instead of its log."""
    remarks = _Remarks()
    imageglobals.logger.addFilter(remarks)
    try:
        yield remarks.texts
    finally:
        imageglobals.logger.removeFilter(remarks)


def stored_voxels(image: SpatialImage) -> ArrayProxy:
    """The voxels of an image file as they are stored; none is read yet."""
    if not isinstance(image.dataobj, ArrayProxy):
        raise ImageFileError(f"{type(image).__name__}: its voxels are not those of a file.")
    return image.dataobj


def as_stored(image: SpatialImage, *, keep_file_open: bool | None = None) -> ArrayProxy:
    """The voxels of an image file without the header's scaling; what is not asked for is not read.

    With `keep_file_open` a compressed file is read on from where the last part ended, not from its beginning.
    """
    proxy = stored_voxels(image)
    form = (proxy.shape, proxy.dtype, proxy.offset, 1.0, 0.0)
    return ArrayProxy(proxy.file_like, form, keep_file_open=keep_file_open)


def read_header(path: Path) -> Header | Problem:
    """The header of an image file, or why it cannot be read."""
    try:
        _check_beginning(path)
        image = open_image(path)
        header = image.header
        if not isinstance(header, Nifti1Header):
            raise ImageFileError(f"a file of type {type(image).__name__}")
        oriented = any(int(header[code]) > 0 for code in ("qform_code", "sform_code"))
        stored = stored_voxels(image)
        shape = tuple(map(int, image.shape))
        if len(shape) == 3 and math.prod(shape) > MOST_VOXELS:
            found = f"{by(shape)} voxels, more than {MOST_VOXELS}"
            return Problem("error", "image-too-large", path, found, "an image of a head", "Is the header damaged?")
        place, scale = (grid_of(image), assumption_of(image)), (float(stored.slope), float(stored.inter))
        return Header(path, shape, image.affine, oriented, stored.dtype, int(stored.offset), *place, *scale)
    except UnreadableFileError as error:
        return _unreadable(error)
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
    count = math.prod(header.shape)
    needed = header.offset + count * header.dtype.itemsize
    tally = _Tally(header.dtype)
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            zipped = file.read(2) == GZIP
            file.seek(0)
            if zipped and needed > max(LARGE, MOST_PACKED * os.fstat(file.fileno()).st_size):
                found = f"{needed / 2**30:.3g} GiB of voxels in so small a file would all be the same"
                return Problem("error", "image-hollow", path, found, "an image of a head", remedy)
            stream: BufferedIOBase = gzip.GzipFile(fileobj=file) if zipped else file
            there = _skip(stream, header.offset)
            while there < needed and (part := stream.read(min(CHUNK_BYTES, needed - there))):
                tally.add(part)
                there += len(part)
            # The checksum stands at the end; some programs fill up behind the voxels, but not without an end.
            tail = _skip(stream, LONGEST_TAIL) if zipped and there == needed else 0
    except UnreadableFileError as error:
        return _unreadable(error)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        found = f"the compressed file is truncated or damaged ({_short(error)})"
        return Problem("error", "image-truncated", path, found, "", remedy)
    except OSError as error:
        return _unreadable(UnreadableFileError(path, f"the file cannot be read ({_short(error)})", remedy))
    if there < needed:
        found = f"the file is truncated: it holds {there} bytes instead of {needed}"
        return Problem("error", "image-too-short", path, found, "", remedy)
    if tail == LONGEST_TAIL:
        found = f"after its {count} voxels the file goes on for more than {LONGEST_TAIL / 2**20:.0f} MiB"
        return Problem("error", "image-too-long", path, found, "an image as large as its header says", remedy)
    return tally.survey(path, count)


def _unreadable(error: UnreadableFileError) -> Problem:
    code = "image-missing" if error.absent else "image-unreadable"
    return Problem("error", code, error.path, error.found, "", error.remedy)


class _Tally:
    """Least and greatest value and what is not finite, of voxels that come in pieces."""

    def __init__(self, dtype: np.dtype[Any]):
        self._dtype, self._rest = dtype, b""
        self._ends: list[float] = []
        self._nan = self._infinite = 0

    def add(self, part: bytes) -> None:
        part = self._rest + part
        whole = len(part) - len(part) % self._dtype.itemsize
        self._rest = part[whole:]
        values = np.frombuffer(part, self._dtype, count=whole // self._dtype.itemsize)
        if values.dtype.kind == "f" and values.size:
            if not values.dtype.isnative:
                values = values.astype(values.dtype.newbyteorder("="))
            if not (np.isfinite(values.min()) and np.isfinite(values.max())):  # NaN if any is NaN
                self._nan += int(np.count_nonzero(np.isnan(values)))
                self._infinite += int(np.count_nonzero(np.isinf(values)))
                values = values[np.isfinite(values)]
        if values.size:
            self._ends += [float(values.min()), float(values.max())]

    def survey(self, path: Path, voxels: int) -> VoxelSurvey:
        low, high = (min(self._ends), max(self._ends)) if self._ends else (np.nan, np.nan)
        return VoxelSurvey(path, voxels, self._nan, self._infinite, low, high)


def _skip(stream: BufferedIOBase, count: int) -> int:
    """Read on without keeping anything; how many bytes there were."""
    done = 0
    while done < count and (part := stream.read(min(CHUNK_BYTES, count - done))):
        done += len(part)
    return done


def _check_beginning(path: Path) -> None:
    """Refuse what is no regular file, and a header whose extensions would fill the memory before any check.

    Raises
    ------
    UnreadableFileError : no regular file, or one that may not be read.
    ImageFileError : the voxels begin beyond any sensible header.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        zipped = file.read(2) == GZIP
        file.seek(0)
        begin = (gzip.GzipFile(fileobj=file) if zipped else file).read(540)
    kinds: tuple[tuple[type[Nifti1Header], int], ...] = ((Nifti1Header, 348), (Nifti2Header, 540))
    for header, size in kinds:
        if len(begin) >= size and size in (int.from_bytes(begin[:4], "little"), int.from_bytes(begin[:4], "big")):
            offset = float(header(begin[:size], check=False)["vox_offset"])
            if not offset <= LONGEST_HEADER:
                raise ImageFileError(f"its header says that the voxels begin at byte {offset:g}")


def check_grids(headers: Sequence[Header], *, b0_direction: Sequence[float] | None) -> list[Problem]:
    """Problems of shape, affine and data type: each image by itself, then all against the first."""
    problems = []
    for header in headers:
        problems += _check_grid(header)
    if problems or not headers:
        return problems
    first, moved = headers[0], list[Problem]()
    for header in headers[1:]:
        if header.grid != first.grid:
            found, needed = f"{by(header.grid)} voxels", f"{by(first.grid)} as in {first.path.name}"
            remedy = "Give one grid for all echoes and parts: never resample phase, convert the images again."
            if short := _missing_along(first.grid, header.grid):
                axis, count = short
                found += f": {count} slices fewer along axis {axis} in one of the two"
                remedy = "Slices are missing in one of them: convert or export the whole series again."
            problems.append(Problem("error", "grid-differs", header.path, found, needed, remedy))
        elif found := _differently_placed(first, header):
            needed = f"the affine of {first.path.name}"
            remedy = "All echoes and parts must lie alike: convert the images of one series together."
            problems.append(Problem("error", "affine-differs", header.path, found, needed, remedy))
        elif (shift := _least_shift_mm(first, header)) > TOLD_SHIFT * min(first.place.voxel_size_mm):
            found = f"it lies {shift:.2g} mm from {first.path.name} by its affine; both are taken as one grid"
            remedy = "Convert the images of one series together; were they registered to each other, use the originals."
            moved.append(Problem("warning", "affine-differs-slightly", header.path, found, "", remedy))
    return problems + moved + _check_oriented(headers, problems, b0_direction)


def check_b0(headers: Sequence[Header], *, b0_direction: Sequence[float] | None) -> list[Problem]:
    """A warning where the two transforms of the images contradict each other about B0, unless the user gave it."""
    doubtful = [header for header in headers if header.assumption.angle_deg > LARGEST_TURN_DEG]
    if not doubtful or b0_direction is not None:
        return []
    first, others = doubtful[0], len(doubtful) - 1
    found = first.assumption.text + (f" (so in {others} other images of the run)" if others else "")
    remedy = "Give --b0-direction if that is wrong, or convert the images again so that both agree."
    return [Problem("warning", "b0-direction-contradicted", first.path, found, "", remedy)]


def _missing_along(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, int] | None:
    """The one axis along which two grids differ, and by how many voxels; None for other differences."""
    axes = [axis for axis in range(3) if one[axis] != other[axis]]
    return (axes[0], abs(one[axes[0]] - other[axes[0]])) if len(axes) == 1 and len(one) == len(other) == 3 else None


def _least_shift_mm(first: Header, header: Header) -> float:
    """How far the corners of an image are from those of the first, by the transform of it that is nearer."""
    own = (first.place.affine, first.place.to_scanner)
    return min(largest_shift_mm(first.place.shape, affine, header.place.affine) for affine in own)


def _differently_placed(first: Header, header: Header) -> str:
    """How one image of a run lies otherwise than the first; empty where it lies alike."""
    if difference := grid_difference(first.place, header.place):
        return difference
    turn = angle_deg(first.place.to_scanner, header.place.to_scanner)
    if turn <= LARGEST_TURN_DEG:
        return ""
    return f"B0 by the transform to the scanner is {turn:.1f} degrees away"


def _check_oriented(
    headers: Sequence[Header], problems: Sequence[Problem], b0_direction: Sequence[float] | None
) -> list[Problem]:
    unoriented = [header for header in headers if not header.oriented]
    if unoriented and b0_direction is None and not problems:
        found = "the header does not say how the image lies in the scanner (qform_code and sform_code are 0)"
        needed = "the direction of B0 in the image"
        return [Problem("error", "orientation-missing", unoriented[0].path, found, needed,
                        "Give --b0-direction, or mend the header.")]  # fmt: skip
    return []


def _check_grid(header: Header) -> list[Problem]:
    path, grid = header.path, header.grid
    if header.dtype.kind == "c" or header.dtype.fields:
        remedy = "Write part-real and part-imag, or part-mag and part-phase."
        return [Problem("error", "numbers-not-real", path, f"{header.dtype} numbers", "real numbers", remedy)]
    if len(grid) > 3:
        found = f"{len(grid)} dimensions ({by(grid)})"
        remedy = (
            "Uncombined coils along the last axis? Say --coils last-axis, or their number in the sidecar "
            "(docs/coils.md). Several echoes in one file? Write EchoTime as a list of their times, or give "
            "--echo-times. Repetitions? Say --volumes mean, or each."
        )
        return [Problem("error", "too-many-dimensions", path, found, "one three-dimensional volume a file", remedy)]
    if len(grid) < 3 or min(grid, default=0) < 2:
        found = f"an image of {by(grid)} voxels"
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


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
