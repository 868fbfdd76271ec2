"""The group level: one page and two tables over all runs of a study, made from what the runs left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qsmprep.bids.group import Study
from qsmprep.bids.outputs import write_json, write_text
from qsmprep.report.group.differences import Difference, differences
from qsmprep.report.group.page import render_group
from qsmprep.report.group.quality import Metric, quality_metrics
from qsmprep.report.group.regions import Region, Repeats, regional_values, repeated_measurements
from qsmprep.report.group.runs import GroupRun, group_runs
from qsmprep.report.group.tables import as_tsv, quality_table, region_table

PAGE, QUALITY_TABLE, REGION_TABLE = "group.html", "group_qc.tsv", "group_roi.tsv"


@dataclass(frozen=True)
class Group:
    """What the study comes to; the page and the tables show nothing else.

    Attributes
    ----------
    study : what was read.
    runs, metrics, differences, regions, repeats : what was made of it.
    site_words : what a site is.
    """

    study: Study
    runs: list[GroupRun]
    site_words: str
    metrics: list[Metric]
    differences: list[Difference]
    regions: list[Region]
    repeats: Repeats


def summarise(study: Study) -> Group:
    """Everything that the page tells of a study."""
    runs, site_words = group_runs(study)
    repeats = repeated_measurements(runs)
    return Group(
        study, runs, site_words, quality_metrics(runs), differences(runs), regional_values(runs, repeats), repeats
    )


def write_group_report(output_dir: Path, study: Study) -> Group:
    """Write group.html, group_qc.tsv, group_roi.tsv and the tables' JSON into the output folder."""
    group = summarise(study)
    for name, (columns, lines, described) in (
        (QUALITY_TABLE, quality_table(group.runs, group.metrics)),
        (REGION_TABLE, region_table(group.runs)),
    ):
        write_text(output_dir / name, as_tsv(columns, lines))
        write_json((output_dir / name).with_suffix(".json"), described)
    write_text(output_dir / PAGE, render_group(group))
    return group
