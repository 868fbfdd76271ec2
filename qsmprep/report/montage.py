"""Slices of a volume laid out as one picture: three planes, patient axes known, voxels in their true shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import nibabel.orientations as orientations
import numpy as np

from qsmprep.numerics.volume import bounding_box

CONVENTIONS = ("radiological", "neurological")
_WIDTH = (900, 1500)  # pixels a montage may be wide: crisp on a page, small as a file
_HEIGHT = 1400
SLICES, LEAST_SLICES = 5, 3  # in a row: fewer where voxels are so small that they would not fit
_GAP = 6
_MARGIN_MM = 6.0
_ENDS = 0.18  # share of the box left out at each end, where slices show little


@dataclass(frozen=True)
class Plane:
    """How one plane is laid out.

    Attributes
    ----------
    name : for the label.
    across, down, through : patient axes (0 left-right, 1 posterior-anterior, 2 inferior-superior).
    """

    name: str
    across: int
    down: int
    through: int


PLANES = (Plane("axial", 0, 1, 2), Plane("coronal", 0, 2, 1), Plane("sagittal", 1, 2, 0))
_POSITIVE, _NEGATIVE = "RAS", "LPI"


def place_words(plane: Plane, place_mm: float) -> str:
    """A place along the patient's axis through a plane, to the millimetre, by the letter of the patient's side.

    >>> place_words(PLANES[0], -12.3)
    'I 12'
    """
    letter = (_POSITIVE if place_mm >= 0 else _NEGATIVE)[plane.through]
    return f"{letter} {abs(place_mm):.0f}"


@dataclass(frozen=True)
class Tile:
    """Where a slice stands in the picture (pixels, from the top left) and what it shows.

    `place_mm` is where it lies along the patient's axis through the plane, at the middle of the volume, from the origin
    of the scanner to the right, front or top.
    """

    plane: Plane
    index: int
    row: int
    column: int
    height: int
    width: int
    place_mm: float = 0.0

    @property
    def place(self) -> str:
        """The place in words: "S 12" is 12 mm above the origin."""
        return place_words(self.plane, self.place_mm)


@dataclass(frozen=True)
class Row:
    """A row of tiles: the patient's directions at its four edges and from slice to slice."""

    plane: Plane
    row: int
    height: int
    left: str
    right: str
    top: str
    bottom: str
    order: str


@dataclass(frozen=True)
class Layout:
    """The plan of a montage: which voxels go where.

    Attributes
    ----------
    axes, flips : voxel axis that lies closest to each patient axis, and whether it runs the other way.
    shape : height and width of the picture, pixels.
    samples : by plane name, the voxel index along the patient axis of each pixel row and of each pixel column.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    shape: tuple[int, int]
    tiles: tuple[Tile, ...]
    rows: tuple[Row, ...]
    samples: dict[str, tuple[np.ndarray, np.ndarray]]

    def draw(self, volume: np.ndarray, fill: float = 0) -> np.ndarray:
        """The montage of a volume of the planned shape, same dtype, `fill` between the tiles."""
        patient = canonical(volume, self.axes, self.flips)
        picture = np.full(self.shape, fill, dtype=volume.dtype)
        for tile in self.tiles:
            plane = np.take(patient, tile.index, axis=tile.plane.through)
            down, across = self.samples[tile.plane.name]
            # Of the two axes that are left, the one across always precedes the one down.
            window = (slice(tile.row, tile.row + tile.height), slice(tile.column, tile.column + tile.width))
            picture[window] = plane[np.ix_(across, down)].T
        return picture


def patient_axes(affine: np.ndarray) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Voxel axis closest to each of right, anterior, superior, and whether it runs to the opposite side."""
    codes = orientations.io_orientation(np.asarray(affine, float))
    right, front, top = (int(np.flatnonzero(codes[:, 0] == axis)[0]) for axis in range(3))
    return (right, front, top), (bool(codes[right, 1] < 0), bool(codes[front, 1] < 0), bool(codes[top, 1] < 0))


def canonical(volume: np.ndarray, axes: Sequence[int], flips: Sequence[bool]) -> np.ndarray:
    """A view of the volume with axes to the patient's right, front and top."""
    turned = volume.transpose(axes)
    return turned[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]


def plan(
    shape: Sequence[int],
    affine: np.ndarray,
    *,
    region: np.ndarray | None = None,
    slices: int = SLICES,
    convention: str = "radiological",
) -> Layout:
    """Choose the slices and where they stand.

    Parameters
    ----------
    shape : of the volume, three axes.
    affine : (4, 4) voxel-to-world matrix in mm.
    region : bool volume whose box is shown; the whole volume by default or where it is empty.
    slices : of the axial plane, fewer of fine images, as every voxel has a pixel at least; broader planes show as many
        as fit the same width.
    convention : "radiological" shows the patient's right on the left, "neurological" on the right.

    Raises
    ------
    ValueError : unknown convention, or a shape or region that is not three-dimensional and equal.
    """
    _check(shape, region, convention)
    axes, flips = patient_axes(affine)
    sizes = np.linalg.norm(np.asarray(affine, float)[:3, :3], axis=0)[list(axes)]
    box = _box([shape[axis] for axis in axes], sizes, None if region is None else canonical(region, axes, flips))
    extent = [size * (part.stop - part.start) for size, part in zip(sizes, box, strict=True)]
    slices = max(LEAST_SLICES, min(slices, int(_WIDTH[1] * min(sizes) // extent[0])))
    pixel = _pixel_size(min(sizes), max(slices * extent[0], extent[1]), extent[1] + 2 * extent[2])
    width = slices * max(1, round(extent[0] / pixel)) + (slices - 1) * _GAP

    samples, tiles, rows, top = {}, [], [], 0
    for plane in PLANES:
        across, down = (_sample(box[axis], sizes[axis], pixel) for axis in (plane.across, plane.down))
        mirrored = plane.across == 1 or convention == "radiological"  # front on the left in both conventions
        samples[plane.name] = (down[::-1], across[::-1] if mirrored else across)
        placed = _place(plane, box[plane.through], len(across), len(down), top, width, slices)
        tiles += [replace(tile, place_mm=_lies_at(tile, shape, affine, axes, flips)) for tile in placed]
        ends = (_NEGATIVE[plane.across], _POSITIVE[plane.across])
        left, right = ends[::-1] if mirrored else ends
        order = f"{_NEGATIVE[plane.through]} → {_POSITIVE[plane.through]}"
        rows.append(Row(plane, top, len(down), left, right, _POSITIVE[plane.down], _NEGATIVE[plane.down], order))
        top += len(down) + _GAP
    width = max(width, *(tile.column + tile.width for tile in tiles))
    return Layout(axes, flips, (top - _GAP, width), tuple(tiles), tuple(rows), samples)


def outline(picture: np.ndarray) -> np.ndarray:
    """The outermost pixels of a bool picture's areas."""
    inner = picture.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            inner &= _shifted(picture, step, axis)
    return picture & ~inner


def _check(shape: Sequence[int], region: np.ndarray | None, convention: str) -> None:
    if convention not in CONVENTIONS:
        raise ValueError(f"Unknown convention {convention!r}; known are {', '.join(CONVENTIONS)}.")
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"A mosaic needs a volume of three axes; got shape {tuple(shape)}.")
    if region is not None and tuple(region.shape) != tuple(shape):
        raise ValueError(f"The mask's shape {tuple(region.shape)} is not the volume's {tuple(shape)}.")


def _box(shape: Sequence[int], sizes: np.ndarray, region: np.ndarray | None) -> tuple[slice, ...]:
    if region is None or not region.any():
        return tuple(slice(0, n) for n in shape)
    return bounding_box(region, tuple(int(np.ceil(_MARGIN_MM / size)) for size in sizes))


def _pixel_size(finest: float, width_mm: float, height_mm: float) -> float:
    """The finest voxel or a whole part of it, so that voxels of equal size stay of equal size and none is left out."""
    room = min(_WIDTH[1] * finest / width_mm, _HEIGHT * finest / height_mm)
    return finest / max(1, min(np.floor(room), np.ceil(_WIDTH[0] * finest / width_mm)))


def _sample(part: slice, size: float, pixel: float) -> np.ndarray:
    """Voxel index shown by each pixel along one axis: the nearest, so only measured values are seen."""
    count = max(1, round((part.stop - part.start) * size / pixel))
    index = part.start + np.floor((np.arange(count) + 0.5) * pixel / size).astype(int)
    return np.minimum(index, part.stop - 1)


def _place(plane: Plane, through: slice, wide: int, high: int, top: int, width: int, slices: int) -> list[Tile]:
    count = int(np.clip((width + _GAP) // (wide + _GAP), 1, slices))
    count = min(count, through.stop - through.start)
    length = through.stop - 1 - through.start
    middle = np.array([through.start + length // 2])
    indices = np.rint(through.start + length * np.linspace(_ENDS, 1 - _ENDS, count)) if count > 1 else middle
    space = (width - count * wide) / count  # equal air on both sides of every tile
    return [
        Tile(plane, int(index), top, max(0, round(space / 2 + k * (wide + space))), high, wide)
        for k, index in enumerate(indices)
    ]


def _lies_at(tile: Tile, shape: Sequence[int], affine: np.ndarray, axes: Sequence[int], flips: Sequence[bool]) -> float:
    """Where a slice lies along the patient's axis through its plane, in mm."""
    voxel = (np.asarray(shape, float) - 1) / 2
    axis = axes[tile.plane.through]
    voxel[axis] = shape[axis] - 1 - tile.index if flips[tile.plane.through] else tile.index
    return float((np.asarray(affine, float)[:3, :3] @ voxel + np.asarray(affine, float)[:3, 3])[tile.plane.through])


def _shifted(picture: np.ndarray, step: int, axis: int) -> np.ndarray:
    moved = np.zeros_like(picture)
    source, target = [slice(None)] * 2, [slice(None)] * 2
    source[axis], target[axis] = (slice(None, -1), slice(1, None)) if step > 0 else (slice(1, None), slice(None, -1))
    moved[tuple(target)] = picture[tuple(source)]
    return moved
