"""The DICOM series whose slices a map is laid on: classic files, one a slice, or enhanced multi-frame files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from qsmprep.bids.grid import Grid
from qsmprep.numerics.arrays import DoubleArray

CLASSIC = ("1.2.840.10008.5.1.4.1.1.4",)  # MR Image Storage
ENHANCED = ("1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4")  # Enhanced MR, Legacy Converted Enhanced MR
SAME_PLACE = 0.05  # of the distance of slices: by how much images of one slice may lie apart
SAME_TURN = 1e-3  # by how much a direction cosine may differ within a series
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM's patient axes point left, back, up; those of NIfTI right, front, up


@dataclass(frozen=True)
class SourceImage:
    """An image of the reference: its instance, and which frame of it, counted from 1; 0 for a classic file."""

    class_uid: str
    instance_uid: str
    frame: int = 0


@dataclass(frozen=True)
class Slice:
    """One place of the series.

    Attributes
    ----------
    position : of the centre of the first voxel, in DICOM's patient axes, mm.
    images : those that lie there: echoes, magnitude and phase.
    """

    position: tuple[float, float, float]
    images: tuple[SourceImage, ...]


@dataclass(frozen=True)
class Reference:
    """A series and its grid.

    Attributes
    ----------
    first : the attributes of its first file, without pixels.
    frames : attributes of acquisition that stand in the functional groups of an enhanced file, by keyword.
    orientation : direction cosines of a row and of a column, as Image Orientation (Patient).
    spacing_mm : between rows, between columns.
    slices : along the normal of the slices.
    shape : columns, rows, slices.
    echo_times : the different ones of its images, in ms.
    """

    first: Dataset
    frames: Dataset
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, float]
    slices: tuple[Slice, ...]
    shape: tuple[int, int, int]
    echo_times: tuple[float, ...]

    @property
    def grid(self) -> Grid:
        """Voxel (column, row, slice) to world in mm, in the axes of NIfTI."""
        row, column = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        places = np.array([one.position for one in self.slices])
        affine = np.eye(4)
        affine[:3, 0], affine[:3, 1] = row * self.spacing_mm[1], column * self.spacing_mm[0]
        affine[:3, 2] = (places[-1] - places[0]) / (len(places) - 1)
        affine[:3, 3] = places[0]
        return Grid(self.shape, _TO_RAS @ affine)

    def value(self, keyword: str) -> object:
        """An attribute of the series, wherever it stands; None where it is missing or empty."""
        for source in (self.first, self.frames):
            if source.get(keyword) not in (None, "", []):
                return source.get(keyword)
        return None


@dataclass(frozen=True)
class _Image:
    """An image as it was read: where it lies, and its attributes."""

    path: Path
    source: SourceImage
    place: DoubleArray
    orientation: DoubleArray
    spacing: DoubleArray
    size: tuple[int, int]
    echo_time: float | None


def read_reference(path: Path, *, series: str = "") -> Reference:
    """Read the series a map shall be laid on.

    Parameters
    ----------
    path : a folder, looked through with its subfolders, or one enhanced file. What is no MR image is passed over.
    series : number or UID of the series, where there are several.

    Raises
    ------
    ValueError : no MR image there, several series, or images that are no stack of parallel slices; with the remedy.
    OSError : a file or folder that cannot be read.
    """
    datasets = _one_series(dict(_datasets(path)), path, series)
    if any("FrameOfReferenceUID" not in dataset for dataset in datasets.values()):
        raise ValueError(f"{path}: the series has no Frame of Reference UID, so nothing says where it lies.")
    images: list[_Image] = []
    for file, dataset in datasets.items():
        try:
            images += _images(file, dataset)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"{file}: its position, orientation or voxel size cannot be read ({error}).") from None
    slices = _stack(images, path)
    first = min(datasets.values(), key=lambda dataset: int(dataset.get("InstanceNumber") or 0))
    columns, rows = images[0].size
    return Reference(
        first=first,
        frames=_flat(first) if _is_enhanced(first) else Dataset(),
        orientation=tuple(float(number) for number in images[0].orientation),
        spacing_mm=(float(images[0].spacing[0]), float(images[0].spacing[1])),
        slices=slices,
        shape=(columns, rows, len(slices)),
        echo_times=tuple(sorted({image.echo_time for image in images if image.echo_time is not None})),
    )


def _datasets(path: Path) -> Iterator[tuple[Path, Dataset]]:
    """Every MR image of a file or folder, without its pixels."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file or folder. Give the DICOM series of the scan.")
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if not file.is_file():
            continue
        try:
            dataset = pydicom.dcmread(file, stop_before_pixels=True)
        except InvalidDicomError:
            continue
        except (ValueError, TypeError, AttributeError, EOFError, NotImplementedError, KeyError) as error:
            raise ValueError(f"{file}: this DICOM file cannot be read ({error}). Copy it anew.") from None
        if dataset.get("SOPClassUID") in (*CLASSIC, *ENHANCED):
            yield file, dataset


def _one_series(datasets: Mapping[Path, Dataset], path: Path, series: str) -> dict[Path, Dataset]:
    """The files of the series asked for, or of the only one."""
    found: dict[str, dict[Path, Dataset]] = defaultdict(dict)
    for file, dataset in datasets.items():
        found[str(dataset.get("SeriesInstanceUID"))][file] = dataset
    if not found:
        raise ValueError(f"{path}: no MR image in DICOM is there. Give the folder of the series, or its enhanced file.")

    def told(uid: str) -> str:
        one = next(iter(found[uid].values()))
        return f"{one.get('SeriesNumber')} ({one.get('SeriesDescription') or uid})"

    chosen = [
        uid for uid, files in found.items()
        if not series or series in (uid, str(next(iter(files.values())).get("SeriesNumber")))
    ]  # fmt: skip
    if len(chosen) != 1:
        what = f"no series {series!r}" if series and not chosen else "several series"
        raise ValueError(f"{path}: {what}: there are {', '.join(map(told, found))}. Choose one by --series.")
    return found[chosen[0]]


def _is_enhanced(dataset: Dataset) -> bool:
    return dataset.get("SOPClassUID") in ENHANCED


def _images(path: Path, dataset: Dataset) -> list[_Image]:
    """The images of one file."""
    size = (int(dataset.Columns), int(dataset.Rows))
    uids = str(dataset.SOPClassUID), str(dataset.SOPInstanceUID)
    if not _is_enhanced(dataset):
        return [_image(path, SourceImage(*uids), (dataset, dataset, dataset), size, dataset.get("EchoTime"))]
    shared = dataset.SharedFunctionalGroupsSequence[0]
    images = []
    for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence, start=1):
        groups = tuple(
            (frame.get(name) or shared.get(name))[0]
            for name in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
        )
        echo = frame.get("MREchoSequence") or shared.get("MREchoSequence")
        echo_time = echo[0].get("EffectiveEchoTime") if echo else None
        images.append(_image(path, SourceImage(*uids, number), groups, size, echo_time))
    return images


def _image(
    path: Path, source: SourceImage, groups: Sequence[Dataset], size: tuple[int, int], echo_time: object
) -> _Image:
    place, turn, measures = groups
    position, cosines = np.array(place.ImagePositionPatient, float), np.array(turn.ImageOrientationPatient, float)
    spacing = np.array(measures.PixelSpacing, float)
    numbers = np.concatenate([position, cosines, spacing])
    if (len(position), len(cosines), len(spacing)) != (3, 6, 2) or not np.isfinite(numbers).all():
        raise ValueError("not 3, 6 and 2 numbers")
    return _Image(
        path, source, position, cosines, spacing, size, None if echo_time in (None, "") else float(str(echo_time))
    )


def _stack(images: Sequence[_Image], path: Path) -> tuple[Slice, ...]:
    """The slices along their normal.

    Raises
    ------
    ValueError : images of several orientations, sizes or voxels, a single slice, or a missing one.
    """
    first = images[0]
    for image in images:
        alike = np.allclose(image.orientation, first.orientation, atol=SAME_TURN, rtol=0)
        if not alike or image.size != first.size or not np.allclose(image.spacing, first.spacing, rtol=1e-3):
            raise ValueError(f"{image.path} lies otherwise than {first.path}: a reference is one stack of slices.")
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    along = np.array([image.place @ normal for image in images])
    order = np.argsort(along, kind="stable")
    heights = along[order]
    steps = np.diff(heights)
    step = steps.max(initial=0)
    if step <= 1e-3:
        raise ValueError(f"{path}: a single slice. Give the folder of the whole series, not one of its files.")
    groups = np.split(order, np.flatnonzero(steps > SAME_PLACE * step) + 1)
    places = np.array([images[group[0]].place for group in groups])
    gaps = np.diff(places, axis=0)
    if np.ptp(gaps, axis=0).max() > SAME_PLACE * step:
        apart = np.linalg.norm(gaps, axis=1)
        told = f"they lie {apart.min():.4g} to {apart.max():.4g} mm apart"
        raise ValueError(f"{path}: the slices are no even stack ({told}). Is the series complete?")
    return tuple(
        Slice(
            (float(place[0]), float(place[1]), float(place[2])), tuple(images[index].source for index in sorted(group))
        )
        for place, group in zip(places, groups, strict=True)
    )


def _flat(dataset: Dataset) -> Dataset:
    """What the functional groups of the first frame, and those shared by all, tell, without its sequences."""
    flat = Dataset()
    for groups in (dataset.PerFrameFunctionalGroupsSequence[0], dataset.SharedFunctionalGroupsSequence[0]):
        for group in groups:
            if group.VR == "SQ" and not group.tag.is_private and group.value:
                for element in group.value[0]:
                    if element.VR != "SQ" and not element.tag.is_private:
                        flat[element.tag] = element
    return flat
