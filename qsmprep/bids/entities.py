"""--bids-filter-file: images chosen by pybids' names of entities, as its table of patterns defines them.

The table is read from the installed pybids, and pybids itself is not imported: its index matches whole paths (so that a
folder above the dataset counts), its import reads settings from the current folder and needs a home.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from qsmprep.bids.names import is_number

FILTER_NAMES = ("megre", "t2starw", "mpm", "bold", "sbref", "mese", "t1w")
_ABSENT, _ANY, _EITHER = "without the entity", "with the entity", "with or without the entity"
# Words of a filter that stand for no single label.
_WORDS = {"*": _ANY, "Query.ANY": _ANY, "Query.REQUIRED": _ANY, "Query.NONE": _ABSENT, "Query.OPTIONAL": _EITHER}
_FOLLOWS = {
    kind: "megre" for kind in ("t2starw", "mpm", "bold", "sbref")
}  # a kind without a filter of its own takes that of another


@dataclass(frozen=True)
class Entity:
    """One row of pybids' table: the pattern that finds the label in a path, and whether labels are whole numbers."""

    pattern: re.Pattern[str]
    numbered: bool

    def of(self, path: str) -> str | None:
        """The label in a path relative to the dataset's root that begins with a slash; None if there is none."""
        found = self.pattern.search(path)
        return None if found is None else found[1]


@cache
def entities() -> Mapping[str, Entity]:
    """pybids' entities of raw data by their names."""
    package = find_spec("bids")
    if package is None or not package.submodule_search_locations:
        raise ValueError("pybids is not installed; install qsmprep with its dependencies.")
    table = Path(package.submodule_search_locations[0], "layout", "config", "bids.json")
    rows = json.loads(table.read_text("utf-8"))["entities"]
    return {
        row["name"]: Entity(
            re.compile(row["pattern"], re.ASCII), r"(\d+)" in row["pattern"] or "([0-9]+)" in row["pattern"]
        )
        for row in rows
    }


@dataclass(frozen=True)
class Filter:
    """What one kind of image must be: entity -> what is allowed, each a label or one of the words above."""

    wanted: Mapping[str, tuple[str, ...]]

    def admits(self, path: str) -> bool:
        """Whether an image is wanted, by its path relative to the dataset's root with a slash in front."""
        return all(self._fits(name, entities()[name].of(path), allowed) for name, allowed in self.wanted.items())

    @staticmethod
    def _fits(name: str, label: str | None, allowed: tuple[str, ...]) -> bool:
        if label is None:
            return _ABSENT in allowed or _EITHER in allowed
        if _ANY in allowed or _EITHER in allowed or label in allowed:
            return True
        numbered = entities()[name].numbered
        return numbered and any(is_number(one) and int(one) == int(label) for one in allowed)


def read_filter(filters: Any, kind: str) -> Filter:
    """The filter of one kind of image, one of `FILTER_NAMES`.

    Parameters
    ----------
    filters : content of the file: {"megre": {"acquisition": "x", "run": [1, 2], "reconstruction": null}}. A label is a
        text or a whole number; null and "Query.NONE" ask for none, "*" and "Query.ANY" for any.
    kind : one of them; `t2starw`, `mpm`, `bold` and `sbref` follow `megre` if not given.

    Raises
    ------
    ValueError : something that is not understood, named by its key.
    """
    filters = {} if filters is None else filters
    if not isinstance(filters, Mapping) or not all(isinstance(value, Mapping) for value in filters.values()):
        raise ValueError('The BIDS filter must look like {"megre": {"acquisition": "x"}}.')
    if unknown := sorted(set(map(str, filters)) - set(FILTER_NAMES)):
        raise ValueError(f"BIDS filter {unknown[0]!r} is not known; use {', '.join(FILTER_NAMES)}.")
    chosen = filters.get(kind, filters.get(_FOLLOWS.get(kind, ""), {}))
    if strange := sorted(set(map(str, chosen)) - set(entities())):
        known = ", ".join(sorted(entities()))
        raise ValueError(f"BIDS filter entity {strange[0]!r} is not known; use pybids' names: {known}.")
    wanted = {name: _allowed(f"{kind}: {name}", name, value) for name, value in chosen.items()}
    return Filter({name: allowed for name, allowed in wanted.items() if allowed})


def _allowed(key: str, name: str, value: Any) -> tuple[str, ...]:
    return tuple(_one(key, name, item) for item in (value if isinstance(value, list | tuple) else [value]))


def _one(key: str, name: str, value: Any) -> str:
    if value is None:
        return _ABSENT
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(
            f"BIDS filter {key} is {str(value)[:60]!r}; give a text, a whole number, null, or a list of these."
        )
    if value in _WORDS:
        return _WORDS[str(value)]
    label = str(value)
    if entities()[name].numbered and not is_number(label):
        raise ValueError(f"BIDS filter {key} is {label[:60]!r}; give a whole number.")
    return f".{label.lstrip('.')}" if name == "extension" else label
