"""Quality numbers over the time and by scanner or site: axis of time, medians of each group, what the plots draw."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from qsmprep.analysis.group_comparison import difference_of, drift_of
from qsmprep.report.group.plots import figure
from qsmprep.report.group.quality import Metric, main_metrics
from qsmprep.report.group.runs import GroupRun, letters

DAY_S = 86400.0
UNKNOWN = (
    "No time of acquisition is known: neither scans.tsv, sessions.tsv nor the sidecars tell a date that can be used."
)
HIDDEN = "Dates before 1926 are shifted for privacy, by another shift for each subject, and are not used"
INSTEAD = "So the plots run over the time of processing, which tells of changes of software, not of a scanner."
MOST_TOLD = 4  # numbers named of a scanner in the sentence; the table has all
_EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True)
class TimeAxis:
    """When the runs were: days since 1970, NaN where not known; whether of the acquisition; what it is in words."""

    days: np.ndarray
    acquired: bool
    words: str


@dataclass(frozen=True)
class MedianCell:
    """The median of a group: the number, how it differs from the other groups' runs and whether it drifts, in words."""

    text: str
    difference: str = ""
    drift: str = ""

    @property
    def differs(self) -> str:
        """ "higher" or "lower" than the others; empty where it is neither."""
        return self.difference.partition(",")[0]

    @property
    def drifts(self) -> str:
        """ "rising" or "falling" over the time; empty where it is neither."""
        return self.drift.partition(" ")[0]


@dataclass(frozen=True)
class MedianLine:
    """The medians of the runs of one scanner or site; `letter` is the scanner's short name, empty for a site."""

    letter: str
    name: str
    runs: int
    cells: tuple[tuple[Metric, MedianCell], ...]


def time_axis(runs: Sequence[GroupRun]) -> TimeAxis:
    """The time of acquisition; where no run tells it, the time of processing. Both never stand on one axis."""
    known = Counter(run.acquired.source for run in runs if run.acquired.time)
    shifted = sum(run.acquired.shifted and not run.acquired.time for run in runs)
    hidden = f" {HIDDEN} ({shifted} {_runs(shifted)})." if shifted else ""
    if known:
        told = ", ".join(f"{source}: {count} {_runs(count)}" for source, count in known.items())
        left = len(runs) - known.total()
        rest = f" {left} {_runs(left)} without a date {'is' if left == 1 else 'are'} not drawn." if left else ""
        words = f"Over the time of acquisition ({told}).{rest}{hidden}"
        return TimeAxis(_days([run.acquired.time for run in runs]), True, words)
    days = _days([run.record.started if run.record is not None else "" for run in runs])
    use = INSTEAD if np.isfinite(days).any() else "No time of processing was recorded either."
    return TimeAxis(days, False, f"{UNKNOWN}{hidden} {use}")


def median_lines(
    metrics: Sequence[Metric], groups: Sequence[str], axis: TimeAxis, *, lettered: bool
) -> list[MedianLine]:
    """The median of every number over the runs of each group.

    Parameters
    ----------
    groups : the scanner or site of each run.
    axis : drifts are told over the time of acquisition only.
    lettered : whether the groups are scanners, which have short names.
    """
    names = list(dict.fromkeys(groups))
    member = np.array([names.index(group) for group in groups])
    lines = []
    for i, (letter, name) in enumerate(zip(letters(len(names)), names, strict=True)):
        own = member == i
        cells = tuple((metric, _cell(metric.values, own, axis)) for metric in metrics)
        lines.append(MedianLine(letter if lettered else "", name, int(own.sum()), cells))
    return lines


def differing(medians: Sequence[tuple[str, Sequence[MedianLine]]]) -> str:
    """In a sentence or two which scanner or site differs from the others, or drifts, and in which numbers."""
    found = []
    for kind, lines in medians:
        for line in lines:
            told = [
                f"{metric.title} {' and '.join(filter(None, (cell.differs, cell.drifts)))}"
                for metric, cell in line.cells
                if cell.differs or cell.drifts
            ]
            more = f" and {len(told) - MOST_TOLD} more" if len(told) > MOST_TOLD else ""
            if told:
                found.append(f"{kind} {line.letter or line.name}: {', '.join(told[:MOST_TOLD])}{more}.")
    several = any(len(lines) > 1 for _, lines in medians)
    none = "No scanner or site stands out: all medians lie near those of the other runs." if several else ""
    return " ".join(found) or none


def drawn(
    runs: Sequence[GroupRun], metrics: Sequence[Metric], axis: TimeAxis, by_site: bool, figures: Sequence[Any]
) -> dict[str, Any]:
    """What the page's script draws and tells of the runs when they are pointed at; all texts are shown as text."""
    scanners, sites = (list(dict.fromkeys(names)) for names in ([r.scanner for r in runs], [r.site for r in runs]))
    short = letters(len(scanners))
    main = [metric.name for metric in main_metrics(metrics)]
    return {
        "runs": [run.name for run in runs],
        "pages": [run.report for run in runs],
        "verdicts": [run.verdict for run in runs],
        "days": _numbers(axis.days, 8),
        "groups": {
            "scanner": [f"{letter} · {name}" for letter, name in zip(short, scanners, strict=True)],
            "site": sites if by_site else [],
        },
        "scanner": [scanners.index(run.scanner) for run in runs],
        "site": [sites.index(run.site) for run in runs],
        "metrics": [
            {
                "title": metric.title,
                "unit": metric.shown_unit,
                "main": main.index(metric.name) if metric.name in main else None,
                "limits": _numbers(np.array([metric.low, metric.high]), 6),
                "values": _numbers(metric.values, 4),
                "far": [run.number for run in runs if metric.stands_out(run.number)],
                "flagged": [run.number for run in runs if any(flag.metric == metric.name for flag in run.flags)],
            }
            for metric in metrics
        ],
        "strips": {shown.name: {"unit": shown.unit, "values": _numbers(shown.values, 4)} for shown in figures},
    }


def _cell(values: np.ndarray, own: np.ndarray, axis: TimeAxis) -> MedianCell:
    there = values[own & np.isfinite(values)]
    if not there.size:
        return MedianCell("")
    by = difference_of(values[own], values[~own])
    size = f"by {abs(by):.1f} robust s.d." if math.isfinite(by) else "where all runs of a group are equal"
    difference = f"{'higher' if by > 0 else 'lower'}, {size}" if by else ""
    rho = drift_of(axis.days[own], values[own]) if axis.acquired else 0.0
    drift = (
        f"{'rising' if rho > 0 else 'falling'} over the time, rank correlation {figure(round(rho, 2))}" if rho else ""
    )
    return MedianCell(figure(float(np.median(there))), difference, drift)


def _days(times: Sequence[str]) -> np.ndarray:
    found = np.full(len(times), np.nan)
    for i, text in enumerate(times):
        try:
            time = datetime.fromisoformat(text).replace(tzinfo=None)
        except ValueError:
            continue
        found[i] = (time - _EPOCH).total_seconds() / DAY_S
    return found


def _numbers(values: np.ndarray, digits: int) -> list[float | None]:
    """Values to so many digits, as JSON has them: none for what is not finite, whole ones without a point."""
    rounded = (float(f"{value:.{digits}g}") if math.isfinite(value) else None for value in map(float, values))
    return [
        int(value) if value is not None and value == int(value) and abs(value) < 1e9 else value for value in rounded
    ]


def _runs(count: int) -> str:
    return "run" if count == 1 else "runs"
