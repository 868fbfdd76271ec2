"""The quality numbers of a run as the report shows them: the verdict, what speaks against the map, and every number."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qsmprep.findings import LOOK
from qsmprep.quality.assessment import VERDICTS

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class ShownFlag:
    """One number beyond its limit: its name in the file, what that means and what to do."""

    metric: str
    title: str
    message: str
    remedy: str


@dataclass(frozen=True)
class QualityLine:
    """One number: title, value and unit, what it is, its limits in words, and whether it lies within them.

    `within` is None where there is no limit or no value.
    """

    name: str
    title: str
    value: str
    unit: str
    description: str
    limits: str
    within: bool | None


@dataclass(frozen=True)
class ShownQuality:
    """What was measured of a run; `verdict` is "not measured" where nothing was."""

    verdict: str = NOT_MEASURED
    flags: tuple[ShownFlag, ...] = ()
    lines: tuple[QualityLine, ...] = ()


def read_quality(path: Path) -> ShownQuality:
    """The quality numbers of a file; of one that cannot be read the flags say so, for a report must come."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ShownQuality()
    except (OSError, ValueError, RecursionError) as error:
        return _unreadable(path, str(error))
    if not isinstance(document, Mapping):
        return _unreadable(path, "it holds no JSON object")
    metrics, definitions = (_mapping(document.get(name)) for name in ("metrics", "definitions"))
    lines = tuple(_line(str(name), value, _mapping(definitions.get(name))) for name, value in metrics.items())
    titles = {line.name: line.title for line in lines}
    found = document.get("flags")
    flags = tuple(
        ShownFlag(
            _text(flag, "metric"),
            titles.get(_text(flag, "metric"), _text(flag, "metric")),
            _text(flag, "message"),
            _remedy(flag),
        )
        for flag in (found if isinstance(found, list) else ())
        if isinstance(flag, Mapping)
    )
    verdict = document.get("verdict")
    return ShownQuality(verdict if verdict in VERDICTS else NOT_MEASURED, flags, lines)


def _unreadable(path: Path, why: str) -> ShownQuality:
    message = f"The quality numbers in {Path(path).name} cannot be read ({why})."
    return ShownQuality(flags=(ShownFlag("", "Quality numbers", message, "Run qsmprep again for this participant."),))


def _line(name: str, value: Any, definition: Mapping[str, Any]) -> QualityLine:
    number, low, high = _number(value), _number(definition.get("low")), _number(definition.get("high"))
    within = None
    if number is not None and (low is not None or high is not None):
        within = (low is None or number >= low) and (high is None or number <= high)
    parts = [f"at least {low:.4g}" if low is not None else "", f"at most {high:.4g}" if high is not None else ""]
    return QualityLine(
        name,
        _text(definition, "title") or name.replace("_", " ").capitalize(),
        "n/a" if number is None else f"{number:.4g}",
        "" if definition.get("unit") == "1" else _text(definition, "unit"),
        _text(definition, "description"),
        ", ".join(filter(None, parts)) or "none",
        within,
    )


def _remedy(flag: Mapping[str, Any]) -> str:
    return _text(flag, "remedy") or LOOK


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    return "" if value is None else str(value)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
