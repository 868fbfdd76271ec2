"""A process for each node, watched, so that one the kernel kills neither hangs the graph nor harms its neighbours.

nipype's own pool waits for ever when a worker is killed. Here every node has its own process, forked from a server
that has loaded the heavy modules already; its end is seen at once, whatever the cause.
"""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import signal
import sys
import time
from multiprocessing import connection
from traceback import format_exception
from typing import Any

from nipype.pipeline.plugins.base import PluginBase

import qsmprep
from qsmprep.engine import worker
from qsmprep.engine.forking import imports_of_this_process, warm_up
from qsmprep.engine.graph import Failure, GraphRun, NodesFailed, Timing, is_up_to_date
from qsmprep.engine.job import Job, death_message, describe_exit
from qsmprep.engine.resources import available_cores, available_memory_gb
from qsmprep.engine.share import THE_ONLY_GPU, Machine, Share
from qsmprep.engine.signals import stop_on_signals

logger = logging.getLogger("qsmprep.engine")

GRACE_S = 2.0


class ProcessPool(PluginBase):
    """Run a graph with one process a node: `workflow.run(plugin=ProcessPool(plugin_args=dict(n_procs=4)))`.

    Keys of `plugin_args`
    ---------------------
    n_procs : threads of all running nodes together (default: the cores available).
    split : whether runs that are processed together share the threads (default: yes), else each node has what it asks.
    memory_gb : memory in GiB of all running nodes together, by their estimates (default: 90 % of what is available).
    progress : object of `qsmprep.engine.progress`, or None.
    labels : function from a node's full name to its (run, step) in words.
    gpus : GPUs by the names that CUDA_VISIBLE_DEVICES knows (default: one, whichever it is).
    one_at_a_time : never run two nodes side by side.
    stop_on_first_crash : end everything at the first failure (default: nipype's configuration).
    raise_on_failure : raise NodesFailed at the end if nodes failed (default: yes).
    preload : further modules to load before forking.

    Attributes
    ----------
    failures, timings, not_run : of the last `run`, see `qsmprep.engine.graph`.

    Notes
    -----
    Runs are finished before others are begun: no more of them are under way at once than there are threads, so that
    memory and the work folder stay small.
    A node whose process is killed while others ran beside it is run once more, alone; killed while alone, it fails.
    A node that asks for more than the limits runs alone, with a warning.
    """

    def __init__(self, plugin_args: dict[str, Any] | None = None):
        super().__init__(plugin_args=plugin_args)
        args = self.plugin_args
        self.machine = Machine(
            threads=int(args.get("n_procs") or available_cores()),
            memory_gb=float(args.get("memory_gb") or 0.9 * available_memory_gb()),
            gpus=tuple(args.get("gpus") or (THE_ONLY_GPU,)),
            one_at_a_time=bool(args.get("one_at_a_time")),
            split=bool(args.get("split", True)),
        )
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
                share = self._share(node)
                if share is not None:
                    self._graph.take(node)
                    self._begin(node, share)
                    done = progressed = True
                    if self._stopped():
                        break
        return done

    def _share(self, node: Any) -> Share | None:
        """What a node is given; None while there is no room for it, or its run is not to be begun yet."""
        running = [job.share for job in self._jobs]
        if running and self._graph.begins_a_run(node) and self._graph.runs_begun >= self.machine.threads:
            return None
        return self.machine.share(node, running, self._graph.runs_going_on)

    def _begin(self, node: Any, share: Share) -> None:
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
            job = self._start_process(node, share)
        except Exception:
            self._graph.fail(node, format_exception(*sys.exc_info()))
            return
        self._jobs.append(job)
        if len(self._jobs) > 1:
            for running in self._jobs:
                running.had_neighbours = True
        self._graph.started(node)

    def _start_process(self, node: Any, share: Share) -> Job:
        payload = pickle.dumps((node, self._updatehash), protocol=pickle.HIGHEST_PROTOCOL)
        mine, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=worker.run_node,
            args=(theirs, payload, share, worker.log_levels(), qsmprep.__file__),
            name=node.fullname,
        )
        job = Job(node, process, mine, share)
        try:
            with imports_of_this_process():  # should the server have ended, a new one is started
                process.start()
            theirs.close()
        except BaseException:  # a signal, which nobody would end this process for
            if process.pid is not None:
                job.signal_group(signal.SIGKILL)
            raise
        return job

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
            self._graph.finish(job.node, seconds, peak_gb=job.outcome.peak_gb, threads=job.share.threads)
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
        message = death_message(
            code, float(job.node.mem_gb or 0), self.machine.memory_gb, job.node in self._resubmitted
        )
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
        limit_gb, threads = self.machine.memory_gb, self.machine.threads
        large = sorted((node for node in graph if float(node.mem_gb or 0) > limit_gb), key=lambda node: -node.mem_gb)
        self._alone.update(large)
        if large:
            logger.warning(
                "%s is expected to need %.1f GB, more than the %.1f GB allowed: it will run alone%s, and may be killed "
                "for want of memory. Where there is more, raise --mem-mb; else --separation none, fewer echoes or "
                "larger voxels need less.",
                *(large[0].fullname, large[0].mem_gb, limit_gb),
                f", as {len(large) - 1} smaller ones will" if large[1:] else "",
            )
        wide = [node for node in graph if int(node.n_procs) > threads]
        if wide:
            most = max(int(node.n_procs) for node in wide)
            logger.warning("%s and others ask for up to %d threads; they get %d.", wide[0].fullname, most, threads)
