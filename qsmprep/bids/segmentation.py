"""A segmentation made elsewhere, and the region of it that a label names."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from qsmprep.bids.problem import Problem


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
    if label.isdigit():
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

    Raises ValueError when the table lacks the columns index and name.
    """
    table = table_path(path)
    if not table.is_file():
        return {}
    with table.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    try:
        return {int(float(row["index"])): row["name"] for row in rows}
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{table}: a table of labels needs the columns index (a whole number) and name.") from None


def table_path(path: Path) -> Path:
    """The `.tsv` beside an image."""
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".tsv")


def check_region(region: Region) -> tuple[Problem, ...]:
    """Problems of a region whose image is readable and on the right grid: its label must occur."""
    values = np.asanyarray(nib.load(region.path).dataobj)
    if np.any(values == region.index):
        return ()
    present = ", ".join(f"{value:g}" for value in np.unique(values)[:20])
    found = f"no voxel has the label {region.index} ({region.name})"
    return (Problem("error", region.path, found, f"one of {present}", "Choose another --reference-label."),)
