"""Several orientations of one head: which runs are joined, and the record of what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Any

from qsmprep.app.execution import Outcome, errors_of
from qsmprep.app.records import keep_record
from qsmprep.app.request import Request
from qsmprep.bids.outputs import run_prefix
from qsmprep.bids.provenance import run_record, software_versions, step_records, with_figures
from qsmprep.findings import Note
from qsmprep.interfaces.orientation import TITLES
from qsmprep.interfaces.step import Record, parameters
from qsmprep.report.crash import crash_documents
from qsmprep.report.window import told_windows, with_window
from qsmprep.settings import ORIENTATION_METHODS, Settings
from qsmprep.workflows.orientation import OrientationPlan, figure_file, method_of, pictures_of
from qsmprep.workflows.plan import RunPlan


def plan_orientations(plans: Sequence[RunPlan], settings: Settings) -> tuple[list[OrientationPlan], list[str]]:
    """The sessions whose runs are joined, and what stands against the others.

    Raises
    ------
    ValueError : the reference region needs what a joint map does not have.
    """
    options = settings.steps["orientation"]
    methods = options.chosen()
    if not methods:
        return [], []
    if settings.steps["reference"].main not in ("whole-brain", "none"):
        raise ValueError("--multi-orientation: joint maps are referenced to the whole brain, or not at all.")
    sessions: dict[str, list[RunPlan]] = {}
    for plan in plans:
        sessions.setdefault(run_prefix(plan.run.subject, plan.run.session, {}), []).append(plan)
    found, errors = [], []
    for prefix, runs in sessions.items():
        least = max(ORIENTATION_METHODS[method] for method in methods)
        if len(runs) < least:
            count = f"there {'is' if len(runs) == 1 else 'are'} {len(runs)}"
            wanted = f"--multi-orientation {' '.join(methods)} needs {least} or more orientations"
            remedy = "Each is a run of its own (run- or acq-) of one session."
            errors.append(f"{prefix}: {wanted}; {count}. {remedy}")
            continue
        first = _reference(runs, options.reference)
        if first is None:
            names = ", ".join(run.prefix for run in runs)
            errors.append(
                f"{prefix}: --orientation-reference {options.reference}: no or several such runs among {names}."
            )
            continue
        without = [run.prefix for run in runs if run.spin_echo is None and run.settings.method("separation") == "none"]
        if "chisep-cosmos" in methods and without:
            errors.append(
                f"{prefix}: --multi-orientation chisep-cosmos needs R2' of every run, or what stands in for it; "
                f"{', '.join(without)} has none. Leave out --separation none, and use runs of several echoes."
            )
            continue
        others = [run for run in runs if run is not first]
        found.append(OrientationPlan(prefix, (first, *others), methods))
    return found, errors


def planned_orientations(plan: OrientationPlan) -> list[dict[str, Any]]:
    """Steps of a joined session as they are planned, like `planning.planned_record`."""
    runs = ", ".join(run.prefix for run in plan.runs)
    records = [Record("registration", "rigid", *TITLES["registration"])]
    records[0].note(Note("runs-joined", f"Joined: {runs}; the first is fixed."))
    for method in plan.methods:
        options = plan.runs[0].settings.steps[method]
        records.append(Record(method, method, *TITLES[method], parameters(options)))
    return [asdict(record) for record in records]


def write_orientation_records(
    plans: Sequence[OrientationPlan], outcome: Outcome, *, request: Request, started: datetime, seconds: float
) -> list[dict[str, Any]]:
    """Write the record of each joined session beside its figures, and return them; see `records.write_run_records`."""

    def make(plan: OrientationPlan) -> dict[str, Any]:
        first = plan.runs[0]
        steps = step_records(outcome.folders.get(plan.title, []))
        made, windows = {step["stage"] for step in steps}, told_windows(steps)
        errors = errors_of(outcome, plan.title)
        if not errors:
            message = "not made, as a run it needs failed"
            errors = [{"step": method, "message": message} for method in plan.methods if method not in made]
        pictures = [
            (source.split("_")[0], figure_file(plan, label), with_window(f"{title}.", windows.get(method_of(source))))
            for label, source, _, title in pictures_of(plan)
        ]
        return run_record(
            prefix=plan.title,
            subject=first.run.subject,
            software=software_versions(),
            command=request.command,
            started=started.isoformat(timespec="seconds"),
            seconds=seconds,
            errors=errors,
            warnings=(),
            inputs=[str(path.relative_to(run.bids_dir)) for run in plan.runs for path in run.run.files],
            checksums={},  # in the records of the runs
            acquisition=first.acquisition,
            tuned=first.settings.tuned,
            steps=with_figures(steps, pictures),
            planned=planned_orientations(plan),
            crashes=crash_documents(outcome.failures, plan.title),
            resources=outcome.resources.get(plan.title, {}),
        )

    return [keep_record(partial(make, plan), request, plan.title, plan.runs[0].run.subject, started) for plan in plans]


def _reference(runs: Sequence[RunPlan], label: str | None) -> RunPlan | None:
    """The run of that label ("run-2", "2", or the whole name); the first when there is none; None if not one fits."""
    if label is None:
        return runs[0]
    fitting = [
        plan for plan in runs
        if label in (plan.prefix, plan.run.name)
        or any(label in (value, f"{entity}-{value}") for entity, value in plan.run.entities.items())
    ]  # fmt: skip
    return fitting[0] if len(fitting) == 1 else None
