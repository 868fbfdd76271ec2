"""What `qsmprep` does between the command line and the exit status."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tomli_w

from qsmprep import __version__
from qsmprep.app.execution import Outcome, execute, unfinished, write_records
from qsmprep.app.orientations import plan_orientations, planned_orientations, write_orientation_records
from qsmprep.app.planning import choose_device, plan_run, planned_record, settings_here
from qsmprep.app.regions import check_atlases
from qsmprep.app.request import Request
from qsmprep.app.validation import start_validation, validation_findings
from qsmprep.bids.checks import check_mask, check_output_dir, check_run
from qsmprep.bids.outputs import BIDSIGNORE, dataset_description, figures_folder, write_json, write_text
from qsmprep.bids.problem import Problem, warnings
from qsmprep.bids.provenance import software_versions
from qsmprep.bids.query import find_runs
from qsmprep.bids.scans import GreRun
from qsmprep.bids.segmentation import check_region
from qsmprep.engine.pool import warm_up
from qsmprep.engine.resources import available_cores
from qsmprep.findings import Warning, document
from qsmprep.report.citation import write_citation_files
from qsmprep.report.page import write_subject_report
from qsmprep.report.subject import subjects_of
from qsmprep.settings import Settings, to_document
from qsmprep.workflows.orientation import OrientationPlan
from qsmprep.workflows.plan import RunPlan

SUCCESS, FAILURE, USAGE = 0, 1, 2
# Slow to import, and needed by every figure.
DRAWING = ("matplotlib.figure", "matplotlib.backends.backend_agg", "PIL.PngImagePlugin")
logger = logging.getLogger("qsmprep")


@dataclass
class Work:
    """What is to be done and what stands against it."""

    plans: list[RunPlan] = field(default_factory=list)
    orientations: list[OrientationPlan] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    refused: dict[str, tuple[GreRun, list[Problem]]] = field(default_factory=dict)
    warnings: dict[str, list[Warning]] = field(default_factory=dict)


def run(request: Request, settings: Settings) -> int:
    """Do what was asked and return the exit status."""
    _start_logging(request.verbosity)
    print(f"qsmprep {__version__}: {request.bids_dir} -> {request.output_dir}", flush=True)
    try:
        _check_folders(request)
        if request.reports_only:
            return _reports_only(request)
        warm_up(DRAWING)
        threads = settings.steps["execution"].omp_nthreads or min(_cores(settings), 8)
        device, reason = choose_device(settings.steps["execution"].device)
        logger.info("Solvers run on %s (%s), %d threads a step.", device, reason, threads)
        work = _find_work(request, settings, threads=threads, device=device)
        if settings.steps["orientation"].chosen() and not _joins_something(work, settings):
            work.plans = []
    except ValueError as error:
        return _refuse(str(error))
    _tell(work)
    if not work.plans and not work.refused:
        return _refuse("nothing to do.") if not work.errors else USAGE
    if request.dry_run:
        _print_plans(work)
        return FAILURE if work.errors else SUCCESS
    try:
        return _process(request, settings, work)
    except OSError as error:
        return _refuse(f"{error.filename or request.output_dir}: {error.strerror or error}. Free space or permissions?")


def _process(request: Request, settings: Settings, work: Work) -> int:
    started = datetime.now(UTC)
    logs = request.output_dir / "logs" / f"{started:%Y%m%d-%H%M%S}_{uuid.uuid4().hex[:12]}"
    _begin_dataset(request, settings_here(settings), logs)
    if request.boilerplate_only:
        records: list[dict[str, Any]] = [
            {"run": plan.prefix, "steps": planned_record(plan), "software": plan.software} for plan in work.plans
        ]
        records += [
            {"run": plan.title, "steps": planned_orientations(plan), "software": plan.runs[0].software}
            for plan in work.orientations
        ]
        write_citation_files(request.output_dir / "logs", records)
        print(f"Methods text: {request.output_dir / 'logs' / 'CITATION.md'}")
        return FAILURE if work.errors else SUCCESS
    outcome, stopped = Outcome(), None
    if work.plans:
        try:
            outcome = execute(work.plans, work.orientations, request=request, settings=settings, logs=logs)
        except (Exception, KeyboardInterrupt) as error:  # the reports tell how far it came
            outcome, stopped = unfinished(work.plans, work.orientations, error, request.work_dir), error
    records = write_records(work.plans, outcome, request=request, started=started, warnings=work.warnings)
    records += write_orientation_records(work.orientations, outcome, request=request, started=started)
    records += _write_refusals(request, work, started)
    write_citation_files(request.output_dir / "logs", [record for record in records if record["steps"]])
    failed = [record["run"] for record in records if record["status"] != "ok"]
    _write_reports(request, sorted({record["subject"] for record in records}))
    if stopped is not None:
        raise stopped
    seconds = (datetime.now(UTC) - started).total_seconds()
    print(f"{len(records) - len(failed)} of {len(records)} runs succeeded in {seconds:.0f} s. Logs: {logs}")
    for failure in outcome.failures:
        print(f"Error: {failure}", file=sys.stderr)
    return FAILURE if failed or work.errors else SUCCESS


def _find_work(request: Request, settings: Settings, *, threads: int, device: str) -> Work:
    """Runs that can be processed, and every problem of those that cannot."""
    filters = _read_filters(request.filter_file)
    validator = None if request.skip_validation else start_validation(request.bids_dir)
    query = find_runs(
        request.bids_dir,
        participant_labels=request.participant_labels or None,
        session_labels=request.session_labels or None,
        filters=filters,
    )
    work = Work(
        errors=[str(problem) for problem in query.problems if problem.severity == "error"],
        warnings={"dataset": warnings(query.problems)},
    )
    options = settings.steps["input"]
    for run in query.runs:
        problems = list(check_run(run, field_strength_t=options.field_strength, b0_direction=options.b0_vector()))
        work.warnings[run.name] = warnings(problems)
        errors = [problem for problem in problems if problem.severity == "error"]
        if not errors:
            try:
                plan = plan_run(run, request, settings, threads=threads, device=device, spin_echoes=query.spin_echoes)
                work.warnings[run.name] += plan.anatomy.warnings
                errors = _given_image_problems(plan, run) or _collision(plan, work.plans)
            except ValueError as error:
                errors = [Problem("error", "run-not-planned", None, str(error))]
        if errors:
            work.refused[run.name] = (run, errors)
            work.errors += [str(problem) for problem in errors]
        else:
            work.plans.append(plan)
    if validator is not None:
        work.warnings["dataset"] += validation_findings(validator)
    return work


def _joins_something(work: Work, settings: Settings) -> bool:
    """Plan what joins several orientations; whether there is a session that has enough of them."""
    work.orientations, errors = plan_orientations(work.plans, settings)
    work.errors += errors
    return bool(work.orientations)


def _given_image_problems(plan: RunPlan, run: GreRun) -> list[Problem]:
    problems = [] if plan.brain_mask is None else list(check_mask(plan.brain_mask.path, run))
    if region := plan.reference_region:
        problems += check_mask(region.path, run, what="segmentation") or check_region(region)
    return problems


def _collision(plan: RunPlan, others: Sequence[RunPlan]) -> list[Problem]:
    """Two inputs must never write one name."""
    rivals = [other.run.name for other in others if other.prefix == plan.prefix]
    remedy = "Tell them apart by acq- or run-, or select one with --bids-filter-file."
    if not rivals:
        return []
    found = f"its outputs would bear the names of those of {rivals[0]}"
    return [Problem("error", "output-name-collision", plan.run.name, found, "", remedy)]


def _check_folders(request: Request) -> None:
    if not request.bids_dir.is_dir():
        raise ValueError(f"{request.bids_dir}: no such folder. Give the folder of the BIDS dataset.")
    for problem in check_output_dir(request.bids_dir, request.output_dir):
        raise ValueError(str(problem))
    for flag, path in (("--mask-file", request.mask_file), ("--segmentation-file", request.segmentation_file)):
        if path is not None and not path.is_file():
            raise ValueError(f"{flag} {path}: no such file.")
    check_atlases(request)
    if request.work_dir == request.bids_dir or request.bids_dir in request.work_dir.parents:
        raise ValueError(f"--work-dir {request.work_dir} lies inside the dataset. Choose a folder outside of it.")


def _begin_dataset(request: Request, settings: Settings, logs: Path) -> None:
    output = request.output_dir
    container = os.environ.get("QSMPREP_CONTAINER")
    description = dataset_description(__version__, raw=request.bids_dir, container=container)
    write_json(output / "dataset_description.json", description)
    write_text(output / ".bidsignore", "\n".join(BIDSIGNORE) + "\n")
    document = {**to_document(settings), "software": software_versions()}
    write_text(logs / "qsmprep.toml", f"# {request.command}\n" + tomli_w.dumps(document))
    if request.clean_workdir and request.work_dir.is_dir():
        shutil.rmtree(request.work_dir / "qsmprep", ignore_errors=True)
    request.work_dir.mkdir(parents=True, exist_ok=True)


def _write_refusals(request: Request, work: Work, started: datetime) -> list[dict[str, Any]]:
    """Records of the runs that were refused before the graph, so that their report says why."""
    records = []
    for name, (run, problems) in work.refused.items():
        record: dict[str, Any] = {
            "run": name,
            "subject": run.subject,
            "status": "failed",
            "errors": [{"step": "", "message": str(problem)} for problem in problems],
            "warnings": [document(warning) for warning in work.warnings.get(name, [])],
            "software": software_versions(),
            "command": request.command,
            "started": started.isoformat(timespec="seconds"),
            "seconds": 0.0,
            "inputs": [],
            "acquisition": {},
            "steps": [],
        }
        write_json(request.output_dir / figures_folder(name) / f"{name}_record.json", record)
        records.append(record)
    return records


def _write_reports(request: Request, subjects: Iterable[str]) -> None:
    for subject in subjects:
        print(f"Report: {write_subject_report(request.output_dir, subject)}")


def _reports_only(request: Request) -> int:
    wanted = {label.removeprefix("sub-") for label in request.participant_labels}
    subjects = subjects_of(request.output_dir)
    chosen = [subject for subject in subjects if not wanted or subject in wanted]
    if not chosen or wanted - set(subjects):
        missing = ", ".join(sorted(wanted - set(subjects))) or "any subject"
        raise ValueError(f"{request.output_dir}: no results of {missing}. Run qsmprep without --reports-only first.")
    _write_reports(request, chosen)
    return SUCCESS


def _read_filters(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        filters: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"--bids-filter-file {path}: not a readable JSON file ({error}).") from None
    return filters


def _cores(settings: Settings) -> int:
    return settings.steps["execution"].nprocs or available_cores()


def _tell(work: Work) -> None:
    for told in work.warnings.values():
        for warning in told:
            print(f"Warning: {warning}", file=sys.stderr)
    for error in work.errors:
        print(f"Error: {error}", file=sys.stderr)


def _print_plans(work: Work) -> None:
    for plan in work.plans:
        print(f"{plan.prefix}: {len(plan.echo_times_s)} echoes, {'x'.join(map(str, plan.shape))} voxels")
        _print_steps(planned_record(plan))
    for orientations in work.orientations:
        print(f"{orientations.title}:")
        _print_steps(planned_orientations(orientations))


def _print_steps(records: list[dict[str, Any]]) -> None:
    for record in records:
        print(f"  {record['stage']}: {record['title']}")
        for note in record["notes"]:
            print(f"    {note['text']}")


def _refuse(message: str) -> int:
    print(f"qsmprep: {message}", file=sys.stderr)
    return USAGE


def _start_logging(verbosity: int) -> None:
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbosity, 2)]
    logging.basicConfig(level=level, format="%(levelname)s: %(message)s", stream=sys.stderr, force=True)
    # A failed node is told once, in words; its traceback is in the crash file, or shown with -v.
    for name in ("nipype", "nipype.workflow", "nipype.interface", "nipype.utils"):
        logging.getLogger(name).setLevel((logging.CRITICAL, logging.WARNING, logging.DEBUG)[min(verbosity, 2)])
