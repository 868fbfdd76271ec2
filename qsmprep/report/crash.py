"""What a failed step left: its message and the text of its crash file, kept in the run's record."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qsmprep.report.record import Crash

_LONGEST = 20_000  # characters of a crash text that are kept: the tail tells most
_HEAD = 2_000


def crash_documents(failures: Iterable[Any], run: str) -> list[dict[str, str]]:
    """For the record of a run: step, message and crash text of each failure that belongs to it.

    Parameters
    ----------
    failures : with `run`, `step`, `message` and `crash_file`.
    run : name of the run.
    """
    return [
        {"step": failure.step, "message": failure.message, "text": _text_of(Path(failure.crash_file))}
        for failure in failures
        if failure.run == run
    ]


def crashes_in_logs(output_dir: Path, run: str) -> tuple[Crash, ...]:
    """Crashes of a run from the newest log folder that has some, for a record that does not hold them."""
    node = f"Node: qsmprep.{re.sub('-', '_', run)}."
    for logs in sorted(Path(output_dir, "logs").glob("*/"), reverse=True):
        found = []
        for path in sorted(logs.glob("crash-*.txt")):
            text = _text_of(path)
            if node in text:
                found.append(Crash(_step_of(text, node), _last_line(text), text))
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


def _step_of(text: str, node: str) -> str:
    name = text.partition(node)[2].partition("\n")[0].strip()
    return name.replace("_wf", "").replace(".", " ").replace("_", " ")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
