"""Run a graph by one of nipype's plugins that hand each node to a cluster's scheduler, with the pool's reports.

nipype's own plugins wait for a pickle of the result; here the job of a node says in a file how it ended, and what it
gave stands in the node's `result.json` (`node.py`).
"""

from __future__ import annotations

import getpass
import math
import os
import pickle
import shlex
import subprocess
import sys
import time
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from traceback import format_exception
from typing import Any

from nipype.pipeline import plugins
from nipype.pipeline.plugins.base import SGELikeBatchManagerBase

from qsmprep.engine.graph import Failure, GraphRun, NodesFailed, Timing
from qsmprep.engine.signals import stop_on_signals

# What submits and what takes back, of nipype's plugins that know one node at a time.
SUBMIT = {"SLURM": "sbatch", "SGE": "qsub", "PBS": "qsub", "LSF": "bsub", "OAR": "oarsub"}
CANCEL = {"SLURM": "scancel", "SGE": "qdel", "PBS": "qdel", "LSF": "bkill", "OAR": "oardel"}
POLL_S = 2.0
INTERPRETER_GB = 0.5  # what a process needs besides the arrays of its step
JOBS = "jobs"  # folder of scripts, nodes and logs in the work folder
RUN = "import sys; from qsmprep.engine.worker import run_file; sys.exit(run_file(sys.argv[1]))"


def scheduled(name: str, plugin_args: dict[str, Any]) -> Any:
    """nipype's plugin of that name (a key of SUBMIT), with `failures`, `timings`, `not_run` as ProcessPool has them.

    Keys of `plugin_args` are nipype's (`sbatch_args`, `qsub_args`, `template`, `max_jobs`, ...), and `progress`,
    `labels`, `stop_on_first_crash` and `raise_on_failure` of ProcessPool. With SLURM each node asks for the cores and
    the memory that it needs, unless `sbatch_args` do.
    """
    base = getattr(plugins, f"{name}Plugin")
    return type(f"Scheduled{name}", (Scheduled, base), {"name": name})(plugin_args=plugin_args)


class Scheduled(SGELikeBatchManagerBase):
    """What is laid over a plugin of nipype: see `scheduled`."""

    name: str
    plugin_args: dict[str, Any]

    def __init__(self, plugin_args: dict[str, Any]):
        super().__init__(plugin_args=plugin_args)
        self.failures: list[Failure] = []
        self.timings: list[Timing] = []
        self.not_run: list[str] = []

    def run(self, graph: Any, config: dict[str, Any], updatehash: bool = False) -> None:
        """Execute the expanded graph; called by nipype."""
        os.environ.setdefault("LOGNAME", getpass.getuser())  # nipype names jobs by it
        args = self.plugin_args
        state = GraphRun(graph, config, progress=args.get("progress"), labels=args.get("labels"))
        self._graph = state
        self._failed: set[Any] = set()
        self._submitted: dict[int, Path] = {}
        self._started: dict[str, float] = {}
        self.failures, self.timings, self.not_run = state.failures, state.timings, state.not_run
        self._stop_early = bool(args.get("stop_on_first_crash", state.stop_on_first_crash))
        config = deepcopy(config)
        config["execution"]["poll_sleep_duration"] = POLL_S
        with stop_on_signals():
            try:
                state.begin()
                super().run(graph, config, updatehash=updatehash)
            except Exception:
                if not self.failures:  # nipype raises the first failure at the end; each is told already
                    raise
            finally:
                self._cancel_all()
                state.end()
        if self.failures and args.get("raise_on_failure", True):
            raise NodesFailed(self.failures, self.not_run)

    def _submit_job(self, node: Any, updatehash: bool = False) -> int:
        """Hand a node to the scheduler; the number of its job, or one below 0 where it was not taken."""
        folder = Path(node.base_dir) / JOBS
        folder.mkdir(parents=True, exist_ok=True)
        script = folder / f"{node.fullname}.sh"
        payload, failure = script.with_suffix(".node"), script.with_suffix(".traceback")
        for path in (payload, failure, script.with_suffix(".done")):
            path.unlink(missing_ok=True)
        descriptor = os.open(payload, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            pickle.dump((node, updatehash), stream, protocol=pickle.HIGHEST_PROTOCOL)
        command = shlex.join([sys.executable, "-c", RUN, str(payload)])
        script.write_text(f"{self._template.rstrip()}\n{command}\n", "utf-8")
        if self.name == "SLURM":
            node.plugin_args = {"sbatch_args": self._needs(node)}
        self._graph.started(node)
        self._started[node.fullname] = time.monotonic()
        try:
            job = self._submit_batchtask(str(script), node)
        except (RuntimeError, LookupError, AttributeError, ValueError):  # nipype does not tell what the scheduler said
            text = f"RuntimeError: the scheduler did not take the job; {SUBMIT[self.name]} {script} says why."
            failure.write_text(text, "utf-8")
            job = -1 - len(self._submitted)
        self._submitted[job] = failure
        return job

    def _needs(self, node: Any) -> str:
        """Cores and memory of a node as sbatch takes them, where the user has not said it for all."""
        said = f"{self._sbatch_args or ''} {self._template}"
        cores = "" if "--cpus-per-task" in said or "-c " in said else f"--cpus-per-task={int(node.n_procs)} "
        memory_mb = math.ceil(1024 * (float(node.mem_gb or 0) + INTERPRETER_GB))
        return cores + ("" if "--mem" in said else f"--mem={memory_mb}M")

    def _get_result(self, taskid: int) -> dict[str, Any] | None:
        """None as long as a job waits or runs; then its traceback, None where it did well."""
        if taskid >= 0 and self._is_pending(taskid):
            return None
        failure = self._submitted.pop(taskid)
        until = time.monotonic() + float(self._config["execution"]["job_finished_timeout"])
        while True:  # another machine's files may show late
            if failure.exists():
                return {"traceback": [failure.read_text("utf-8", "replace")]}
            if failure.with_suffix(".done").exists():
                return {"traceback": None}
            if time.monotonic() > until:
                why = "killed, as for want of memory or of time"
                text = f"RuntimeError: job {taskid} ended without a result: {why}? See its log in {failure.parent}."
                return {"traceback": [text]}
            time.sleep(0.5)

    def _is_pending(self, taskid: int) -> bool:
        """Whether a job waits or runs; a controller that does not answer is asked again."""
        if self.name != "SLURM":
            return bool(super()._is_pending(taskid))
        words = ["squeue", "--noheader", f"--jobs={taskid}"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        return bool(done.stdout.strip()) if done.returncode == 0 else "Invalid job id" not in done.stderr

    def _clear_task(self, taskid: int) -> None:
        self._pending.pop(taskid, None)

    def _task_finished_cb(self, jobid: int, cached: bool = False) -> None:
        super()._task_finished_cb(jobid, cached)
        node = self.procs[jobid]
        if node not in self._failed:  # nipype calls it also after a failure
            seconds = time.monotonic() - self._started.get(node.fullname, time.monotonic())
            self._graph.finish(node, seconds, cached=cached)

    def _clean_queue(self, jobid: int, graph: Any, result: dict[str, Any] | None = None) -> Any:
        """A node failed: tell it, and leave out what depends on it."""
        node = self.procs[jobid]
        traceback = result["traceback"] if result else format_exception(*sys.exc_info())
        self._failed.add(node)
        self._graph.fail(node, traceback, time.monotonic() - self._started.get(node.fullname, time.monotonic()))
        if self._stop_early:
            raise NodesFailed(self.failures, self.not_run)
        return self._remove_node_deps(jobid, self.failures[-1].crash_file, graph)

    def _cancel_all(self) -> None:
        """Take back the jobs that wait or run, where the graph ends before them."""
        for job in [str(job) for job in self._submitted if job >= 0]:
            with suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run([CANCEL[self.name], job], capture_output=True, timeout=60, check=False)
