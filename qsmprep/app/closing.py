"""The last words of a command: the verdict of each run with its reasons, and where the report is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qsmprep.findings import fact_values
from qsmprep.presets import SLOPPY
from qsmprep.quality.table import DEFINITIONS

MOST_RUNS = 20  # told one by one; of more, those that are not usable
MOST_REASONS = 3


def closing_lines(records: Sequence[Mapping[str, Any]], output_dir: Path) -> Iterator[str]:
    """A line a run, in the order of their names.

    Parameters
    ----------
    records : the runs' records.
    output_dir : of the reports.
    """
    lines = [(verdict(record), record) for record in sorted(records, key=lambda record: str(record["run"]))]
    shown = lines if len(lines) <= MOST_RUNS else [line for line in lines if line[0] not in ("usable", "done")]
    for word, record in shown[:MOST_RUNS]:
        why = reasons(record)
        told = (
            f" ({', '.join(why[:MOST_REASONS])}{f' and {len(why) - MOST_REASONS} more' if why[MOST_REASONS:] else ''})"
        )
        page = output_dir / _page(record)
        report = f"Report: {page}" if page.is_file() else f"No report: {page.name} could not be written."
        yield f"{record['run']}: {word}{told if why else ''}. {report}"
    if len(lines) > MOST_RUNS:
        counted = Counter(word for word, _ in lines)
        yield "Of all runs: " + ", ".join(f"{count} {word}" for word, count in counted.most_common()) + "."


def verdict(record: Mapping[str, Any]) -> str:
    """ "failed", what the quality numbers say, or "done" where nothing was judged."""
    if record["status"] != "ok":
        return "failed"
    facts = fact_values(next((step["facts"] for step in record["steps"] if step.get("stage") == "quality"), None))
    return str(facts.get("verdict") or "done")


def reasons(record: Mapping[str, Any]) -> list[str]:
    """Why, in a few words each: the steps that failed, or the quality numbers beyond their limits."""
    if record["status"] != "ok":
        return list(dict.fromkeys(error["step"] or "its input" for error in record["errors"]))
    flagged = [warning for step in record["steps"] if step.get("stage") == "quality" for warning in step["warnings"]]
    titles = {name.replace("_", "-"): definition.title for name, definition in DEFINITIONS.items()}
    sloppy = ["a sloppy run"] if any(warning["code"] == SLOPPY for warning in record["warnings"]) else []
    return sloppy + [titles.get(warning["code"], warning["code"]).lower() for warning in flagged]


def _page(record: Mapping[str, Any]) -> str:
    return f"sub-{record['subject']}.html"
