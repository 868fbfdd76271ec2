"""A graph ends, says what happened, and continues, whatever becomes of its processes."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from qsmprep.engine.graph import NodesFailed
from qsmprep.engine.inprocess import InProcess
from qsmprep.engine.job import death_message, describe_exit
from qsmprep.engine.pool import ProcessPool


def overlap(first, second):
    return min(first[1], second[1]) - max(first[0], second[0])


def pool(**args):
    return ProcessPool(plugin_args={"n_procs": 4, "memory_gb": 4, **args})


def test_a_killed_node_fails_with_a_clear_message_and_the_others_finish(lab):
    dying = lab.kill_itself("dying")
    dependent, last = lab.nap("dependent"), lab.nap("last")
    independent = [lab.nap(f"independent{i}", 0.2) for i in range(3)]
    plugin = pool()
    graph = lab.workflow(dying, dependent, last, *independent, chains=[(dying, dependent, last)])
    with pytest.raises(NodesFailed, match="1 of the graph's nodes failed; 2 nodes"):
        graph.run(plugin=plugin)

    (failure,) = plugin.failures
    assert failure.node == "graph.dying"
    assert "killed by signal 9 (SIGKILL)" in failure.message
    assert "memory" in failure.message and "--mem-mb" in failure.message and "0.1 GB" in failure.message
    crash_file = Path(failure.crash_file)
    assert crash_file.parent == lab.folder / "crashes" and crash_file.suffix == ".txt"
    assert "SIGKILL" in crash_file.read_text()
    assert set(plugin.not_run) == {"graph.dependent", "graph.last"}
    assert set(lab.spans()) == {"independent0", "independent1", "independent2"}


def test_a_node_killed_beside_others_is_run_once_more_alone(lab, caplog):
    dying = lab.kill_itself("dying", times=1, seconds=0.2)
    neighbours = [lab.nap(f"neighbour{i}", 0.6) for i in range(2)]
    plugin = pool()
    with caplog.at_level(logging.WARNING, "qsmprep"):
        lab.workflow(dying, *neighbours).run(plugin=plugin)
    assert plugin.failures == []
    assert (lab.folder / "dying.count").read_text() == "xx"
    assert all(len(spans) == 1 for spans in lab.spans().values()), "neighbours must not be run again"
    assert "once more, alone" in caplog.text


def test_a_node_killed_twice_is_given_up(lab):
    plugin = pool(raise_on_failure=False)
    lab.workflow(lab.kill_itself("dying", seconds=0.2), lab.nap("neighbour", 0.5)).run(plugin=plugin)
    assert [failure.node for failure in plugin.failures] == ["graph.dying"]
    assert (lab.folder / "dying.count").read_text() == "xx"


def test_a_node_killed_while_alone_is_not_run_again(lab):
    plugin = pool(raise_on_failure=False)
    lab.workflow(lab.kill_itself("dying")).run(plugin=plugin)
    assert len(plugin.failures) == 1
    assert (lab.folder / "dying.count").read_text() == "x"


@pytest.mark.parametrize("plugin_class", [ProcessPool, InProcess])
def test_an_exception_is_reported_by_its_own_words(lab, plugin_class):
    failing, after, other = lab.complain("failing", "Volume x.nii has no voxel."), lab.nap("after"), lab.nap("other")
    plugin = plugin_class(plugin_args={"raise_on_failure": False})
    lab.workflow(failing, after, other, chains=[(failing, after)]).run(plugin=plugin)
    (failure,) = plugin.failures
    assert failure.message == "ValueError: Volume x.nii has no voxel."
    assert "line" in Path(failure.crash_file).read_text(), "the crash file holds the traceback"
    assert plugin.not_run == ["graph.after"]
    assert [timing.node for timing in plugin.timings] == ["graph.other"]


@pytest.mark.parametrize("plugin_class", [ProcessPool, InProcess])
def test_stopping_on_the_first_crash_runs_nothing_more(lab, plugin_class):
    failing = lab.complain("failing", "no")
    chain = [failing, *(lab.nap(f"later{i}") for i in range(2))]
    slow = [lab.nap("slow", 30)] if plugin_class is ProcessPool else []
    plugin = plugin_class(plugin_args={"stop_on_first_crash": True, "n_procs": 2, "memory_gb": 1})
    with pytest.raises(NodesFailed):
        lab.workflow(*chain, *slow, chains=[chain]).run(plugin=plugin)
    assert lab.spans() == {}
    assert set(plugin.not_run) == {f"graph.{node.name}" for node in [*chain[1:], *slow]}


@pytest.mark.parametrize("plugin_class", [ProcessPool, InProcess])
def test_a_second_run_takes_up_finished_nodes(lab, plugin_class):
    first, second = lab.nap("first"), lab.nap("second")
    dying = lab.complain("failing", "no")
    graph = lab.workflow(first, second, dying, chains=[(first, second, dying)])
    for expect_cached in (False, True):
        plugin = plugin_class(plugin_args={"raise_on_failure": False})
        graph.run(plugin=plugin)
        assert [timing.cached for timing in plugin.timings] == [expect_cached, expect_cached]
    assert lab.begun() == ["first", "second"]


def test_a_killed_run_leaves_no_process_and_continues(lab):
    script = lab.folder / "run.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from conftest import Lab
        from qsmprep.engine.pool import ProcessPool
        lab = Lab(Path({str(lab.folder)!r}))
        first, slow = lab.nap("first"), lab.nap("slow", float(sys.argv[1]))
        if __name__ == "__main__":
            plugin = ProcessPool(plugin_args=dict(n_procs=2, memory_gb=1))
            lab.workflow(first, slow, chains=[(first, slow)]).run(plugin=plugin)
        """)
    )
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, None), (signal.SIGKILL, -9)):
        done = len(lab.begun())
        process = subprocess.Popen([sys.executable, script, "60"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while "slow" not in lab.begun()[done:]:
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(30) == status if status is not None else process.wait(30) != 0
        until = time.monotonic() + 10
        while (left := lab.processes()) and time.monotonic() < until:
            time.sleep(0.05)
        assert left == [], f"left behind after signal {number}"
    subprocess.run([sys.executable, script, "0.01"], check=True, stdout=subprocess.DEVNULL)
    assert lab.begun() == ["first", "slow", "slow", "slow", "slow"]


@pytest.mark.parametrize("sent", [0, 100], ids=["nothing", "a part"])
def test_a_process_whose_work_was_never_sent_ends_without_a_word(lab, sent):
    script = lab.folder / "run.py"
    script.write_text(
        textwrap.dedent(f"""
        import multiprocessing, multiprocessing.popen_forkserver, os, time
        from contextlib import suppress
        from qsmprep.engine.forking import imports_of_this_process, warm_up

        def stopped(pipe, mode, closefd):
            os.write(pipe, bytes.fromhex("80049564000000000000008c") + bytes([{sent}]) if {sent} else b"")
            os.close(pipe)
            raise InterruptedError

        if __name__ == "__main__":
            warm_up()
            multiprocessing.popen_forkserver.open = stopped
            with suppress(InterruptedError), imports_of_this_process():
                multiprocessing.get_context("forkserver").Process(target=print).start()
            time.sleep(1)
        """)
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize("resources", [{"n_procs": 2}, {"mem_gb": 0.6}])
def test_limits_are_respected(lab, resources):
    nodes = [lab.nap(f"node{i}", 0.2, **resources) for i in range(3)]
    plugin = ProcessPool(plugin_args={"n_procs": 3, "memory_gb": 1})
    lab.workflow(*nodes).run(plugin=plugin)
    spans = [span for (span,) in lab.spans().values()]
    assert all(overlap(a, b) <= 0 for i, a in enumerate(spans) for b in spans[:i])


def test_nodes_run_one_at_a_time_where_memory_is_dear(lab):
    lab.workflow(*(lab.nap(f"node{i}", 0.2) for i in range(3))).run(plugin=pool(one_at_a_time=True))
    spans = [span for (span,) in lab.spans().values()]
    assert all(overlap(a, b) <= 0 for i, a in enumerate(spans) for b in spans[:i])


def test_small_nodes_run_side_by_side(lab):
    lab.workflow(lab.nap("one", 0.5), lab.nap("two", 0.5)).run(plugin=pool())
    (one,), (two,) = lab.spans().values()
    assert overlap(one, two) > 0


def test_a_node_larger_than_the_limits_runs_alone_with_a_warning(lab, caplog):
    with caplog.at_level(logging.WARNING, "qsmprep"):
        nodes = [lab.nap("large", 0.2, mem_gb=50), *(lab.nap(f"small{i}", 0.2, mem_gb=0) for i in range(2))]
        lab.workflow(*nodes).run(plugin=pool())
    assert "graph.large is expected to need 50.0 GB, more than the 4.0 GB allowed" in caplog.text
    (large,) = lab.spans().pop("large")
    assert all(overlap(large, span) <= 0 for name, (span,) in lab.spans().items() if name != "large")


def test_timings_tell_seconds_and_memory(lab):
    plugin = pool()
    lab.workflow(lab.nap("one", 0.2)).run(plugin=plugin)
    (timing,) = plugin.timings
    assert timing.seconds > 0.2 and 0.01 < timing.peak_gb < 4 and timing.expected_gb == 0.1 and not timing.cached


def test_what_a_node_logs_reaches_the_main_process(lab, caplog):
    with caplog.at_level(logging.WARNING, "qsmprep"):
        lab.workflow(lab.talk("one", "echo 3 looks odd")).run(plugin=pool())
    assert [(record.name, record.getMessage()) for record in caplog.records] == [("qsmprep.step", "echo 3 looks odd")]


def test_exits_are_told_in_words():
    assert describe_exit(-11) == "killed by signal 11 (SIGSEGV)"
    assert describe_exit(3) == "ended with exit code 3"
    assert "compiled code" in death_message(-11, 1, 2, False)
    assert "after it had been killed beside others" in death_message(-9, 1, 2, True)


def test_a_full_disk_is_told_with_its_folder_and_what_to_do(lab):
    plugin = pool(raise_on_failure=False)
    lab.workflow(lab.complain("writing", "[Errno 28] No space left on device")).run(plugin=plugin)
    (failure,) = plugin.failures
    assert failure.message.startswith(f"{lab.folder}/work/graph/writing: the disk is full (")
    assert "Free space" in failure.message


def test_a_crash_file_that_cannot_be_written_harms_no_other_node(lab, caplog):
    (lab.folder / "crashes").write_text("not a folder")
    plugin = pool(raise_on_failure=False)
    lab.workflow(lab.complain("failing", "no"), lab.nap("other", 0.2)).run(plugin=plugin)
    (failure,) = plugin.failures
    assert str(failure).endswith("failing: ValueError: no")
    assert set(lab.spans()) == {"other"}
