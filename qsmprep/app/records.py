"""What is written after the graph ran: a record for each run. None of them can cost another."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from qsmprep.app.execution import Outcome, errors_of
from qsmprep.app.lineage import input_checksums
from qsmprep.app.planning import planned_record
from qsmprep.app.request import Request
from qsmprep.bids.names import listed
from qsmprep.bids.outputs import figures_folder, write_json
from qsmprep.bids.problem import Problem
from qsmprep.bids.provenance import run_record, software_versions, step_records, with_figures
from qsmprep.bids.scans import GreRun
from qsmprep.files.storage import storage_message
from qsmprep.findings import Warning, document
from qsmprep.report.crash import crash_documents
from qsmprep.report.files import files_of
from qsmprep.report.window import told_windows
from qsmprep.workflows.plan import RunPlan
from qsmprep.workflows.report import figure_file, figures_of

Record = dict[str, Any]


def write_run_records(
    plans: Sequence[RunPlan],
    outcome: Outcome,
    *,
    request: Request,
    started: datetime,
    seconds: float,
    warnings: Mapping[str, Sequence[Warning]],
) -> list[Record]:
    """Write each run's record beside its figures, and return them.

    `started` is when the command did, by the clock of the output folder if that is behind; `seconds` is what it took.
    """

    def make(plan: RunPlan) -> Record:
        steps = step_records(outcome.folders.get(plan.prefix, []))
        windows = told_windows(steps)
        checksums, unread = input_checksums(plan)
        pictures = [
            (stage, figure_file(figure, plan.prefix), figure.caption(windows))
            for figure in figures_of(plan)
            for stage in figure.stages
        ]
        return run_record(
            prefix=plan.prefix,
            subject=plan.run.subject,
            software=software_versions(),
            command=request.command,
            started=started.isoformat(timespec="seconds"),
            seconds=seconds,
            errors=errors_of(outcome, plan.prefix),
            warnings=[*warnings.get(plan.run.name, ()), *unread],
            inputs=[str(path.relative_to(plan.bids_dir)) for path in plan.files],
            checksums=checksums,
            acquisition=plan.acquisition,
            tuned=plan.settings.tuned,
            steps=with_figures(steps, pictures),
            planned=planned_record(plan),
            crashes=crash_documents(outcome.failures, plan.prefix),
            resources=outcome.resources.get(plan.prefix, {}),
        )

    return [keep_record(partial(make, plan), request, plan.prefix, plan.run.subject, started) for plan in plans]


def write_refusals(
    refused: Mapping[str, tuple[GreRun, Sequence[Problem]]],
    *,
    request: Request,
    started: datetime,
    warnings: Mapping[str, Sequence[Warning]],
) -> list[Record]:
    """Records of the runs that were refused before the graph, so that their report says why."""
    records = []
    for name, (run, problems) in refused.items():
        errors = [{"step": "", "message": str(problem)} for problem in problems]
        make = partial(bare_record, request, name, run.subject, started, errors, warnings.get(name, ()))
        records.append(keep_record(make, request, name, run.subject, started))
    return records


def bare_record(
    request: Request,
    prefix: str,
    subject: str,
    started: datetime,
    errors: Iterable[Mapping[str, str]],
    warnings: Iterable[Warning] = (),
) -> Record:
    """The record of a run of which nothing but its failure is known."""
    return run_record(
        prefix=prefix,
        subject=subject,
        software=software_versions(),
        command=request.command,
        started=started.isoformat(timespec="seconds"),
        seconds=0.0,
        errors=errors,
        warnings=warnings,
        inputs=(),
        checksums={},
        acquisition={},
        tuned={},
        steps=(),
        planned=(),
        crashes=(),
        resources={},
    )


def keep_record(make: Callable[[], Record], request: Request, prefix: str, subject: str, started: datetime) -> Record:
    """Make and write the record of one run; what goes wrong with it is told, and fails this run alone."""
    try:
        record = make()
    except Exception as error:
        message = f"its record could not be made ({type(error).__name__}: {error}). Run the same command again."
        print(f"Error: {prefix}: {message}", file=sys.stderr)
        record = bare_record(request, prefix, subject, started, [{"step": "the record", "message": message}])
    record["warnings"] += [document(warning) for warning in _earlier_files(request.output_dir, record)]
    try:
        write_json(request.output_dir / figures_folder(prefix) / f"{prefix}_record.json", record)
    except (OSError, ValueError) as error:
        told = storage_message(error, request.output_dir) if isinstance(error, OSError) else str(error)
        print(f"Error: {prefix}: its record could not be written: {told}", file=sys.stderr)
        record = {**record, "status": "failed", "errors": [*record["errors"], {"step": "the record", "message": told}]}
    return record


def _earlier_files(output_dir: Path, record: Record) -> list[Warning]:
    """Files of an earlier command that lie in the place of this one's: it failed, or it made fewer."""
    earlier = [Path(file.path).name for file in files_of(output_dir, record["run"], record["started"]) if file.earlier]
    if not earlier:
        return []
    many = f"{len(earlier)} files of this run are" if earlier[1:] else "A file of this run is"
    text = f"{many} of an earlier command, not of this one: {listed(earlier, 4)}."
    if record["status"] != "ok":
        return [
            Warning("files-of-failed-run", text, "Mend what failed and run again before you use them, or delete them.")
        ]
    remedy = "Made with other options than the rest: do not use them together; delete what is not wanted."
    return [Warning("files-of-other-options", text, remedy)]
