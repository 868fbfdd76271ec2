"""Two folders of results held against each other: which files differ, by how much, and what may be the reason."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qsmprep.analysis.differences import Difference, compare
from qsmprep.bids.grid import grid_difference
from qsmprep.bids.images import open_image
from qsmprep.bids.reading import read_json_object, read_text_file
from qsmprep.interfaces.images import read_grid

IMAGE = ".nii.gz"
ENDINGS = (IMAGE, ".json", ".tsv", ".txt")
# Keys of documents that tell of time, place and versions: two runs that made the same differ in them.
NOT_COMPARED = frozenset(
    {"seconds", "started", "command", "software", "ProcessingSoftware", "GeneratedBy", "Digest", "crashes"}
)


@dataclass(frozen=True)
class Found:
    """A file that differs.

    Attributes
    ----------
    path : relative to the folders of results.
    what : the difference in words; for an image, empty where it is one of values.
    difference, unit : of the values of an image.
    place_mm : where the largest difference lies in the scanner, for an image.
    """

    path: Path
    what: str = ""
    difference: Difference | None = None
    unit: str = ""
    place_mm: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Comparison:
    """What two folders of results have in common and what not.

    Attributes
    ----------
    compared : files in both.
    found : those of them that differ, images by falling relative difference before other files.
    only_first, only_second : files in one alone.
    settings : (name, value in the first, value in the second) of what differs in the runs' settings and versions.
    """

    compared: int
    found: tuple[Found, ...]
    only_first: tuple[Path, ...]
    only_second: tuple[Path, ...]
    settings: tuple[tuple[str, str, str], ...]

    @property
    def same(self) -> bool:
        """Whether every file is in both and the same."""
        return not (self.found or self.only_first or self.only_second)


def compare_results(first: Path, second: Path, *, tolerance: float = 0.0) -> Comparison:
    """Compare the maps, tables and documents of two folders of results; figures, reports and logs are left out.

    Parameters
    ----------
    tolerance : largest difference that passes, relative to the largest value of a map, or to a number of a table or
        document; 0: none.

    Raises
    ------
    ValueError : no folder of results, or a file that cannot be read; the message names it.
    """
    ours, theirs = files_of(first), files_of(second)
    both = sorted(ours & theirs)
    found = [one for path in both if (one := _compared(first, second, path, tolerance)) is not None]
    found.sort(key=lambda one: -one.difference.relative if one.difference else 0.0)
    alone = (tuple(sorted(ours - theirs)), tuple(sorted(theirs - ours)))
    return Comparison(len(both), tuple(found), *alone, tuple(_settings_apart(first, second)))


def files_of(folder: Path) -> set[Path]:
    """The maps, tables and documents in a folder of results, relative to it. Raises ValueError where there are none."""
    found = {
        path.relative_to(folder)
        for subject in folder.glob("sub-*/")
        for path in subject.rglob("*")
        if path.is_file() and path.name.endswith(ENDINGS) and "figures" not in path.relative_to(folder).parts
    }
    if not found:
        raise ValueError(f"{folder}: no results in it. Give two output folders of qsmprep.")
    return found


def read_values(path: Path) -> np.ndarray:
    """The values of an image of results as they are stored."""
    return np.asarray(open_image(path).dataobj)


def _compared(first: Path, second: Path, path: Path, tolerance: float) -> Found | None:
    if path.name.endswith(IMAGE):
        return _compared_images(first / path, second / path, path, tolerance)
    read: Callable[[Path], Any] = read_json_object if path.suffix == ".json" else _cells
    apart = list(_apart(read(first / path), read(second / path), tolerance))
    if not apart:
        return None
    more = f", and {len(apart) - 3} more" if len(apart) > 3 else ""
    return Found(path, ", ".join(apart[:3]) + more)


def _compared_images(ours: Path, theirs: Path, path: Path, tolerance: float) -> Found | None:
    grid = read_grid(ours)
    if apart := grid_difference(grid, read_grid(theirs)):
        return Found(path, f"another grid: {apart}")
    difference = compare(read_values(ours), read_values(theirs))
    if not difference.voxels or difference.relative <= tolerance:
        return None
    x, y, z = (float(length) for length in (grid.affine @ [*difference.place, 1])[:3])
    return Found(path, difference=difference, unit=unit_of(ours), place_mm=(x, y, z))


def unit_of(image: Path) -> str:
    """The unit that the sidecar of an image tells; empty where none does."""
    try:
        return str(read_json_object(image.with_name(image.name.removesuffix(IMAGE) + ".json")).get("Units", ""))
    except ValueError:
        return ""


def _apart(first: Any, second: Any, tolerance: float, name: str = "") -> Iterator[str]:
    """Names of the values in which two documents differ, with the values where they are short."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for key in dict.fromkeys((*first, *second)):
            if key not in NOT_COMPARED:
                yield from _apart(first.get(key), second.get(key), tolerance, f"{name}.{key}" if name else key)
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for number, (one, other) in enumerate(zip(first, second, strict=True)):
            yield from _apart(one, other, tolerance, f"{name}[{_called(one, number)}]")
    elif not _alike(first, second, tolerance):
        yield f"{name}: {_short(first)} / {_short(second)}"


def _alike(first: Any, second: Any, tolerance: float) -> bool:
    if isinstance(first, float | int) and isinstance(second, float | int):
        return math.isclose(first, second, rel_tol=tolerance) or first == second
    return bool(first == second)


def _called(value: Any, number: int) -> str:
    """How an element of a list is called: by its key or stage, else by its number."""
    named = [value[key] for key in ("key", "code", "stage", "name") if key in value] if isinstance(value, dict) else []
    return str(named[0] if named else number)


def _cells(path: Path) -> list[list[str | float]]:
    """The cells of a table, those that are numbers as such."""
    return [[_number(cell) for cell in re.split(r"[\t ]", line)] for line in read_text_file(path).splitlines()]


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else "none" if value is None else str(value)
    return text if len(text) <= 30 else text[:27] + "..."


def _settings_apart(first: Path, second: Path) -> Iterator[tuple[str, str, str]]:
    """What differs in settings, versions and machine of the last runs of two folders."""
    ours, theirs = (dict(_flat(_last_settings(folder))) for folder in (first, second))
    for name in dict.fromkeys((*ours, *theirs)):
        if ours.get(name) != theirs.get(name):
            yield name, _short(ours.get(name)), _short(theirs.get(name))


def _last_settings(folder: Path) -> dict[str, Any]:
    """The settings file of the last run; empty where there is none that can be read."""
    files = sorted((folder / "logs").glob("*/qsmprep.toml"))
    try:
        return tomllib.loads(read_text_file(files[-1])) if files else {}
    except ValueError:
        return {}


def _flat(document: Mapping[str, Any], above: Sequence[str] = ()) -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, Mapping):
            yield from _flat(value, (*above, key))
        else:
            yield ".".join((*above, key)), value
