"""The resource monitor: what ran when, and what it cost."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from qsmprep.engine import monitor
from qsmprep.engine.progress import Silent


@pytest.fixture
def watched(monkeypatch):
    """A monitor that saw a node hold 200 MiB and a core for a while, and one that was taken from an earlier run."""
    monkeypatch.setattr(monitor, "INTERVAL_S", 0.05)
    watch = monitor.Monitor(Silent())
    watch.start(2, {"run": 2})
    watch.node_started("all.run.busy")
    held = np.ones(200 * 2**20 // 8)
    until = time.monotonic() + 0.4
    while time.monotonic() < until:
        held += 1
    watch.node_finished("all.run.busy", 0.4, True)
    watch.node_started("all.run.old")
    watch.node_finished("all.run.old", 0.0, True, cached=True)
    del held
    time.sleep(0.2)
    watch.stop()
    return watch


def test_memory_and_cores_are_sampled_while_nodes_run(watched):
    times, cores, memory = np.array(watched.samples).T
    begin, end = watched.spans["all.run.busy"]
    assert 0 <= begin < end <= times[-1] and set(watched.spans) == {"all.run.busy"}
    assert np.all(np.diff(times) >= 0) and cores.max() > 0.2
    assert memory.max() > memory[-1] + 0.15


def test_the_record_of_a_run_holds_its_own_steps(watched):
    timings = [
        SimpleNamespace(node=f"all.{run}.{step}", seconds=0.4, peak_gb=0.3, expected_gb=0.5)
        for run in ("run", "other")
        for step in ("busy", "old")
    ]
    found = monitor.document(watched, "run", timings, lambda name: tuple(name.split(".")[1:]))
    assert [step["step"] for step in found["steps"]] == ["busy"]
    assert found["steps"][0]["peak_gib"] == 0.3 and found["steps"][0]["expected_gib"] == 0.5
    assert len(found["samples"]) == len(watched.samples)


def test_many_samples_are_joined_and_no_peak_is_lost():
    samples = [(float(k), float(k % 7), 5.0 if k == 1234 else 1.0) for k in range(5000)]
    few = monitor.thinned(samples)
    assert len(few) <= monitor.MOST_SAMPLES
    assert max(row[2] for row in few) == 5.0 and few[-1][0] == 4999.0
    assert monitor.thinned([]) == []
