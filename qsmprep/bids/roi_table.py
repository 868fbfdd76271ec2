"""The table of regional values as BIDS writes tables: lines, and a description of each column."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qsmprep.analysis.regions import RegionalValue
from qsmprep.bids.cells import cell
from qsmprep.bids.outputs import subject_folder

COLUMNS: Mapping[str, str] = {
    "segmentation": "Segmentation or atlas that the region belongs to; `reference` for those that are always measured.",
    "index": "Number of the region in its segmentation.",
    "name": "Name of the region.",
    "map": "Map whose values are summarised.",
    "unit": "Unit of mean, sd, median and percentiles.",
    "n": "Voxels used: in the region and in consensus mask 4, where the map is valid and finite.",
    "n_region": "Voxels of the region on the grid of the maps, after erosion; of whole_brain: consensus mask 1.",
    "excluded_share": "Share of the region's voxels that were not used: 1 - n / n_region.",
    "mean": "Mean over the voxels used.",
    "sd": "Standard deviation over the voxels used (dividing by n).",
    "median": "Median over the voxels used.",
    "p5": "5th percentile over the voxels used, interpolated linearly.",
    "p25": "25th percentile over the voxels used, interpolated linearly.",
    "p75": "75th percentile over the voxels used, interpolated linearly.",
    "p95": "95th percentile over the voxels used, interpolated linearly.",
    "placement_error": "Of regions that the package's template was registered for: root mean square of the changes of "
                       "the mean when the region is moved by 1 mm in six directions, grown and shrunk by that.",
}  # fmt: skip
MAPS: Mapping[str, tuple[str, str]] = {  # unit, and what it is
    "chi": ("ppm", "Magnetic susceptibility of the run's main inversion, referenced as its sidecar says."),
    "chi_para": ("ppm", "Paramagnetic part of the magnetic susceptibility, >= 0."),
    "chi_dia": ("ppm", "Size (>= 0) of the diamagnetic part of the magnetic susceptibility."),
    "r2star": ("1/s", "Effective transverse relaxation rate."),
}


def roi_path(prefix: str, extension: str) -> Path:
    """Path of the table (".tsv") or its description (".json"), relative to the output folder."""
    return subject_folder(prefix) / "anat" / f"{prefix}_desc-roi_stats{extension}"


def dseg_path(prefix: str, label: str, extension: str) -> Path:
    """Path of a segmentation as it was resampled to the maps, or of its table, relative to the output folder."""
    desc = re.sub("[^0-9A-Za-z]", "", label)
    return subject_folder(prefix) / "anat" / f"{prefix}_desc-{desc}_dseg{extension}"


def table_text(values: Iterable[tuple[str, RegionalValue]]) -> str:
    """The table of (segmentation, value): a line for each, `n/a` for what is not known."""
    lines = ["\t".join(COLUMNS)]
    for segmentation, region in values:
        cells = [segmentation, *(getattr(region, column) for column in COLUMNS if column != "segmentation")]
        lines.append("\t".join(cell(value) for value in cells))
    return "\n".join(lines) + "\n"


def columns_document(origins: Mapping[str, str], references: Mapping[str, str], maps: Sequence[str]) -> dict[str, Any]:
    """Description of each column, for the JSON beside the table.

    Parameters
    ----------
    origins : segmentation -> which file it is and how it came onto the grid.
    references : name of a reference region -> where it comes from.
    maps : those that were measured.
    """
    document: dict[str, Any] = {name: {"Description": text} for name, text in COLUMNS.items()}
    document["segmentation"]["Levels"] = dict(origins)
    document["name"]["Levels"] = dict(references)
    document["map"]["Levels"] = {name: MAPS[name][1] for name in maps}
    return document


def dseg_table(names: Mapping[int, str]) -> str:
    """The table of labels beside a segmentation."""
    return "index\tname\n" + "".join(f"{index}\t{cell(name)}\n" for index, name in sorted(names.items()))
