"""The group level as files: one page and two tables over all runs of a study."""

from __future__ import annotations

from pathlib import Path

from qsmprep.bids.group import Study
from qsmprep.bids.outputs import write_json, write_text
from qsmprep.report.group.page import render_group
from qsmprep.report.group.summary import Group, summarise
from qsmprep.report.group.tables import as_tsv, quality_table, region_table

PAGE, QUALITY_TABLE, REGION_TABLE = "group.html", "group_qc.tsv", "group_roi.tsv"


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
