"""Progress of a graph: a live display on a terminal, single plain lines anywhere else.

Both are told the same things: `start(total, runs)`, `node_started(name)`, `node_iterated(name, done, total)`,
`node_finished(name, seconds, ok)`, `stop()`; and `nodes_skipped(names)` for nodes that will not be run because one
before them failed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TextIO

Labels = Callable[[str], tuple[str, str]]
LONG_S = 30.0  # a step that runs so long tells in plain lines how far it is, and again each time


class Display(Protocol):
    """What a plugin calls."""

    def start(self, total: int, runs: Mapping[str, int]) -> None:
        """`total` nodes are to be run; `runs` gives the number of nodes of each run."""

    def node_started(self, name: str) -> None:
        """The node of this full name is running."""

    def node_iterated(self, name: str, done: int, total: int) -> None:
        """The node has done so much of its work; a total of 0 is not known."""

    def node_finished(self, name: str, seconds: float, ok: bool, *, cached: bool = False) -> None:
        """The node ended: after so many seconds, well or not, or taken from an earlier run."""

    def nodes_skipped(self, names: Sequence[str]) -> None:
        """These nodes will not be run."""

    def stop(self) -> None:
        """Nothing more comes."""


def run_and_step(name: str) -> tuple[str, str]:
    """Run and step in words of a node's full name: "all.sub_01_wf.unwrap" -> ("sub_01", "unwrap")."""
    parts = name.split(".")
    run = parts[1].removesuffix("_wf") if len(parts) > 2 else ""
    return run, parts[-1].replace("_", " ")


def make_progress(labels: Labels = run_and_step, stream: TextIO | None = None) -> Display:
    """The display that suits the stream (default: standard output): live on a terminal, else plain lines."""
    stream = stream or sys.stdout
    return LiveProgress(labels, stream) if stream.isatty() else PlainProgress(labels, stream)


class Silent:
    """No display."""

    def start(self, total: int, runs: Mapping[str, int]) -> None:
        """Show nothing."""

    def node_started(self, name: str) -> None:
        """Show nothing."""

    def node_iterated(self, name: str, done: int, total: int) -> None:
        """Show nothing."""

    def node_finished(self, name: str, seconds: float, ok: bool, *, cached: bool = False) -> None:
        """Show nothing."""

    def nodes_skipped(self, names: Sequence[str]) -> None:
        """Show nothing."""

    def stop(self) -> None:
        """Show nothing."""


class PlainProgress:
    """One line a finished node: "[ 3/14] sub-01_run-1: background field removal, 1.9 s".

    A long one tells every half minute how far it is: "[ 3/14] sub-01_run-1: inversion, 120 of 400 after 31 s".
    """

    def __init__(
        self,
        labels: Labels = run_and_step,
        stream: TextIO | None = None,
        *,
        long_s: float = LONG_S,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._labels, self._stream = labels, stream or sys.stdout
        self._long_s, self._clock = long_s, clock
        self._began: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._total = self._done = 0

    def start(self, total: int, runs: Mapping[str, int]) -> None:
        """Remember the number of nodes."""
        self._total, self._done = total, 0

    def node_started(self, name: str) -> None:
        """Show nothing: the line comes when the node ends, or when it has run long."""
        self._began[name] = self._clock()
        self._due[name] = self._began[name] + self._long_s

    def node_iterated(self, name: str, done: int, total: int) -> None:
        """Write how far a node is that has run long; nothing for half a minute after that."""
        now = self._clock()
        if now >= self._due.get(name, float("inf")):
            self._due[name] = now + self._long_s
            self._write(name, f"{_amount(done, total, ' of ')} after {now - self._began[name]:.0f} s")

    def node_finished(self, name: str, seconds: float, ok: bool, *, cached: bool = False) -> None:
        """Write the node's line."""
        self._done += 1
        self._due.pop(name, None)
        self._write(name, "from an earlier run" if cached else f"{seconds:.1f} s{'' if ok else ', FAILED'}")

    def nodes_skipped(self, names: Sequence[str]) -> None:
        """Write a line for each node left out."""
        for name in names:
            self._done += 1
            self._write(name, "not run: a step before it failed")

    def stop(self) -> None:
        """Show nothing more."""

    def _write(self, name: str, outcome: str) -> None:
        width = len(str(self._total))
        run, step = self._labels(name)
        where = f"{run}: {step}" if run else step
        print(f"[{self._done:>{width}}/{self._total}] {where}, {outcome}", file=self._stream, flush=True)


class LiveProgress:
    """A bar with steps, runs and time, and under it the steps being run with their iterations (rich).

    Attributes
    ----------
    console : where log lines must be printed too, so that they appear above the display and do not tear it.
    """

    def __init__(self, labels: Labels = run_and_step, stream: TextIO | None = None):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.console = Console(file=stream)
        self._labels = labels
        self._display = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}", markup=False),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            redirect_stderr=sys.stderr.isatty(),  # what goes to a file is not for this terminal
        )
        self._tasks: dict[str, Any] = {}
        self._runs: dict[str, int] = {}
        self._left: dict[str, int] = {}
        self._total = self._done = 0
        self._started = 0.0

    def start(self, total: int, runs: Mapping[str, int]) -> None:
        """Show the display."""
        self._total, self._done, self._runs, self._left = total, 0, dict(runs), dict(runs)
        self._started = time.monotonic()
        self._overall = self._display.add_task(self._headline(), total=total, count=self._count())
        self._display.start()

    def node_started(self, name: str) -> None:
        """Add the step's line."""
        if name in self._tasks:  # run once more
            self._display.remove_task(self._tasks[name])
        run, step = self._labels(name)
        text = f"  {run}: {step}" if run else f"  {step}"
        self._tasks[name] = self._display.add_task(text, total=None, count="")

    def node_iterated(self, name: str, done: int, total: int) -> None:
        """Show the step's iterations in its line, as a bar where their number is known."""
        if name in self._tasks:
            bar = (total, min(done, total)) if total > 0 else (None, None)
            self._display.update(self._tasks[name], total=bar[0], completed=bar[1], count=_amount(done, total, "/"))

    def node_finished(self, name: str, seconds: float, ok: bool, *, cached: bool = False) -> None:
        """Take the step's line away; a failure leaves a line above the display."""
        task = self._tasks.pop(name, None)
        if task is not None:
            self._display.remove_task(task)
        if not ok:
            run, step = self._labels(name)
            self.console.print(f"{run + ': ' if run else ''}{step} FAILED after {seconds:.1f} s", style="bold red")
        self._advance(name)

    def nodes_skipped(self, names: Sequence[str]) -> None:
        """Count the nodes that will not be run."""
        for name in names:
            self._advance(name)

    def stop(self) -> None:
        """Take the display away and leave one line."""
        self._display.stop()
        if self._total:
            self.console.print(f"{self._headline()}, {self._count()}, {time.monotonic() - self._started:.1f} s")
        self._total = 0

    def _advance(self, name: str) -> None:
        self._done += 1
        self._left[self._labels(name)[0]] -= 1
        self._display.update(self._overall, completed=self._done, description=self._headline(), count=self._count())

    def _headline(self) -> str:
        finished = sum(not left for left in self._left.values())
        return f"runs {finished}/{len(self._runs)}"

    def _count(self) -> str:
        return f"steps {self._done}/{self._total}"


def _amount(done: int, total: int, between: str) -> str:
    """Work done, and of how much where that is known."""
    return f"{done}{between}{total}" if total > 0 else str(done)
