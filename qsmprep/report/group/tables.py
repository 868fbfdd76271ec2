"""The tables of the group level, group_qc.tsv and group_roi.tsv, each with the JSON that describes its columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from qsmprep.bids.cells import cell
from qsmprep.bids.group import REGION_NUMBERS, REGION_TEXTS
from qsmprep.report.group.quality import Metric, outliers_of
from qsmprep.report.group.runs import GroupRun

Table = tuple[list[str], list[list[str]], dict[str, Any]]

_ABOUT_RUNS: Mapping[str, str] = {
    "run": "Name of the run, as its files begin.",
    "participant_id": "Label of the participant.",
    "session": "Label of the session.",
    "site": "Site of participants.tsv, or the scanner.",
    "scanner": "Vendor, model and field strength, and which device as far as the acquisition tells.",
}
_VERDICTS = {
    "usable": "No number is beyond an absolute limit.",
    "check": "A number is beyond a limit: look at the report before using the maps.",
    "do not use": "A number is beyond a limit that makes the maps useless.",
    "failed": "The run did not come to its end.",
    "not judged": "There are no quality numbers of the run.",
}
_ABOUT_REGIONS = {
    "segmentation": "Segmentation that the region belongs to.",
    "index": "Number of the region in its segmentation.",
    "name": "Name of the region.",
    "map": "Map that the numbers are of.",
    "unit": "Unit of mean, sd, median and percentiles.",
    "n": "Voxels used: of the region, inside the mask where susceptibility is valid.",
    "n_region": "Voxels of the region.",
    "excluded_share": "Share of the region's voxels that were not used.",
    "mean": "Mean over the voxels used.",
    "sd": "Standard deviation over the voxels used.",
    "median": "Median over the voxels used.",
    **{f"p{q}": f"{q}th percentile over the voxels used." for q in (5, 25, 75, 95)},
}


def quality_table(runs: Sequence[GroupRun], metrics: Sequence[Metric]) -> Table:
    """Columns, lines and description of group_qc.tsv: a line for each run.

    A number that would have the name of another column gets "metric_" before it.
    """
    first = [*_ABOUT_RUNS, "age", "sex", "verdict", "flags", "outliers"]
    names = [f"metric_{m.name}" if m.name in first else m.name for m in metrics]
    columns = [*first, *names, *(f"{name}_z" for name in names)]
    lines = []
    for run in runs:
        far = outliers_of(run.number, metrics)
        lines.append(
            [
                *_run_cells(run),
                _number(run.age),
                run.sex,
                run.verdict,
                ", ".join(dict.fromkeys(flag.metric for flag in run.flags if flag.metric)),
                ", ".join(metric.name for metric in far),
                *(_number(metric.values[run.number]) for metric in metrics),
                *(_number(metric.z[run.number]) for metric in metrics),
            ]
        )
    described: dict[str, Any] = {
        **{name: {"Description": text} for name, text in _ABOUT_RUNS.items()},
        "age": {"Description": "Age in participants.tsv.", "Units": "year"},
        "sex": {"Description": "Sex in participants.tsv."},
        "verdict": {"Description": "Judgement of the run from its absolute limits.", "Levels": _VERDICTS},
        "flags": {"Description": "Numbers beyond an absolute limit, separated by commas."},
        "outliers": {
            "Description": "Numbers whose robust z is over 3.5 in size, against all runs or against those of the "
            "scanner where there are 20 or more, separated by commas, farthest first."
        },
    }
    for metric, name in zip(metrics, names, strict=True):
        limits = {"Minimum": metric.low, "Maximum": metric.high}
        described[name] = {
            "LongName": metric.title,
            "Description": metric.description or metric.title,
            **({"Units": metric.unit} if metric.unit else {}),
            **{f"Limit{key}": value for key, value in limits.items() if math.isfinite(value)},
        }
    for metric, name in zip(metrics, names, strict=True):
        described[f"{name}_z"] = {
            "Description": f"Robust z of {metric.title} over all runs: (value - median) / (1.4826 median absolute "
            "deviation)."
        }
    return columns, lines, described


def region_table(runs: Sequence[GroupRun]) -> Table:
    """Columns, lines and description of group_roi.tsv: a line for each run, region and map."""
    columns = [*_ABOUT_RUNS, "age", "sex", "verdict", "counted", *REGION_TEXTS, *REGION_NUMBERS]
    lines = []
    for run in runs:
        cells = [*_run_cells(run), _number(run.age), run.sex, run.verdict, "yes" if run.counts else "no"]
        for line in run.results.regions:
            texts = [line.texts.get(name, "") for name in REGION_TEXTS]
            lines.append(cells + texts + [_number(line.numbers[name]) for name in REGION_NUMBERS])
    described: dict[str, Any] = {
        **{name: {"Description": text} for name, text in _ABOUT_RUNS.items()},
        "age": {"Description": "Age in participants.tsv.", "Units": "year"},
        "sex": {"Description": "Sex in participants.tsv."},
        "verdict": {"Description": "Judgement of the run from its absolute limits.", "Levels": _VERDICTS},
        "counted": {
            "Description": "Whether the line enters means, slopes and agreement of group.html.",
            "Levels": {"yes": "It does.", "no": 'It does not: the verdict is "do not use" or "failed".'},
        },
        **{name: {"Description": text} for name, text in _ABOUT_REGIONS.items()},
    }
    return columns, lines, described


def as_tsv(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table as BIDS writes it: tabs between cells, n/a for what is missing."""
    return "".join("\t".join(cell(text) for text in line) + "\n" for line in (columns, *lines))


def _run_cells(run: GroupRun) -> list[str]:
    return [run.name, f"sub-{run.subject}", run.session, run.site, run.scanner]


def _number(value: float) -> str:
    return f"{value:.8g}" if math.isfinite(value) else "n/a"
