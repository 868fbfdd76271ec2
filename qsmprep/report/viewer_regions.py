"""What the viewer tells of regions: their names, and the mean and spread of maps in them as the run measured them."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from qsmprep.bids.roi_table import dseg_path, roi_path

# Names of maps in the table of regional values -> keys of the table of outputs.
MEASURED = {"chi": "chi", "chi_para": "para", "chi_dia": "dia", "r2star": "r2star"}


def region_labels(root: Path, segmentation: Path) -> dict[str, str]:
    """Number -> name from the table beside a segmentation; empty where there is none that can be read."""
    table = segmentation.with_name(segmentation.name.removesuffix(".nii.gz") + ".tsv")
    try:
        heads, *lines = (line.split("\t") for line in text_within(root, table).splitlines() if line)
        number, name = heads.index("index"), heads.index("name")
        return {str(int(line[number])): line[name] for line in lines}
    except (OSError, ValueError, IndexError):
        return {}


def region_values(root: Path, prefix: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Mean and standard deviation of each region as the run's table of regional values has them.

    Returns
    -------
    File name of the segmentation -> number -> key of the map in the table of outputs -> {"mean", "sd", "voxels"}; mean
    and sd are None where no voxel of the region is valid. Empty where there is no table, or none that can be read: the
    report tells of one that cannot.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    try:
        lines = csv.DictReader(StringIO(text_within(root, root / roi_path(prefix, ".tsv"))), delimiter="\t",
                               quoting=csv.QUOTE_NONE)  # fmt: skip
        for line in lines:
            if line["map"] in MEASURED:
                regions = found.setdefault(dseg_path(prefix, line["segmentation"], ".nii.gz").name, {})
                values = {"mean": _number(line["mean"]), "sd": _number(line["sd"]), "voxels": int(line["n"])}
                regions.setdefault(str(int(line["index"])), {})[MEASURED[line["map"]]] = values
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found


def text_within(root: Path, path: Path) -> str:
    """Text of a file of the output folder; OSError for one that a link takes elsewhere."""
    if not path.resolve().is_relative_to(root.resolve()):
        raise PermissionError(f"{path} leaves {root}.")
    return path.read_text(encoding="utf-8")


def object_within(root: Path, path: Path) -> Mapping[str, Any]:
    """The JSON object in a file of the output folder; empty where there is none that can be read."""
    try:
        document = json.loads(text_within(root, path))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _number(text: str) -> float | None:
    value = float(text) if text != "n/a" else math.nan
    return value if math.isfinite(value) else None
