"""What `qsmprep` does between the command line and the exit status."""

from __future__ import annotations

import logging
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from traceback import format_exception
from typing import Any

import tomli_w

from qsmprep import __version__
from qsmprep.app.closing import closing_lines
from qsmprep.app.devices import choose_device
from qsmprep.app.execution import Outcome, execute, unfinished
from qsmprep.app.filters import read_filters
from qsmprep.app.lineage import write_lineages
from qsmprep.app.orientations import plan_orientations, planned_orientations, write_orientation_records
from qsmprep.app.planning import plan_run, planned_record, settings_here
from qsmprep.app.plugin_file import read_plugin_file
from qsmprep.app.records import write_refusals, write_run_records
from qsmprep.app.regions import check_atlases
from qsmprep.app.request import Request
from qsmprep.app.spaces import plan_spaces
from qsmprep.app.validation import start_validation, validation_findings
from qsmprep.app.work_folder import check_work_dir, prepare_work_dir
from qsmprep.bids.checks import check_mask, check_output_dir, check_run
from qsmprep.bids.coils import with_last_axis
from qsmprep.bids.outputs import BIDSIGNORE, dataset_description, write_json, write_text
from qsmprep.bids.problem import Problem, errors, warnings
from qsmprep.bids.provenance import machine_facts, software_versions
from qsmprep.bids.query import find_runs
from qsmprep.bids.scans import GreRun
from qsmprep.bids.segmentation import check_region
from qsmprep.bids.volumes import with_volumes
from qsmprep.engine.forking import warm_up
from qsmprep.engine.locking import Busy, locked_runs
from qsmprep.engine.resources import available_cores
from qsmprep.engine.told import Terminal
from qsmprep.files.storage import storage_message
from qsmprep.files.whole_file import remove_leftovers
from qsmprep.findings import Warning
from qsmprep.report.citation import MOST_OTHERS, describe_results, is_left_to_group, write_citation_files
from qsmprep.report.page import write_subject_report
from qsmprep.report.subject import runs_with_results, subjects_of
from qsmprep.settings import Settings, to_document
from qsmprep.workflows.orientation import OrientationPlan
from qsmprep.workflows.plan import RunPlan

SUCCESS, FAILURE, USAGE = 0, 1, 2
# Slow to import, and needed by every figure.
DRAWING = ("matplotlib.figure", "matplotlib.backends.backend_agg", "PIL.PngImagePlugin")
# Problems of what was asked for rather than of the data.
MOST_NAMES = 5  # of runs in one line
MISUSE = ("label-malformed", "label-unknown", "dataset-empty", "dataset-is-dicom", "participant-without-images")
LOGS_LOOKED_AT = 50  # the newest folders of logs; of ten thousand jobs, each would else list ten thousand
logger = logging.getLogger("qsmprep")


@dataclass
class Work:
    """What is to be done and what stands against it."""

    plans: list[RunPlan] = field(default_factory=list)
    orientations: list[OrientationPlan] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    refused: dict[str, tuple[GreRun, list[Problem]]] = field(default_factory=dict)
    warnings: dict[str, list[Warning]] = field(default_factory=dict)
    misused: bool = True  # whether what stands against it is all about what was asked for


def run(request: Request, settings: Settings) -> int:
    """Do what was asked and return the exit status."""
    _start_logging(request.verbosity)
    print(f"qsmprep {__version__}: {request.bids_dir} -> {request.output_dir}", flush=True)
    try:
        _check_folders(request)
        if request.reports_only:
            return _reports_only(request)
        plan_spaces(settings)
        if not request.dry_run:
            warm_up(DRAWING)
        threads = settings.steps["execution"].omp_nthreads or min(_cores(settings), 8)
        device, reason = choose_device(settings.steps["execution"].device, settings.decided.get("device"))
        logger.info("Solvers run on %s (%s), a step has up to %d threads.", device, reason, threads)
        work = _find_work(request, settings, threads=threads, device=device)
        if settings.steps["orientation"].chosen() and not _joins_something(work, settings):
            work.plans = []
    except ValueError as error:
        return _refuse(str(error))
    _tell(work)
    if not work.plans and not work.refused:
        return _refuse("nothing to do.") if not work.errors else USAGE if work.misused else FAILURE
    if request.dry_run:
        _print_plans(work)
        return FAILURE if work.errors else SUCCESS
    graphs = [plan.name for plan in work.plans] + [plan.name for plan in work.orientations]
    try:
        with locked_runs(request.work_dir, [] if request.boilerplate_only else graphs):
            return _process(request, settings_here(settings, device), work, graphs)
    except Busy as error:
        return _refuse(str(error))
    except OSError as error:
        return _failed(storage_message(error, request.work_dir))


def _process(request: Request, settings: Settings, work: Work, graphs: Sequence[str]) -> int:
    """Write what was asked for. From here on nothing is a matter of usage: what goes wrong belongs to a run."""
    started, begun = datetime.now(UTC), time.monotonic()
    logs = request.output_dir / "logs" / f"{started:%Y%m%d-%H%M%S}_{uuid.uuid4().hex[:12]}"
    try:
        written = _begin_dataset(request, settings, logs, graphs)
        started = min(started, written)  # a file server's clock may be behind, and files are compared with the start
        if request.boilerplate_only:
            return _boilerplate_only(request, work, logs)
    except ValueError as error:
        return _refuse(str(error))
    except OSError as error:
        return _failed(storage_message(error, request.output_dir))
    outcome, stopped = Outcome(), None
    if work.plans:
        try:
            outcome = execute(work.plans, work.orientations, request=request, settings=settings, logs=logs)
        except (Exception, KeyboardInterrupt, SystemExit) as error:  # the reports tell how far it came
            reason = storage_message(error, request.work_dir) if isinstance(error, OSError) else ""
            outcome, stopped = unfinished(work.plans, work.orientations, error, request.work_dir, reason), error
    seconds = time.monotonic() - begun
    records = write_run_records(
        work.plans, outcome, request=request, started=started, seconds=seconds, warnings=work.warnings
    )
    records += write_orientation_records(work.orientations, outcome, request=request, started=started, seconds=seconds)
    done = list(records)
    records += write_refusals(work.refused, request=request, started=started, warnings=work.warnings)
    failed = [record["run"] for record in records if record["status"] != "ok"]
    told = _write_reports(request, sorted({record["subject"] for record in records}))
    told &= write_lineages(work.plans, done, request.output_dir, logs)
    told &= _written("the methods text", logs.parent, partial(_describe, request, len(records)))
    if isinstance(stopped, KeyboardInterrupt | SystemExit):
        raise stopped
    seconds = time.monotonic() - begun
    print(f"{len(records) - len(failed)} of {len(records)} runs succeeded in {seconds:.0f} s. Logs: {logs}")
    for line in closing_lines(records, request.output_dir):
        print(line)
    for failure in outcome.failures:
        print(f"Error: {failure}", file=sys.stderr)
    if stopped is not None and not isinstance(stopped, OSError):
        _keep_traceback(stopped, logs / "error.txt")
    return FAILURE if failed or work.errors or not told else SUCCESS


def _boilerplate_only(request: Request, work: Work, logs: Path) -> int:
    """Write the methods text of what is planned; where results lie already, theirs is left as it is."""
    records: list[dict[str, Any]] = [
        {"run": plan.prefix, "steps": planned_record(plan), "software": plan.software} for plan in work.plans
    ]
    records += [
        {"run": plan.title, "steps": planned_orientations(plan), "software": plan.runs[0].software}
        for plan in work.orientations
    ]
    folder = logs if runs_with_results(request.output_dir) else request.output_dir / "logs"
    write_citation_files(folder, records, markdown_only=request.markdown_only)
    print(f"Methods text: {folder / 'CITATION.md'}")
    return FAILURE if work.errors else SUCCESS


def _find_work(request: Request, settings: Settings, *, threads: int, device: str) -> Work:
    """Runs that can be processed, and every problem of those that cannot."""
    filters = read_filters(request.filter_file)
    validator = None
    if not request.skip_validation:
        validator = start_validation(request.bids_dir, request.participant_labels)
    query = find_runs(
        request.bids_dir,
        participant_labels=request.participant_labels or None,
        session_labels=request.session_labels or None,
        filters=filters,
        datatypes=settings.steps["input"].datatypes(),
    )
    unfit = errors(query.problems)
    work = Work(
        errors=[str(problem) for problem in unfit],
        warnings={"dataset": warnings(query.problems)},
        misused=all(problem.code in MISUSE for problem in unfit),
    )
    plan_one = partial(plan_run, threads=threads, device=device, spin_echoes=query.spin_echoes)
    for run in _with_volumes(query.runs, settings):
        try:
            found = _plan_or_refuse(run, request, settings, work, plan_one)
        except Exception as error:  # what nobody thought of concerns this run alone
            logger.info("%s cannot be planned:", run.name, exc_info=error)
            cause = f"its input cannot be used ({type(error).__name__}: {' '.join(str(error).split())[:300]})"
            remedy = "Convert its images again, or leave the participant out; please report it."
            found = [Problem("error", "run-not-usable", run.name, cause, "", remedy)]
        if found:
            work.refused[run.name] = (run, found)
            work.errors += [str(problem) for problem in found]
    if validator is not None:
        work.warnings["dataset"] += validation_findings(validator)
    return work


def _with_volumes(runs: Iterable[GreRun], settings: Settings) -> Iterator[GreRun]:
    """The runs, with the echoes or volumes that files of four dimensions hold; coils, where the user says so, stay."""
    options = settings.steps["input"]
    for run in runs:
        if settings.steps["coils"].coils == "last-axis":
            yield run
        else:
            yield from with_volumes(run, echo_times_s=options.echo_times_s(), choice=options.volumes)


def _plan_or_refuse(
    run: GreRun, request: Request, settings: Settings, work: Work, plan_one: Callable[..., RunPlan]
) -> list[Problem]:
    """Add the plan of a run to the work, or return what stands against it."""
    options = settings.steps["input"]
    if run.volumes is None:
        run = with_last_axis(run, settings.steps["coils"].coils)
    problems = check_run(run, field_strength_t=options.field_strength, b0_direction=options.b0_vector())
    work.warnings[run.name] = warnings(problems)
    if found := errors(problems):
        return list(found)
    try:
        plan = plan_one(run, request, settings)
    except ValueError as error:
        return [Problem("error", "run-not-planned", None, str(error))]
    work.warnings[run.name] += [*plan.anatomy.warnings, *plan.warnings]
    refused = _given_image_problems(plan, run) or _collision(plan, work.plans)
    if not refused:
        work.plans.append(plan)
    return refused


def _joins_something(work: Work, settings: Settings) -> bool:
    """Plan what joins several orientations; whether there is a session that has enough of them."""
    work.orientations, against = plan_orientations(work.plans, settings)
    work.errors += against
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
    if request.database_dir is not None:
        told = "the folders of the chosen participants are read as they are, so that nothing can be out of date"
        print(f"--bids-database-dir {request.database_dir}: neither read nor written; {told}.", flush=True)
    for problem in check_output_dir(request.bids_dir, request.output_dir):
        raise ValueError(str(problem))
    for flag, path in (("--mask-file", request.mask_file), ("--segmentation-file", request.segmentation_file)):
        if path is not None and not path.is_file():
            raise ValueError(f"{flag} {path}: no such file.")
    check_atlases(request)
    check_work_dir(request)
    if request.plugin_file is not None:
        read_plugin_file(request.plugin_file)


def _begin_dataset(request: Request, settings: Settings, logs: Path, graphs: Sequence[str]) -> datetime:
    """Write what comes before all runs; when that was by the clock of the output folder."""
    prepare_work_dir(request, graphs)
    output = request.output_dir
    for folder in sorted((output / "logs").glob("*/"))[-LOGS_LOOKED_AT:]:
        remove_leftovers(folder)
    container = os.environ.get("QSMPREP_CONTAINER")
    engine = "singularity" if {"APPTAINER_CONTAINER", "SINGULARITY_CONTAINER"} & set(os.environ) else "docker"
    description = dataset_description(__version__, raw=request.bids_dir, container=container, engine=engine)
    write_json(output / "dataset_description.json", description)
    write_text(output / ".bidsignore", "\n".join(BIDSIGNORE) + "\n")
    document = {**to_document(settings), "software": software_versions(), "machine": machine_facts()}
    told = logs / "qsmprep.toml"
    write_text(told, f"# {request.command}\n" + tomli_w.dumps(document))
    return datetime.fromtimestamp(told.stat().st_mtime, UTC)


def _describe(request: Request, own: int) -> None:
    """Write the methods text of all that lies in the output folder, unless that would be read by thousands of jobs."""
    if is_left_to_group(request.output_dir, own):
        print(f"logs/CITATION.* is left as it is: more than {MOST_OTHERS} runs of other commands lie in the folder. "
              "The group level writes it for all.")  # fmt: skip
    else:
        describe_results(request.output_dir, markdown_only=request.markdown_only)


def _write_reports(request: Request, subjects: Iterable[str]) -> bool:
    """Write the page of each subject; one that cannot be written costs none of the others."""
    written = True
    for subject in subjects:
        page = f"the report of sub-{subject}"
        written &= _written(page, request.output_dir, partial(_write_report, request.output_dir, subject))
    return written


def _write_report(output_dir: Path, subject: str) -> None:
    write_subject_report(output_dir, subject)


def _written(what: str, folder: Path, write: Callable[[], None]) -> bool:
    """Write something into a folder after the graph; whether that went well. What went wrong is told."""
    try:
        write()
    except Exception as error:
        told = storage_message(error, folder) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        print(f"Error: {what} could not be written: {told}", file=sys.stderr)
        logger.info("What went wrong:", exc_info=error)
        return False
    return True


def _reports_only(request: Request) -> int:
    wanted = {label.removeprefix("sub-") for label in request.participant_labels}
    subjects = subjects_of(request.output_dir)
    chosen = [subject for subject in subjects if not wanted or subject in wanted]
    if not chosen or wanted - set(subjects):
        missing = ", ".join(sorted(wanted - set(subjects))) or "any subject"
        raise ValueError(f"{request.output_dir}: no results of {missing}. Run qsmprep without --reports-only first.")
    written = _write_reports(request, chosen)
    for subject in chosen:
        print(f"Report: {request.output_dir / f'sub-{subject}.html'}")
    return SUCCESS if written else FAILURE


def _cores(settings: Settings) -> int:
    return settings.steps["execution"].nprocs or available_cores()


def _tell(work: Work) -> None:
    runs: dict[str, list[str]] = {}
    for name, told in work.warnings.items():
        for warning in told:
            runs.setdefault(str(warning), []).append("" if name == "dataset" else name)
    for text, names in runs.items():  # what is true of several runs is told once, with their names
        named = [name for name in dict.fromkeys(names) if name]
        more = f" and {len(named) - MOST_NAMES} more" if named[MOST_NAMES:] else ""
        print(f"Warning: {', '.join(named[:MOST_NAMES])}{more}{': ' if named else ''}{text}", file=sys.stderr)
    for error in dict.fromkeys(work.errors):  # what lies above several runs is told once
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


def _keep_traceback(error: BaseException, path: Path) -> None:
    """Keep what a developer needs to know of an error that nobody thought of."""
    if _written("the traceback", path.parent, lambda: write_text(path, "".join(format_exception(error)))):
        print(f"Error: qsmprep failed by an error of its own; please report it with {path}.", file=sys.stderr)


def _failed(message: str) -> int:
    print(f"qsmprep: {message}", file=sys.stderr)
    return FAILURE


def _refuse(message: str) -> int:
    print(f"qsmprep: {message}", file=sys.stderr)
    return USAGE


def _start_logging(verbosity: int) -> None:
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbosity, 2)]
    logging.basicConfig(level=level, handlers=[Terminal()], force=True)
    # A failed node is told once, in words; its traceback is in the crash file, or shown with -v.
    for name in ("nipype", "nipype.workflow", "nipype.interface", "nipype.utils"):
        logging.getLogger(name).setLevel((logging.CRITICAL, logging.WARNING, logging.DEBUG)[min(verbosity, 2)])
