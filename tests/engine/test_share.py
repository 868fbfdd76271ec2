"""Who gets how many threads, how much memory and which GPU, and which run comes first."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from qsmprep.engine.pool import ProcessPool
from qsmprep.engine.share import Machine, Share, wants_gpu


def node(threads=1, mem_gb=0.1, device="cpu"):
    return SimpleNamespace(n_procs=threads, mem_gb=mem_gb, inputs=SimpleNamespace(device=device))


@pytest.mark.parametrize(
    ("cores", "memory_gb", "wish", "runs", "threads"),
    [
        (2, 8, 2, 1, 2),  # a run by itself has all that its steps ask for
        (2, 8, 2, 24, 1),
        (16, 64, 8, 3, 5),
        (16, 2, 8, 24, 8),  # memory lets no more than two run
        (16, 64, 1, 1, 1),
    ],
)
def test_the_runs_that_can_go_on_share_the_threads(cores, memory_gb, wish, runs, threads):
    machine = Machine(cores, memory_gb)
    assert machine.share(node(wish, mem_gb=1), [], runs).threads == threads
    assert Machine(cores, memory_gb, split=False).share(node(wish, mem_gb=1), [], runs).threads == wish


def test_nothing_is_left_idle_where_others_wait_and_the_limit_is_never_passed():
    machine = Machine(8, 10)
    running = [Share(3, 4.0), Share(3, 4.0)]
    assert machine.share(node(8, mem_gb=1), running, runs=3) == Share(2, 1.0)
    assert machine.share(node(8, mem_gb=1), running, runs=1) is None, "by itself it waits for all"
    assert machine.share(node(1, mem_gb=2.1), running, runs=3) is None, "memory"
    assert machine.share(node(1), [*running, Share(2, 0.0)], runs=3) is None, "threads"


def test_one_node_at_a_time_runs_on_each_gpu():
    machine = Machine(8, 10, gpus=("0", "3"))
    shares = []
    for _ in range(2):
        shares.append(machine.share(node(device="cuda"), shares))
    assert [share.gpu for share in shares] == ["0", "3"]
    assert machine.share(node(device="cuda"), shares) is None
    assert machine.share(node(), shares) == Share(1, 0.1), "what needs none runs beside them"
    assert not wants_gpu(SimpleNamespace(inputs=SimpleNamespace()))


def test_a_node_on_a_gpu_is_told_which(lab):
    nodes = [lab.gpu(f"node{i}", 0.4) for i in range(4)]
    lab.workflow(*nodes, lab.nap("other", 0.4)).run(
        plugin=ProcessPool(plugin_args={"n_procs": 8, "memory_gb": 4, "gpus": ("2", "GPU-5a")})
    )
    spans = {name: span for name, (span,) in lab.spans().items()}
    seen = {name: (lab.folder / f"{name}.gpu").read_text() for name in spans if name != "other"}
    assert sorted(seen.values()) == ["2", "2", "GPU-5a", "GPU-5a"]
    for one in seen:
        for two in seen:
            if one < two and seen[one] == seen[two]:
                assert overlap(spans[one], spans[two]) <= 0, "two on one device"
    assert max(overlap(spans["other"], spans[one]) for one in seen) > 0


def test_runs_are_finished_before_others_are_begun(lab):
    """With two threads two runs are under way at most, and both threads are busy."""
    chains = [[lab.nap(f"run{i}_{step}", 0.15) for step in "abc"] for i in range(6)]
    plugin = ProcessPool(plugin_args={"n_procs": 2, "memory_gb": 4, "labels": lambda name: (name.split("_")[0], name)})
    lab.workflow(*(one for chain in chains for one in chain), chains=chains).run(plugin=plugin)
    spans = {name: span for name, (span,) in lab.spans().items()}
    runs = [(spans[f"run{i}_a"][0], spans[f"run{i}_c"][1]) for i in range(6)]
    for begin, _ in runs:
        assert sum(first <= begin < last for first, last in runs) <= 2
    assert max(overlap(spans["run0_a"], spans[name]) for name in spans if not name.startswith("run0")) > 0


def test_a_failed_run_makes_room_for_the_next(lab):
    failing = [lab.complain(f"run{i}_a", "no") for i in range(3)]
    after = [lab.nap(f"run{i}_b") for i in range(3)]
    last = lab.nap("run9_a")
    plugin = ProcessPool(plugin_args={"n_procs": 1, "memory_gb": 4, "raise_on_failure": False,
                                      "labels": lambda name: (name.split("_")[0], name)})  # fmt: skip
    lab.workflow(*failing, *after, last, chains=zip(failing, after, strict=True)).run(plugin=plugin)
    assert lab.begun() == ["run9_a"] and len(plugin.failures) == 3 and len(plugin.not_run) == 3


def overlap(first, second):
    return min(first[1], second[1]) - max(first[0], second[0])
