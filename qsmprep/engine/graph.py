"""Where a graph's execution stands: what is ready, running, done, failed, not run; and what each node cost."""

from __future__ import annotations

import logging
import time
from bisect import insort
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import networkx as nx
from nipype.pipeline.plugins.tools import report_crash

from qsmprep.engine.iterations import Iterations
from qsmprep.engine.messages import in_words, message_of
from qsmprep.engine.progress import Display, Silent, run_and_step

logger = logging.getLogger("qsmprep.engine")


@dataclass(frozen=True)
class Failure:
    """A node that failed: its full name, its run and step in words, one clear message, and the crash file."""

    node: str
    run: str
    step: str
    message: str
    crash_file: str

    def __str__(self) -> str:
        details = f" (details: {self.crash_file})" if self.crash_file else ""
        return f"{self.run + ': ' if self.run else ''}{self.step}: {self.message}{details}"


@dataclass(frozen=True)
class Timing:
    """What a node cost.

    Wall seconds, peak resident memory in GiB, the memory it was expected to need, whether an earlier result was taken,
    seconds of the graph's run at which it began, and the threads it was given.
    """

    node: str
    seconds: float
    peak_gb: float
    expected_gb: float
    cached: bool
    began_s: float = 0.0
    threads: int = 1


class NodesFailed(RuntimeError):
    """Raised at the end of a graph when nodes failed; carries their `failures`."""

    def __init__(self, failures: Sequence[Failure], not_run: Sequence[str]):
        self.failures, self.not_run = tuple(failures), tuple(not_run)
        waiting = f"; {len(not_run)} nodes that depend on them were not run" if not_run else ""
        listed = "\n".join(f"  {failure}" for failure in failures)
        super().__init__(f"{len(failures)} of the graph's nodes failed{waiting}:\n{listed}")


class GraphRun:
    """The state of one execution of an expanded nipype graph.

    Attributes
    ----------
    failures, timings : what was told so far, in order of time.
    not_run : full names of nodes left out because one before them failed or the run was stopped.
    """

    def __init__(
        self,
        graph: Any,
        config: dict[str, Any],
        *,
        progress: Display | None = None,
        labels: Callable[[str], tuple[str, str]] | None = None,
    ):
        self.failures: list[Failure] = []
        self.timings: list[Timing] = []
        self.not_run: list[str] = []
        self._started = time.monotonic()
        self.labels = labels or run_and_step
        self.progress = progress or Silent()
        self.stop_on_first_crash = _is_true(config["execution"]["stop_on_first_crash"])
        self._descendants = lambda node: nx.descendants(graph, node)
        self._successors = {node: list(graph.successors(node)) for node in graph}
        self._missing = {node: graph.in_degree(node) for node in graph}
        self._order = _priorities(nx.topological_sort(graph), self._successors, self.run_of)
        self._unfinished = set(graph)
        self._left = Counter(self._run_number(node) for node in graph)
        self._taken: Counter[int] = Counter()  # run -> nodes that run now
        self._begun: set[int] = set()
        self._ready: list[Any] = []
        self._ready_of: Counter[int] = Counter()
        for node in graph:
            if not self._missing[node]:
                self._add_ready(node)
        for node in graph:
            node.config["execution"]["crashfile_format"] = "txt"

    def run_of(self, node: Any) -> str:
        """Label of the run a node belongs to."""
        return self.labels(node.fullname)[0]

    def begin(self) -> None:
        """Tell the progress what is coming."""
        runs: dict[str, int] = {}
        for node in self._order:
            runs[self.run_of(node)] = runs.get(self.run_of(node), 0) + 1
        self._show("start", len(self._order), runs)

    def ready(self) -> list[Any]:
        """Nodes whose predecessors are done and which were not taken yet, the most urgent first."""
        return list(self._ready)

    @property
    def runs_begun(self) -> int:
        """Runs of which a node was taken and something is still to be done."""
        return len(self._begun)

    @property
    def runs_going_on(self) -> int:
        """Runs with a node that runs or is ready."""
        return len(self._taken.keys() | self._ready_of.keys())

    def begins_a_run(self, node: Any) -> bool:
        """Whether nothing of the node's run was taken yet."""
        return self._run_number(node) not in self._begun

    def take(self, node: Any) -> None:
        """A ready node is being run."""
        self._ready.remove(node)
        run = self._run_number(node)
        _decrease(self._ready_of, run)
        self._taken[run] += 1
        self._begun.add(run)

    def resubmit(self, node: Any) -> None:
        """A node that was taken is to be run once more."""
        _decrease(self._taken, self._run_number(node))
        self._add_ready(node)

    def started(self, node: Any) -> None:
        """Show that a node is running."""
        self._show("node_started", node.fullname)

    def iterated(self, node: Any, iterations: Iterations) -> None:
        """Show how far a running node is."""
        self._show("node_iterated", node.fullname, iterations.done, iterations.total)

    def finish(
        self, node: Any, seconds: float, *, peak_gb: float = 0.0, cached: bool = False, threads: int = 1
    ) -> None:
        """A node is done; its successors may become ready."""
        _decrease(self._taken, self._run_number(node))
        self._is_over(node)
        began_s, expected_gb = time.monotonic() - self._started - seconds, float(node.mem_gb or 0)
        self.timings.append(Timing(node.fullname, seconds, peak_gb, expected_gb, cached, began_s, threads))
        for successor in self._successors[node]:
            self._missing[successor] -= 1
            if not self._missing[successor] and successor in self._unfinished:
                self._add_ready(successor)
        self._show("node_finished", node.fullname, seconds, True, cached=cached)

    def fail(self, node: Any, traceback: Sequence[str], seconds: float = 0.0, message: str | None = None) -> None:
        """A node failed: write its crash file and leave out the nodes that depend on it."""
        _decrease(self._taken, self._run_number(node))
        self._is_over(node)
        try:
            crash_file = str(report_crash(node, traceback=list(traceback)))
        except OSError as error:  # as on a full disk: the failure is told all the same, and other runs go on
            logger.warning("The crash file of %s could not be written: %s", node.fullname, error)
            crash_file = ""
        run, step = self.labels(node.fullname)
        message = in_words(node, message or message_of("".join(traceback)))
        self.failures.append(Failure(node.fullname, run, step, message, crash_file))
        self._show("node_finished", node.fullname, seconds, False)
        self._leave_out(self._descendants(node))

    def end(self) -> None:
        """Nothing more will be run, nor shown."""
        self._leave_out(set(self._unfinished))
        self._show("stop")

    def _show(self, what: str, *facts: Any, **more: Any) -> None:
        """Call the display; one that fails is left away, the graph goes on."""
        try:
            getattr(self.progress, what)(*facts, **more)
        except Exception as error:
            broken, self.progress = self.progress, Silent()
            with suppress(Exception):
                broken.stop()
            logger.warning("The display of progress failed and is left away: %s: %s", type(error).__name__, error)

    def _leave_out(self, nodes: set[Any]) -> None:
        left_out = sorted(nodes & self._unfinished, key=self._order.__getitem__)
        for node in left_out:
            self._is_over(node)
            if not self._missing[node] and node in self._ready:
                self._ready.remove(node)
                _decrease(self._ready_of, self._run_number(node))
        self.not_run.extend(node.fullname for node in left_out)
        self._show("nodes_skipped", [node.fullname for node in left_out])

    def _is_over(self, node: Any) -> None:
        """A node is done, or will not be; so may be its run."""
        self._unfinished.discard(node)
        run = self._run_number(node)
        _decrease(self._left, run)
        if run not in self._left:
            self._begun.discard(run)

    def _add_ready(self, node: Any) -> None:
        insort(self._ready, node, key=self._order.__getitem__)
        self._ready_of[self._run_number(node)] += 1

    def _run_number(self, node: Any) -> int:
        return self._order[node][0]


def _decrease(counter: Counter[int], key: int) -> None:
    """Count one less; nothing is kept of what is down to nought."""
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]


def is_up_to_date(node: Any) -> bool:
    """Whether the node's result of an earlier run can be used as it is."""
    if node.overwrite or (node.overwrite is None and node.interface.always_run):
        return False
    cached, updated = node.is_cached()
    return cached and updated


def _priorities(
    ordered: Any, successors: dict[Any, list[Any]], run_of: Callable[[Any], str]
) -> dict[Any, tuple[int, int, int]]:
    """Sort keys: run after run, in a run the longest chain of work still to come, then the graph's order."""
    ordered = list(ordered)
    chain: dict[Any, int] = {}
    for node in reversed(ordered):
        chain[node] = 1 + max((chain[after] for after in successors[node]), default=0)
    runs = {run: index for index, run in enumerate(sorted({run_of(node) for node in ordered}))}
    return {node: (runs[run_of(node)], -chain[node], index) for index, node in enumerate(ordered)}


def _is_true(value: Any) -> bool:
    return value if isinstance(value, bool) else str(value).lower() in ("true", "yes", "1", "on")
