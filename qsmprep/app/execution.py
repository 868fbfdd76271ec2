"""Run the graphs of all plans, and write down what became of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nipype import config as nipype_config
from nipype.pipeline.engine import Workflow

from qsmprep.app.planning import planned_record
from qsmprep.app.request import Request
from qsmprep.bids.images import open_image
from qsmprep.bids.outputs import figures_folder, write_json
from qsmprep.bids.provenance import run_record, software_versions, step_records, with_figures
from qsmprep.engine.graph import Failure
from qsmprep.engine.inprocess import InProcess
from qsmprep.engine.pool import ProcessPool
from qsmprep.engine.progress import make_progress
from qsmprep.findings import Warning
from qsmprep.report.acquisition import describe_acquisition
from qsmprep.report.crash import crash_documents
from qsmprep.settings import Settings
from qsmprep.workflows.gre import init_gre_wf
from qsmprep.workflows.orientation import OrientationPlan, connect_orientations
from qsmprep.workflows.plan import RunPlan
from qsmprep.workflows.report import figure_file, figures_of

GRAPH_NAME = "qsmprep"


@dataclass(frozen=True)
class Outcome:
    """What came of an execution: failures, folders of the nodes that belong to it, and node timings."""

    failures: Sequence[Failure] = ()
    folders: Mapping[str, list[Path]] = field(default_factory=dict)
    timings: Sequence[Any] = ()


def execute(
    plans: Sequence[RunPlan],
    orientations: Sequence[OrientationPlan] = (),
    *,
    request: Request,
    settings: Settings,
    logs: Path,
) -> Outcome:
    """Run the graphs of all plans as one, each node in a process of its own."""
    _configure(logs)
    names = {plan.name: plan.prefix for plan in plans} | {plan.name: plan.title for plan in orientations}

    def labels(fullname: str) -> tuple[str, str]:
        _, run, *steps = fullname.split(".")
        return names.get(run, run), " ".join(steps).replace("_wf", "").replace("_", " ")

    execution = settings.steps["execution"]
    arguments = {
        "n_procs": execution.nprocs,
        "memory_gb": execution.mem_mb / 1024 if execution.mem_mb else None,
        "progress": make_progress(labels),
        "labels": labels,
        "stop_on_first_crash": execution.stop_on_first_crash,
        "raise_on_failure": False,
    }
    plugin = ProcessPool if execution.plugin == "pool" else InProcess
    pool = plugin(plugin_args={key: value for key, value in arguments.items() if value is not None})
    workflow = Workflow(name=GRAPH_NAME, base_dir=str(request.work_dir))
    graphs = {plan.name: init_gre_wf(plan=plan) for plan in plans}
    workflow.add_nodes(list(graphs.values()))
    for plan in orientations:
        connect_orientations(workflow, plan, graphs)
    graph = workflow.run(plugin=pool)
    folders: dict[str, list[Path]] = {}
    for node in graph.nodes():
        folders.setdefault(labels(node.fullname)[0], []).append(Path(node.output_dir()))
    failed = {failure.node for failure in pool.failures} | set(pool.not_run)
    kept = {node.fullname: Path(node.output_dir()) for node in graph.nodes() if node.fullname not in failed}
    folders = {run: [path for path in paths if path in set(kept.values())] for run, paths in folders.items()}
    write_json(logs / "timings.json", [_timing(timing) for timing in pool.timings])
    return Outcome(tuple(pool.failures), folders, tuple(pool.timings))


def write_records(
    plans: Sequence[RunPlan],
    outcome: Outcome,
    *,
    request: Request,
    started: datetime,
    warnings: Mapping[str, Sequence[Warning]],
) -> list[dict[str, Any]]:
    """Write each run's record beside its figures, and return them."""
    records = []
    for plan in plans:
        folder = plan.output_dir / figures_folder(plan.prefix)
        pictures = [
            (stage, figure_file(figure, plan.prefix), figure.caption)
            for figure in figures_of(plan)
            for stage in figure.stages
        ]
        steps = with_figures(step_records(outcome.folders.get(plan.prefix, [])), pictures)
        image = open_image(plan.run.files[0])
        record = run_record(
            prefix=plan.prefix,
            subject=plan.run.subject,
            software=software_versions(),
            command=request.command,
            started=started.isoformat(timespec="seconds"),
            seconds=(datetime.now(UTC) - started).total_seconds(),
            errors=errors_of(outcome, plan.prefix),
            warnings=warnings.get(plan.run.name, ()),
            inputs=[str(path.relative_to(plan.bids_dir)) for path in plan.files],
            acquisition=describe_acquisition(
                plan.run.metadata,
                affine=image.affine,
                shape=image.shape[:3],
                echo_times_s=plan.run.echo_times_s,
            ),
            steps=steps,
            planned=planned_record(plan),
            crashes=crash_documents(outcome.failures, plan.prefix),
        )
        write_json(folder / f"{plan.prefix}_record.json", record)
        records.append(record)
    return records


def errors_of(outcome: Outcome, run: str) -> list[dict[str, str]]:
    """What failed in a run, as its record holds it."""
    return [{"step": found.step, "message": found.message} for found in outcome.failures if found.run == run]


def unfinished(
    plans: Sequence[RunPlan], orientations: Sequence[OrientationPlan], error: BaseException, work_dir: Path
) -> Outcome:
    """What an execution left that was stopped from outside or by an error of its own: every run has failed."""
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    message = f"stopped before its end ({reason})"
    names = {plan.name: plan.prefix for plan in plans} | {plan.name: plan.title for plan in orientations}
    failures = [Failure("", run, "the run", message, "") for run in names.values()]
    graphs = {run: Path(work_dir) / GRAPH_NAME / name for name, run in names.items()}
    return Outcome(failures, {run: [path.parent for path in graph.rglob("step.json")] for run, graph in graphs.items()})


def _configure(logs: Path) -> None:
    nipype_config.update_config(
        {
            "logging": {"log_to_file": "false"},
            "monitoring": {"enabled": "false"},
            "execution": {
                "crashdump_dir": str(logs),
                "crashfile_format": "txt",
                "hash_method": "timestamp",
                "remove_unnecessary_outputs": "false",
                "parameterize_dirs": "false",
                "poll_sleep_duration": "0.05",
                "check_version": "false",
                "stop_on_first_crash": "false",
            },
        }
    )


def _timing(timing: Any) -> dict[str, Any]:
    return {
        "node": timing.node,
        "seconds": round(timing.seconds, 3),
        "peak_gb": round(timing.peak_gb, 3),
        "expected_gb": round(timing.expected_gb, 3),
        "cached": timing.cached,
    }
