"""Run the graphs of all plans."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nipype import config as nipype_config
from nipype.pipeline.engine import Workflow

from qsmprep.app.devices import visible_gpus
from qsmprep.app.graph_drawing import write_graphs
from qsmprep.app.plugin_file import read_plugin_file
from qsmprep.app.request import Request
from qsmprep.app.work_folder import GRAPH_NAME, graph_folder
from qsmprep.bids.outputs import write_json
from qsmprep.engine import monitor
from qsmprep.engine.graph import Failure
from qsmprep.engine.inprocess import InProcess
from qsmprep.engine.node import damage_of
from qsmprep.engine.pool import ProcessPool
from qsmprep.engine.progress import make_progress
from qsmprep.engine.scheduled import scheduled
from qsmprep.engine.told import name_runs
from qsmprep.files.storage import storage_message
from qsmprep.files.whole_file import remove_leftovers_below
from qsmprep.settings import Settings
from qsmprep.workflows.gre import init_gre_wf
from qsmprep.workflows.orientation import OrientationPlan, connect_orientations
from qsmprep.workflows.plan import RunPlan

logger = logging.getLogger("qsmprep")


@dataclass(frozen=True)
class Outcome:
    """What came of an execution: failures, folders of the nodes that belong to it, node timings, resources by run."""

    failures: Sequence[Failure] = ()
    folders: Mapping[str, list[Path]] = field(default_factory=dict)
    timings: Sequence[Any] = ()
    resources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


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
    progress = make_progress(labels)
    name_runs(labels)
    watch = monitor.Monitor(progress) if request.resource_monitor else None
    arguments = {
        "n_procs": execution.nprocs,
        "memory_gb": execution.mem_mb / 1024 if execution.mem_mb else None,
        "split": execution.omp_nthreads is None,
        "gpus": visible_gpus() if any(plan.device == "cuda" for plan in plans) else None,
        "one_at_a_time": execution.low_mem,
        "progress": watch or progress,
        "labels": labels,
        "stop_on_first_crash": execution.stop_on_first_crash,
        "raise_on_failure": False,
    }
    known = {key: value for key, value in arguments.items() if value is not None}
    if request.plugin_file is None:
        pool = (ProcessPool if execution.plugin == "pool" else InProcess)(plugin_args=known)
    else:
        name, theirs = read_plugin_file(request.plugin_file)
        pool = scheduled(name, {**theirs, **known})
    graphs, failures = _graphs(plans)
    if not graphs:
        return Outcome(tuple(failures))
    workflow = Workflow(name=GRAPH_NAME, base_dir=str(request.work_dir))
    workflow.add_nodes(list(graphs.values()))
    for plan in orientations:
        if all(run.name in graphs for run in plan.runs):
            connect_orientations(workflow, plan, graphs)
    if request.write_graph:
        write_graphs(graphs, logs)
    with _no_half_files(_folders_written(names, request)):
        graph = workflow.run(plugin=pool)
    failed = {failure.node for failure in pool.failures} | set(pool.not_run)
    folders: dict[str, list[Path]] = {}
    for node in graph.nodes():
        kept = folders.setdefault(labels(node.fullname)[0], [])
        if node.fullname not in failed:
            kept.append(Path(node.output_dir()))
    try:
        write_json(logs / "timings.json", [_timing(timing) for timing in pool.timings])
    except OSError as error:
        logger.warning("The timings of the steps are not kept: %s", storage_message(error, logs))
    resources = {run: monitor.document(watch, run, pool.timings, labels) for run in names.values()} if watch else {}
    return Outcome((*failures, *pool.failures), folders, tuple(pool.timings), resources)


def _graphs(plans: Sequence[RunPlan]) -> tuple[dict[str, Workflow], list[Failure]]:
    """The graph of each run, and the runs of which none can be made, as when an image has vanished."""
    graphs: dict[str, Workflow] = {}
    failures = []
    for plan in plans:
        try:
            graphs[plan.name] = init_gre_wf(plan=plan)
        except Exception as error:
            gone = [path for path in plan.files if not path.is_file()]
            message = f"{gone[0]}: the file is gone. Fetch or restore the data." if gone else str(error)
            failures.append(Failure("", plan.prefix, "the graph", " ".join(message.split()), ""))
    return graphs, failures


def _folders_written(names: Mapping[str, str], request: Request) -> list[Path]:
    """The folders that the nodes of these graphs write to."""
    subjects = dict.fromkeys(prefix.partition("_")[0] for prefix in names.values())
    graphs = [graph_folder(request.work_dir) / name for name in names]
    return [*(request.output_dir / subject for subject in subjects), *graphs]


@contextmanager
def _no_half_files(folders: Sequence[Path]) -> Iterator[None]:
    """Remove from folders what a process had begun to write when it was killed or stopped: an earlier one, or now."""
    remove_leftovers_below(folders)
    try:
        yield
    finally:
        remove_leftovers_below(folders)


def errors_of(outcome: Outcome, run: str) -> list[dict[str, str]]:
    """What failed in a run, as its record holds it."""
    return [{"step": found.step, "message": found.message} for found in outcome.failures if found.run == run]


def unfinished(
    plans: Sequence[RunPlan],
    orientations: Sequence[OrientationPlan],
    error: BaseException,
    work_dir: Path,
    reason: str = "",
) -> Outcome:
    """What an execution left that was stopped from outside or by an error of its own: every run has failed.

    `reason` says it better than the error does, where it is given.
    """
    named = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    message = f"stopped before its end ({reason or named})"
    names = {plan.name: plan.prefix for plan in plans} | {plan.name: plan.title for plan in orientations}
    failures = [Failure("", run, "the run", message, "") for run in names.values()]
    graphs = {run: graph_folder(work_dir) / name for name, run in names.items()}
    found = {run: [path.parent for path in graph.rglob("step.json")] for run, graph in graphs.items()}
    return Outcome(failures, {run: [path for path in paths if not damage_of(path)] for run, paths in found.items()})


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
                "create_report": "false",
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
        "began": round(timing.began_s, 3),
        "threads": timing.threads,
    }
