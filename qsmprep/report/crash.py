"""What a failed step left: its message and the text of its crash file, kept in the run's record."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qsmprep.report.record import Crash

_LONGEST = 20_000  # characters of a crash text that are kept: the tail tells most
_HEAD = 2_000
# How the nodes that draw a run's pictures are named: those of its figures' graph, and those of joined orientations.
FIGURES_GRAPH, DRAWING = "figures_wf", "draw_"


def crash_documents(failures: Iterable[Any], run: str) -> list[dict[str, str]]:
    """For the record of a run: step, message, crash text and picture of each failure that belongs to it.

    Parameters
    ----------
    failures : with `node`, `run`, `step`, `message` and `crash_file`.
    run : name of the run.
    """
    return [
        {
            "step": failure.step,
            "message": failure.message,
            "text": _text_of(Path(failure.crash_file)),
            "picture": picture_of(failure.node),
        }
        for failure in failures
        if failure.run == run
    ]


def picture_of(node: str) -> str:
    """Name of the picture that a node of this full name draws; empty for a node that draws none.

    >>> picture_of("qsmprep.sub_01.figures_wf.chi")
    'chi'
    """
    *graphs, name = node.split(".")
    if graphs and graphs[-1] == FIGURES_GRAPH:
        return name
    return name.removeprefix(DRAWING) if name.startswith(DRAWING) else ""


def crashes_in_logs(output_dir: Path, run: str) -> tuple[Crash, ...]:
    """Crashes of a run from the newest log folder that has some, for a record that does not hold them."""
    node = f"Node: qsmprep.{re.sub('-', '_', run)}."
    for logs in sorted(Path(output_dir, "logs").glob("*/"), reverse=True):
        found = []
        for path in sorted(logs.glob("crash-*.txt")):
            text = _text_of(path)
            if node in text:
                name = text.partition(node)[2].partition("\n")[0].strip()
                found.append(Crash(_step_of(name), _last_line(text), text, picture_of(node + name)))
        if found:
            return tuple(found)
    return ()


def _text_of(path: Path) -> str:
    """The file's text, its middle left out where it is long; empty where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_HEAD]}\n[... {len(text) - _LONGEST} characters left out ...]\n{text[_HEAD - _LONGEST :]}"


def _step_of(name: str) -> str:
    """The name of a node within its run, in words."""
    return name.replace("_wf", "").replace(".", " ").replace("_", " ")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
