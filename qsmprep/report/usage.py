"""What a run cost, where --resource-monitor kept it: a table of its steps and two plots over time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from qsmprep.report.curve import Plot, line_plot
from qsmprep.report.record import Curve

_COLUMNS = ("start_s", "seconds", "peak_gib", "expected_gib")


def usage_view(resources: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the template shows of a record's `resources`; None where nothing was kept, or nothing that can be read."""
    steps, samples = _list(resources.get("steps")), _list(resources.get("samples"))
    rows = [
        (str(step["step"]), *(step[name] for name in _COLUMNS))
        for step in steps
        if isinstance(step, Mapping) and "step" in step and all(_is_number(step.get(name)) for name in _COLUMNS)
    ]
    points = [tuple(row) for row in samples if isinstance(row, list) and len(row) == 3 and all(map(_is_number, row))]
    if not rows and not points:
        return None
    plots = [_plot(points, 2, "memory [GiB]"), _plot(points, 1, "cores in use")]
    return {"rows": rows, "plots": [plot for plot in plots if plot is not None]}


def _plot(points: list[tuple[Any, ...]], column: int, name: str) -> Plot | None:
    if len({row[0] for row in points}) < 2:
        return None
    curve = Curve(name, tuple(row[0] for row in points), tuple(row[column] for row in points))
    return line_plot(curve, "second", logarithmic=False)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
