"""What the steps cost while they run: memory and cores of the program and all its processes, sampled beside them."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import psutil

from qsmprep.engine.progress import Display

INTERVAL_S = 0.5
MOST_SAMPLES = 400  # kept; beyond it, neighbours are joined by their greater values


class Monitor:
    """A display that keeps when each node ran, and samples this process and its children meanwhile.

    Parameters
    ----------
    display : what is told the same things, as `qsmprep.engine.progress` has them.

    Attributes
    ----------
    spans : full name of each node that ran -> seconds from the start at which it began and ended.
    samples : rows of seconds from the start, cores in use, and memory in GiB (the proportional set size, where memory
        shared by processes counts once).
    """

    def __init__(self, display: Display) -> None:
        self._display = display
        self.spans: dict[str, tuple[float, float]] = {}
        self.samples: list[tuple[float, float, float]] = []
        self._began: dict[str, float] = {}
        self._zero = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="resource monitor", daemon=True)

    def start(self, total: int, runs: Mapping[str, int]) -> None:
        """Begin to sample."""
        self._thread.start()
        self._display.start(total, runs)

    def node_started(self, name: str) -> None:
        """Keep when."""
        self._began[name] = self._now()
        self._display.node_started(name)

    def node_iterated(self, name: str, done: int, total: int) -> None:
        """Hand it on."""
        self._display.node_iterated(name, done, total)

    def node_finished(self, name: str, seconds: float, ok: bool, *, cached: bool = False) -> None:
        """Keep when, unless nothing ran."""
        if name in self._began and not cached:
            self.spans[name] = (self._began.pop(name), self._now())
        self._display.node_finished(name, seconds, ok, cached=cached)

    def nodes_skipped(self, names: Sequence[str]) -> None:
        """Hand it on."""
        self._display.nodes_skipped(names)

    def stop(self) -> None:
        """End sampling."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        self._display.stop()

    def _now(self) -> float:
        return time.monotonic() - self._zero

    def _watch(self) -> None:
        program, before = psutil.Process(), self._now()
        used = {program.pid: sum(program.cpu_times()[:2])}  # seconds of processor time by process
        while True:
            over = self._over.wait(INTERVAL_S)
            now, spent, memory = self._now(), 0.0, 0
            with suppress(psutil.Error):
                for process in (program, *program.children(recursive=True)):
                    with suppress(psutil.Error, OSError):  # it has just ended
                        total = sum(process.cpu_times()[:2])
                        spent += total - used.get(process.pid, 0.0)
                        used[process.pid] = total
                        memory += _proportional(process)
            self.samples.append((round(now, 1), round(max(spent, 0.0) / (now - before), 2), round(memory / 2**30, 3)))
            before = now
            if over:
                return


def _proportional(process: psutil.Process) -> int:
    """Memory of a process in bytes, what it shares with others divided by their number where the system tells."""
    facts = process.memory_full_info()
    return int(getattr(facts, "pss", facts.rss))


def document(monitor: Monitor, run: str, timings: Sequence[Any], labels: Any) -> dict[str, Any]:
    """What a run's record holds: its steps with their cost, and the samples of the whole command.

    Parameters
    ----------
    run : label of the run.
    timings : `qsmprep.engine.graph.Timing` of every node.
    labels : function from a node's full name to its run and step in words.
    """
    steps = []
    for timing in timings:
        name, step = labels(timing.node)
        if name == run and timing.node in monitor.spans:
            begin, _ = monitor.spans[timing.node]
            steps.append(
                {
                    "step": step,
                    "start_s": round(begin, 1),
                    "seconds": round(timing.seconds, 1),
                    "peak_gib": round(timing.peak_gb, 2),
                    "expected_gib": round(timing.expected_gb, 2),
                }
            )
    steps.sort(key=lambda step: step["start_s"])
    return {"steps": steps, "samples": [list(sample) for sample in thinned(monitor.samples)]}


def thinned(samples: Sequence[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """At most MOST_SAMPLES samples: neighbours become one, with the later time and the greater values."""
    size = -(-len(samples) // MOST_SAMPLES) or 1
    blocks = [samples[first : first + size] for first in range(0, len(samples), size)]
    return [(block[-1][0], max(row[1] for row in block), max(row[2] for row in block)) for block in blocks]
