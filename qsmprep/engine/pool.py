"""A process for each node, watched, so that one the kernel kills neither hangs the graph nor harms its neighbours.

nipype's own pool waits for ever when a worker is killed. Here every node has its own process, forked from a server
that has loaded the heavy modules already; its end is seen at once, whatever the cause.
"""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from traceback import format_exception
from typing import Any

from nipype.pipeline.plugins.base import PluginBase

import qsmprep
from qsmprep.engine import server, worker
from qsmprep.engine.graph import Failure, GraphRun, NodesFailed, Timing, is_up_to_date
from qsmprep.engine.iterations import Iterations
from qsmprep.engine.resources import available_cores, available_memory_gb
from qsmprep.engine.session import private_folder

logger = logging.getLogger("qsmprep.engine")

PRELOAD = (
    "numpy",
    "scipy.fft",
    "scipy.ndimage",
    "nibabel",
    "numba",
    "nipype.pipeline.engine",
    "networkx",
    "qsmprep.engine.pool",
)
GRACE_S = 2.0


def warm_up(preload: tuple[str, ...] = ()) -> None:
    """Start the server the nodes' processes are forked from; it loads modules while this process goes on.

    It loads PRELOAD, every module of qsmprep that this process has loaded so far, and `preload`.
    """
    os.environ.setdefault("NIPYPE_NO_ET", "1")
    # A thread pool of BLAS in every small process costs more than it brings: the heavy loops are not BLAS.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    loaded = sorted(name for name in sys.modules if name.startswith("qsmprep.") and name != server.__name__)
    modules = [server.__name__, *PRELOAD, *loaded, *_main_package(), *preload]
    multiprocessing.get_context("forkserver").set_forkserver_preload(modules)
    with _imports_of_this_process():
        multiprocessing.forkserver.ensure_running()


@contextmanager
def _imports_of_this_process() -> Iterator[None]:
    """Let the processes started inside import what this one imports, and end with it.

    Python starts them by `python -c`, which looks into the current folder before anywhere else, and the server loads
    its modules before it is told where this process looks. Ctrl-C is for this process alone.
    """
    folder = private_folder()
    multiprocessing.current_process()._config["tempdir"] = str(folder)  # type: ignore[attr-defined]  # of the socket
    places = [os.path.abspath(place or multiprocessing.process.ORIGINAL_DIR) for place in sys.path]  # type: ignore[attr-defined]
    inside = {
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": os.pathsep.join(place for place in places if os.pathsep not in place),
    }
    before = {name: os.environ.get(name) for name in (*inside, "PYTHONWARNINGS")}
    # Semaphores of processes that were ended are cleaned up without a word.
    quiet = "ignore:resource_tracker:UserWarning"
    inside["PYTHONWARNINGS"] = ",".join(filter(None, (before["PYTHONWARNINGS"], quiet)))
    watch = threading.current_thread() is threading.main_thread()
    inside[server.TOLD] = server.message(folder, before, watch)
    os.environ.update(inside)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, set())
    try:
        multiprocessing.resource_tracker.ensure_running()  # which unblocks Ctrl-C at its end, so that it comes first
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        del os.environ[server.TOLD]
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@dataclass(eq=False)
class Job:
    """A node being run in its process."""

    node: Any
    process: Any
    pipe: connection.Connection | None
    n_procs: int
    mem_gb: float
    started: float = field(default_factory=time.monotonic)
    had_neighbours: bool = False
    iterations: Iterations | None = None
    outcome: worker.NodeOutcome | None = None
    outcome_at: float = 0.0

    def receive(self) -> None:
        """Take what the process has sent: log records to their loggers, newest iterations and outcome to keep."""
        while self.pipe is not None:
            try:
                if not self.pipe.poll():
                    return
                message = self.pipe.recv()
            except (EOFError, OSError):
                self.pipe.close()
                self.pipe = None
            else:
                if isinstance(message, worker.NodeOutcome):
                    self.outcome, self.outcome_at = message, time.monotonic()
                elif isinstance(message, Iterations):
                    self.iterations = message
                elif logging.getLogger(message.name).isEnabledFor(message.levelno):
                    logging.getLogger(message.name).handle(message)

    def signal_group(self, number: int) -> None:
        """Send a signal to the process and the programs it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)
            return
        if self.process.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)


class ProcessPool(PluginBase):
    """Run a graph with one process a node: `workflow.run(plugin=ProcessPool(plugin_args=dict(n_procs=4)))`.

    Keys of `plugin_args`
    ---------------------
    n_procs : threads of all running nodes together (default: the cores available).
    memory_gb : memory in GiB of all running nodes together, by their estimates (default: 90 % of what is available).
    progress : object of `qsmprep.engine.progress`, or None.
    labels : function from a node's full name to its (run, step) in words.
    one_at_a_time : never run two nodes side by side.
    stop_on_first_crash : end everything at the first failure (default: nipype's configuration).
    raise_on_failure : raise NodesFailed at the end if nodes failed (default: yes).
    preload : further modules to load before forking.

    Attributes
    ----------
    failures, timings, not_run : of the last `run`, see `qsmprep.engine.graph`.

    Notes
    -----
    A node whose process is killed while others ran beside it is run once more, alone; killed while alone, it fails.
    A node that asks for more than the limits runs alone, with a warning.
    """

    def __init__(self, plugin_args: dict[str, Any] | None = None):
        super().__init__(plugin_args=plugin_args)
        self.n_procs = int(self.plugin_args.get("n_procs") or available_cores())
        self.memory_gb = float(self.plugin_args.get("memory_gb") or 0.9 * available_memory_gb())
        self.failures: list[Failure] = []
        self.timings: list[Timing] = []
        self.not_run: list[str] = []

    def run(self, graph: Any, config: dict[str, Any], updatehash: bool = False) -> None:
        """Execute the expanded graph; called by nipype."""
        args = self.plugin_args
        warm_up(tuple(args.get("preload") or ()))
        self._context = multiprocessing.get_context("forkserver")
        self._updatehash = updatehash
        self._jobs: list[Job] = []
        self._alone: set[Any] = set()
        self._resubmitted: set[Any] = set()
        self._graph = GraphRun(graph, config, progress=args.get("progress"), labels=args.get("labels"))
        self.failures, self.timings, self.not_run = self._graph.failures, self._graph.timings, self._graph.not_run
        self._stop_on_first_crash = bool(args.get("stop_on_first_crash", self._graph.stop_on_first_crash))
        self._warn_of_large_nodes(graph)
        with stop_on_signals():
            try:
                self._graph.begin()
                while not self._stopped() and (self._submit() or self._jobs):
                    self._collect()
            finally:
                self._end_all()
                self._graph.end()
        if self.failures and args.get("raise_on_failure", True):
            raise NodesFailed(self.failures, self.not_run)

    def _stopped(self) -> bool:
        return self._stop_on_first_crash and bool(self.failures)

    def _submit(self) -> bool:
        """Start every ready node there is room for; tell whether anything was done."""
        done = False
        progressed = True
        while progressed and not self._stopped():
            progressed = False
            for node in self._graph.ready():
                if node in self._alone and self._jobs:
                    return done  # let the running nodes end, then run this one by itself
                if any(job.node in self._alone for job in self._jobs):
                    return done
                if self._has_room(node):
                    self._graph.take(node)
                    self._begin(node)
                    done = progressed = True
                    if self._stopped():
                        break
        return done

    def _begin(self, node: Any) -> None:
        """Take a node's earlier result, or run it here if it asks for that, or start its process."""
        try:
            if is_up_to_date(node):
                self._graph.finish(node, 0.0, cached=True)
                return
            if node.run_without_submitting:
                started = time.monotonic()
                self._graph.started(node)
                node.run(updatehash=self._updatehash)
                self._graph.finish(node, time.monotonic() - started, peak_gb=worker.peak_memory_gb())
                return
            job = self._start_process(node)
        except Exception:
            self._graph.fail(node, format_exception(*sys.exc_info()))
            return
        self._jobs.append(job)
        if len(self._jobs) > 1:
            for running in self._jobs:
                running.had_neighbours = True
        self._graph.started(node)

    def _start_process(self, node: Any) -> Job:
        payload = pickle.dumps((node, self._updatehash), protocol=pickle.HIGHEST_PROTOCOL)
        n_procs, mem_gb = self._needs(node)
        mine, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=worker.run_node,
            args=(theirs, payload, n_procs, worker.log_levels(), qsmprep.__file__),
            name=node.fullname,
        )
        job = Job(node, process, mine, n_procs, mem_gb)
        try:
            with _imports_of_this_process():  # should the server have ended, a new one is started
                process.start()
            theirs.close()
        except BaseException:  # a signal, which nobody would end this process for
            if process.pid is not None:
                job.signal_group(signal.SIGKILL)
            raise
        return job

    def _needs(self, node: Any) -> tuple[int, float]:
        """Threads and GiB reserved for a node: what it asks for, at most everything."""
        return min(int(node.n_procs), self.n_procs), min(float(node.mem_gb or 0), self.memory_gb)

    def _has_room(self, node: Any) -> bool:
        if self._jobs and self.plugin_args.get("one_at_a_time"):
            return False
        n_procs, mem_gb = self._needs(node)
        free_procs = self.n_procs - sum(job.n_procs for job in self._jobs)
        free_gb = self.memory_gb - sum(job.mem_gb for job in self._jobs)
        return n_procs <= free_procs and mem_gb <= free_gb + 1e-9

    def _collect(self) -> None:
        """Wait until a process says something or ends, and deal with those that ended."""
        if not self._jobs:
            return
        watched = [job.pipe for job in self._jobs if job.pipe is not None]
        watched += [job.process.sentinel for job in self._jobs]
        lingering = [job.outcome_at + GRACE_S - time.monotonic() for job in self._jobs if job.outcome]
        connection.wait(watched, timeout=max(0.0, min(lingering)) if lingering else None)
        for job in list(self._jobs):
            job.receive()
            if job.iterations is not None:
                self._graph.iterated(job.node, job.iterations)
                job.iterations = None
            ended = not job.process.is_alive()
            if not ended and job.outcome and time.monotonic() > job.outcome_at + GRACE_S:
                job.signal_group(signal.SIGKILL)  # a thread of some library keeps it from ending
                job.process.join()
                ended = True
            if ended:
                job.receive()
                self._jobs.remove(job)
                self._conclude(job)

    def _conclude(self, job: Job) -> None:
        seconds = time.monotonic() - job.started
        code = job.process.exitcode
        if job.outcome is None or job.outcome.traceback:
            job.signal_group(signal.SIGKILL)  # programs it may have left running
        if job.outcome is None:
            self._died(job, code, seconds)
        elif job.outcome.traceback:
            self._graph.fail(job.node, job.outcome.traceback, seconds)
        else:
            self._graph.finish(job.node, seconds, peak_gb=job.outcome.peak_gb)
        job.process.close()

    def _died(self, job: Job, code: int, seconds: float) -> None:
        """A process ended without a result: run the node once more, alone, if others may have been the cause."""
        if job.had_neighbours and job.node not in self._resubmitted:
            logger.warning(
                "%s was %s while other nodes ran beside it; it will be run once more, alone.",
                *(job.node.fullname, describe_exit(code)),
            )
            self._resubmitted.add(job.node)
            self._alone.add(job.node)
            self._graph.resubmit(job.node)
            return
        message = death_message(code, float(job.node.mem_gb or 0), self.memory_gb, job.node in self._resubmitted)
        self._graph.fail(job.node, [message], seconds, message)

    def _end_all(self) -> None:
        """End the processes that still run, with the programs they started."""
        for number, patience in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
            alive = [job for job in self._jobs if job.process.is_alive()]
            for job in alive:
                job.signal_group(number)
            until = time.monotonic() + patience
            for job in alive:
                job.process.join(max(0.0, until - time.monotonic()))
        self._jobs.clear()

    def _warn_of_large_nodes(self, graph: Any) -> None:
        large = sorted((node for node in graph if float(node.mem_gb or 0) > self.memory_gb), key=lambda n: -n.mem_gb)
        self._alone.update(large)
        if large:
            logger.warning(
                "%s is expected to need %.1f GB, more than the %.1f GB allowed: it will run alone%s, and may be killed "
                "for want of memory. Where there is more, raise --mem-mb; else --separation none, fewer echoes or "
                "larger voxels need less.",
                *(large[0].fullname, large[0].mem_gb, self.memory_gb),
                f", as {len(large) - 1} smaller ones will" if large[1:] else "",
            )
        for node in graph:
            if int(node.n_procs) > self.n_procs:
                logger.warning("%s asks for %d threads; it gets %d.", *(node.fullname, node.n_procs, self.n_procs))


def describe_exit(code: int) -> str:
    """An exit code of a process in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    return f"killed by signal {-code} ({name})"


def death_message(code: int, expected_gb: float, limit_gb: float, second_time: bool) -> str:
    """One line for a node whose process ended without a result: what happened, why probably, what to do."""
    what = f"The node's process was {describe_exit(code)} before it gave a result"
    if second_time:
        what += ", alone, after it had been killed beside others"
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return (
            f"{what}, most likely by the kernel or the cluster for want of memory: it was expected to need "
            f"{expected_gb:.1f} GB, {limit_gb:.1f} GB were allowed. Give the run more memory, or lower --mem-mb or "
            "--nprocs so that less is run side by side; running the same command again continues where it was."
        )
    if code in (-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL, -signal.SIGABRT, -signal.SIGFPE):
        return f"{what}: a fault in compiled code, not in the data's format. Please report it with the crash file."
    return f"{what}. If somebody or a cluster's limit ended it, running the same command again continues."


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the main process as Ctrl-C does: by an exception, so that children are ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: Any) -> None:
        raise SystemExit(128 + number)

    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _main_package() -> list[str]:
    """The package run by `python -m`, which every process imports before its work."""
    name = getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", None)
    return [name.partition(".")[0]] if name else []
