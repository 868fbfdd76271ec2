"""A label image made elsewhere: its voxels, its table of names, and the region of it that a label names."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.wrapstruct import WrapStruct
from numpy.typing import NDArray

from qsmprep.bids.grid import Grid, grid_of
from qsmprep.bids.images import MOST_VOXELS, open_image
from qsmprep.bids.names import file_entities, is_number, listed
from qsmprep.bids.problem import Problem
from qsmprep.bids.reading import read_text_file
from qsmprep.numerics.arrays import DoubleArray

LARGEST_LABEL = 2**24  # up to here the float32 images that pass between nodes hold every whole number


@dataclass(frozen=True)
class Region:
    """One label of a segmentation.

    Attributes
    ----------
    path : the label image.
    index : the label's number in it.
    name : what it is called; the number as text where no table names it.
    """

    path: Path
    index: int
    name: str


def find_region(path: Path, label: str) -> Region:
    """The region that a label (number, or name in the `_dseg.tsv` beside the image) means.

    Raises
    ------
    ValueError : a name without a table, or one that is not in it.
    """
    names = label_names(path)
    if is_number(label):
        return Region(path, int(label), names.get(int(label), label))
    matching = [index for index, name in names.items() if name.casefold() == label.casefold()]
    if len(matching) == 1:
        return Region(path, matching[0], names[matching[0]])
    if not names:
        raise ValueError(f"{path}: no table of labels ({table_path(path).name}) beside it; give the label's number.")
    known = ", ".join(sorted(names.values())[:20])
    raise ValueError(f"{table_path(path)}: {len(matching)} labels are called {label!r}; there are {known}.")


def label_names(path: Path) -> dict[int, str]:
    """Index to name from the table beside a label image; empty where there is none.

    Raises ValueError when the table lacks the columns index and name, or names one index twice.
    """
    table = table_path(path)
    return read_table(table) if table.is_file() else {}


def read_table(table: Path) -> dict[int, str]:
    """Index to name of a table of labels. Raises ValueError that names the file and what is wrong with it."""
    text = read_text_file(table)
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter="\t"))
        pairs = [(_whole(row["index"]), row["name"].strip()) for row in rows]
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError, csv.Error):
        raise ValueError(f"{table}: a table of labels needs the columns index (a whole number) and name.") from None
    twice = [index for index, count in Counter(index for index, _ in dict.fromkeys(pairs)).items() if count > 1]
    if twice:
        names = " and ".join(name for index, name in pairs if index == twice[0])
        raise ValueError(f"{table}: the index {twice[0]} stands for {names}; keep one line an index.")
    return dict(pairs)


def _whole(text: str) -> int:
    number = float(text)
    if number != int(number):
        raise ValueError(text)
    return int(number)


def inherited_table(path: Path, root: Path) -> Path | None:
    """The table of labels of an image by BIDS' inheritance: beside it, or above it up to `root`; None if there is none.

    One above has the image's suffix and no entity that contradicts (`desc-aseg_dseg.tsv` of fMRIPrep).
    """
    if table_path(path).is_file():
        return table_path(path)
    suffix, own = path.name.partition(".")[0].split("_")[-1], file_entities(path)
    for folder in path.parents:
        fitting = [
            table
            for table in sorted(folder.glob(f"*{suffix}.tsv"))
            if table.stem.split("_")[-1] == suffix and file_entities(table).items() <= own.items()
        ]
        if fitting:
            return max(fitting, key=lambda table: len(file_entities(table)))
        if folder == root:
            break
    return None


@dataclass(frozen=True)
class LabelImage:
    """A label image as a file holds it.

    Attributes
    ----------
    labels : (n0, n1, n2) int32; 0 is background.
    affine : (4, 4) voxel to world.
    oriented : whether the header says how the image lies in the scanner.
    grid : the grid with its transforms.
    """

    labels: NDArray[np.int32]
    affine: DoubleArray
    oriented: bool
    grid: Grid

    @property
    def present(self) -> tuple[int, ...]:
        """Every label that some voxel has, background left aside."""
        return tuple(int(index) for index in np.unique(self.labels) if index)


def read_labels(path: Path) -> LabelImage:
    """Read a label image (NIfTI or MGZ).

    Raises
    ------
    ValueError : it cannot be read, is not three-dimensional, holds what is no label, or is empty; names the file and
        what to do.
    """
    try:
        image = open_image(path)
        if math.prod(image.shape) > MOST_VOXELS:
            raise ValueError(f"more than {MOST_VOXELS} voxels")
        values = np.asanyarray(image.dataobj)
    except Exception as error:  # nibabel raises many kinds for files that are not what their name says
        short = " ".join(str(error).split())[:120] or type(error).__name__
        raise ValueError(f"{path}: not a readable label image ({short}). Copy it anew.") from None
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        shape = " x ".join(map(str, values.shape))
        raise ValueError(f"{path}: {shape} voxels, but a label image has three dimensions. Give one volume of labels "
                         "(not one of probabilities for each tissue).")  # fmt: skip
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{path}: {values.dtype} voxels are no labels. Give an image of whole numbers.")
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), 0, values)  # NaN is outside, as in masks
        strange = values[~np.isfinite(values) | (values != np.rint(values))]
        if strange.size:
            raise ValueError(f"{path}: {strange.flat[0]:g} is no label. Was it resampled with interpolation? Give the "
                             "original, or resample it with nearest neighbour.")  # fmt: skip
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if low < 0 or high > LARGEST_LABEL:
        raise ValueError(f"{path}: labels from {low} to {high}; allowed are 0 to {LARGEST_LABEL}. Is it a label image?")
    if not high:
        raise ValueError(f"{path}: no voxel has a label. Give an image of labels.")
    grid = grid_of(image)
    return LabelImage(values.astype(np.int32), grid.affine, is_oriented(image.header), grid)


def is_oriented(header: object) -> bool:
    """Whether a header says how the image lies in the scanner: NIfTI by qform or sform code, MGZ by its flag."""
    if not isinstance(header, WrapStruct):
        return False
    keys = header.keys()
    if "qform_code" in keys:
        return int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0
    return int(header["goodRASFlag"]) > 0 if "goodRASFlag" in keys else False


def unnamed(present: tuple[int, ...], names: dict[int, str]) -> str:
    """Labels that a table does not name, for a message; empty where it names all."""
    return listed([index for index in present if index not in names], most=10)


def table_path(path: Path) -> Path:
    """The `.tsv` beside an image."""
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".tsv")


def check_region(region: Region) -> tuple[Problem, ...]:
    """Problems of a region whose image is readable and on the right grid: its label must occur."""
    values = np.asanyarray(open_image(region.path).dataobj)
    if np.any(values == region.index):
        return ()
    present = ", ".join(f"{value:g}" for value in np.unique(values[np.isfinite(values)])[:20])
    found = f"no voxel has the label {region.index} ({region.name})"
    return (
        Problem("error", "region-absent", region.path, found, f"one of {present}", "Choose another --reference-label."),
    )
