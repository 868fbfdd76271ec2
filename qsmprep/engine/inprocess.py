"""Run a graph node after node in this process, with the same reports as the pool: for debugging."""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from traceback import format_exception
from typing import Any

from nipype.pipeline.plugins.base import PluginBase

from qsmprep.engine.graph import Failure, GraphRun, NodesFailed, Timing, is_up_to_date
from qsmprep.engine.iterations import told_to
from qsmprep.engine.messages import message_of
from qsmprep.engine.signals import stop_on_signals
from qsmprep.engine.told import by_node
from qsmprep.engine.worker import peak_memory_gb
from qsmprep.numerics.threads import use_threads


class InProcess(PluginBase):
    """nipype's "Linear" with `failures`, `timings`, `not_run` and progress; `plugin_args` as of ProcessPool.

    Peak memory is that of the whole process so far, not of the node. A node killed for want of memory takes
    everything with it; the pool does not.
    """

    def __init__(self, plugin_args: dict[str, Any] | None = None):
        super().__init__(plugin_args=plugin_args)
        self.failures: list[Failure] = []
        self.timings: list[Timing] = []
        self.not_run: list[str] = []

    def run(self, graph: Any, config: dict[str, Any], updatehash: bool = False) -> None:
        """Execute the expanded graph; called by nipype."""
        args = self.plugin_args
        state = GraphRun(graph, config, progress=args.get("progress"), labels=args.get("labels"))
        self.failures, self.timings, self.not_run = state.failures, state.timings, state.not_run
        stop_early = bool(args.get("stop_on_first_crash", state.stop_on_first_crash))
        folder = os.getcwd()
        with stop_on_signals():
            try:
                state.begin()
                while (ready := state.ready()) and not (stop_early and self.failures):
                    state.take(ready[0])
                    self._run_node(state, ready[0], updatehash)
            finally:
                os.chdir(folder)
                state.end()
        if self.failures and args.get("raise_on_failure", True):
            raise NodesFailed(self.failures, self.not_run)

    def _run_node(self, state: GraphRun, node: Any, updatehash: bool) -> None:
        started = time.monotonic()
        try:
            if is_up_to_date(node):
                state.finish(node, 0.0, cached=True)
                return
            state.started(node)
            n_procs = self.plugin_args.get("n_procs")
            threads = min(int(node.n_procs), int(n_procs)) if n_procs else int(node.n_procs)
            with use_threads(threads), told_to(partial(state.iterated, node)), by_node(node.fullname):
                node.run(updatehash=updatehash)
        except Exception as error:
            traceback = format_exception(*sys.exc_info())
            message = message_of("".join(traceback))
            # nipype turns an interruption inside a node into an exception of the node
            if message.startswith("KeyboardInterrupt"):
                raise KeyboardInterrupt from error
            if message.startswith("SystemExit"):
                raise SystemExit(1) from error
            state.fail(node, traceback, time.monotonic() - started, message)
        else:
            state.finish(node, time.monotonic() - started, peak_gb=peak_memory_gb())
