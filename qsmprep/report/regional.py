"""The regional values of a run as the report shows them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from qsmprep.report.numbers import quantity_words

MAPS = {"chi": "χ", "chi_para": "χ para", "chi_dia": "χ dia", "r2star": "R2*"}
NUMBERS = ("mean", "sd", "median", "p5", "p95")


@dataclass(frozen=True)
class RegionRow:
    """Values of one map in one region, as text: voxels used and of the region, then `NUMBERS`."""

    region: str
    voxels: str
    numbers: tuple[str, ...]


@dataclass(frozen=True)
class RegionTable:
    """All regions of one segmentation in one map."""

    segmentation: str
    map: str
    unit: str
    rows: tuple[RegionRow, ...]


def read_regions(path: Path) -> tuple[RegionTable, ...]:
    """The regional values of a file by segmentation and map; none where there is no such file or no line in it.

    Raises
    ------
    ValueError : the file cannot be read, or a line names no segmentation or map.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(_damaged(path, str(error))) from error
    found: dict[tuple[str, str, str], list[RegionRow]] = {}
    for number, line in enumerate(_lines(text), start=2):
        if not (line.get("segmentation") and line.get("map")):
            raise ValueError(_damaged(path, f"line {number} names no segmentation or map"))
        key = (line["segmentation"], line["map"], line.get("unit") or "")
        found.setdefault(key, []).append(_row(line))
    return tuple(
        RegionTable(segmentation, MAPS.get(name, name), unit, tuple(rows))
        for (segmentation, name, unit), rows in found.items()
    )


def _damaged(path: Path, why: str) -> str:
    return f"The regional values in {Path(path).name} cannot be read ({why})."


def _lines(text: str) -> Iterable[Mapping[str, str]]:
    return csv.DictReader(StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE, restval="")


def _row(line: Mapping[str, str]) -> RegionRow:
    used, region = line.get("n", ""), line.get("n_region", "")
    name = line.get("name") or f"label {line.get('index', '')}"
    return RegionRow(
        name,
        f"{used} of {region}" if region else used,
        tuple(_short(line.get(n, ""), line.get("unit") or "") for n in NUMBERS),
    )


def _short(text: str, unit: str) -> str:
    """A number as people write it; whatever else stands there as it is."""
    try:
        return quantity_words(float(text), unit)
    except ValueError:
        return text or "n/a"
