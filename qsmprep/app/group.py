"""`qsmprep BIDS_DIR OUTPUT_DIR group`: the page and the tables over all runs of a study."""

from __future__ import annotations

import sys
from pathlib import Path

from qsmprep.app.request import Request
from qsmprep.bids.group import read_study
from qsmprep.bids.outputs import BIDSIGNORE, write_text
from qsmprep.report.citation import describe_results
from qsmprep.report.group.files import PAGE, write_group_report

SUCCESS, FAILURE, USAGE = 0, 1, 2


def run(request: Request) -> int:
    """Read what the runs left, write page and tables, and return the exit status: 0 when the page was written."""
    output = request.output_dir
    try:
        if not request.bids_dir.is_dir():
            raise ValueError(f"{request.bids_dir}: no such folder. Give the folder of the BIDS dataset.")
        study = read_study(
            output,
            request.bids_dir,
            participant_labels=request.participant_labels,
            session_labels=request.session_labels,
        )
        group = write_group_report(output, study)
        _list_in_bidsignore(output / ".bidsignore")
        describe_results(output, markdown_only=request.markdown_only)
    except ValueError as error:
        print(f"qsmprep: {error}", file=sys.stderr)
        return USAGE
    except OSError as error:
        print(f"qsmprep: {error.filename or output}: {error.strerror or error}. Space or permissions?", file=sys.stderr)
        return FAILURE
    for path, why in study.unreadable:
        print(f"Warning: {path} was left out: {why}", file=sys.stderr)
    if study.missing:
        labels = ", ".join(f"sub-{label}" for label in study.missing)
        print(f"Warning: {len(study.missing)} participants without results: {labels}", file=sys.stderr)
    subjects = len({one.subject for one in group.runs})
    outliers = sum(any(metric.stands_out(one.number) for metric in group.metrics) for one in group.runs)
    print(f"{len(group.runs)} runs of {subjects} subjects, {outliers} outliers. Group report: {output / PAGE}")
    return SUCCESS


def _list_in_bidsignore(path: Path) -> None:
    """Add to the list of files that are no BIDS what is missing there: an earlier version may have written it."""
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    missing = [line for line in BIDSIGNORE if line not in lines]
    if missing:
        write_text(path, "\n".join(lines + missing) + "\n")
