"""The iterations of a long step reach the person, and nothing that goes wrong on the way harms the step."""

from __future__ import annotations

import io
import logging
import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from multiprocessing import Pipe
from pathlib import Path

import pytest

from qsmprep.engine.inprocess import InProcess
from qsmprep.engine.iterations import Iterations, callback, throttled, told_to
from qsmprep.engine.pool import ProcessPool
from qsmprep.engine.progress import LiveProgress, PlainProgress, Silent
from qsmprep.engine.worker import PipeHandler


class Listener(Silent):
    """A display that keeps what it is told."""

    def __init__(self):
        self.told: list[tuple[str, int, int]] = []

    def node_iterated(self, name, done, total):
        self.told.append((name, done, total))


class Broken(Silent):
    def node_iterated(self, name, done, total):
        raise OSError("the terminal is gone")


@pytest.mark.parametrize("plugin_class", [ProcessPool, InProcess])
def test_the_main_process_sees_the_iterations_of_a_node_a_few_times_a_second(lab, plugin_class):
    listener, began = Listener(), time.monotonic()
    lab.workflow(lab.iterate("solve", 300, 0.004)).run(plugin=plugin_class(plugin_args={"progress": listener}))
    seconds = time.monotonic() - began
    names, done, totals = zip(*listener.told, strict=True)
    assert set(names) == {"graph.solve"} and set(totals) == {300}
    assert list(done) == sorted(done) and done[0] == 1 and done[-1] > 100
    assert 3 <= len(done) <= 4 * seconds + 1


@pytest.mark.parametrize("plugin_class", [ProcessPool, InProcess])
def test_a_display_that_fails_fails_no_node(lab, plugin_class, caplog):
    plugin = plugin_class(plugin_args={"progress": Broken()})
    with caplog.at_level(logging.WARNING, "qsmprep"):
        lab.workflow(lab.iterate("solve", 50, 0.01)).run(plugin=plugin)
    assert plugin.failures == [] and len(plugin.timings) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "The display of progress failed and is left away: OSError: the terminal is gone"
    ]


def test_a_node_killed_in_between_begins_its_iterations_anew(lab):
    listener = Listener()
    solve, beside = lab.iterate("solve", 60, 0.02, die_at=40), lab.nap("beside", 1.5)
    lab.workflow(solve, beside).run(plugin=ProcessPool(plugin_args={"n_procs": 2, "progress": listener}))
    assert [done for _, done, _ in listener.told].count(1) == 2, "once killed beside another, once alone"


def test_a_pool_killed_in_between_leaves_no_process(lab):
    process = subprocess.Popen([sys.executable, script(lab, "60"), "plain"], stdout=subprocess.PIPE, text=True)
    assert "1\n" in process.stdout  # among nipype's own lines: iterations are on their way
    process.send_signal(signal.SIGKILL)
    process.wait()
    until = time.monotonic() + 10
    while (left := lab.processes()) and time.monotonic() < until:
        time.sleep(0.05)
    assert left == []


def script(lab, seconds):
    """A program that runs a graph of one node with 200 iterations, and shows them in the way that it is asked for."""
    path = lab.folder / "run.py"
    path.write_text(
        textwrap.dedent(f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from conftest import Lab
        from qsmprep.engine.pool import ProcessPool
        from qsmprep.engine.progress import Silent, make_progress

        class Numbers(Silent):
            def node_iterated(self, name, done, total):
                print(done, flush=True)

        lab = Lab(Path({str(lab.folder)!r}))
        inversion = lab.iterate("inversion", 200, {seconds} / 200)
        if __name__ == "__main__":
            display = make_progress() if sys.argv[1:] == ["live"] else Numbers()
            lab.workflow(inversion).run(plugin=ProcessPool(plugin_args=dict(progress=display)))
        """)
    )
    return path


def test_a_main_process_that_does_not_read_holds_up_nothing():
    receiving, sending = Pipe(duplex=False)
    handler = PipeHandler(sending)
    sender = threading.Thread(target=lambda: [handler.offer(Iterations(i, 9999)) for i in range(9999)], daemon=True)
    sender.start()
    sender.join(20)
    assert not sender.is_alive(), "the pipe is full, and the sender waits"
    received = []
    while receiving.poll():
        received.append(receiving.recv())
    assert received[:3] == [Iterations(0, 9999), Iterations(1, 9999), Iterations(2, 9999)] and len(received) < 9999
    handler.offer(Iterations(5, 9))
    assert receiving.poll(1) and receiving.recv() == Iterations(5, 9)


def test_a_log_record_that_waits_for_the_pipe_holds_up_no_iteration():
    handler = PipeHandler(Pipe(duplex=False)[1])
    holding = threading.Event()

    def hold():
        with handler._sending:
            holding.set()
            time.sleep(1.0)

    threading.Thread(target=hold, daemon=True).start()
    holding.wait(5)
    began = time.monotonic()
    handler.offer(Iterations(1, 2))
    assert time.monotonic() - began < 0.5


def test_a_reader_that_is_gone_is_asked_once_and_raises_nothing():
    calls = []

    def gone(iterations):
        calls.append(iterations)
        raise BrokenPipeError

    progress = throttled(gone, interval_s=0)
    for done in range(5):
        progress(done, 5)
    assert len(calls) == 1


def test_without_a_receiver_there_is_no_callback():
    assert callback() is None
    with told_to(lambda iterations: None):
        assert callback() is not None
    assert callback() is None


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_plain_output_tells_of_a_long_step_every_half_minute_and_of_a_short_one_nothing():
    stream, clock = io.StringIO(), Clock()
    display = PlainProgress(stream=stream, clock=clock)
    display.start(14, {"sub_01": 14})
    display.node_started("all.sub_01_wf.invert_fansi")
    for second in range(1, 76):
        clock.now = 100.0 + second
        display.node_iterated("all.sub_01_wf.invert_fansi", 4 * second, 400)
    display.node_finished("all.sub_01_wf.invert_fansi", 75.0, True)
    display.node_iterated("all.sub_01_wf.invert_fansi", 400, 400)  # came too late
    assert stream.getvalue().splitlines() == [
        "[ 0/14] sub_01: invert fansi, 120 of 400 after 30 s",
        "[ 0/14] sub_01: invert fansi, 240 of 400 after 60 s",
        "[ 1/14] sub_01: invert fansi, 75.0 s",
    ]


def test_work_of_unknown_size_is_told_without_a_total():
    stream, clock = io.StringIO(), Clock()
    display = PlainProgress(stream=stream, clock=clock)
    display.start(2, {"": 2})
    display.node_started("wf.solve")
    clock.now += 31
    display.node_iterated("wf.solve", 12, 0)
    assert stream.getvalue() == "[0/2] solve, 12 after 31 s\n"


def test_the_live_display_shows_iterations_in_the_steps_own_line():
    from rich.console import Console

    display = LiveProgress(stream=io.StringIO())
    display.start(3, {"sub_01": 3})
    display.node_started("all.sub_01_wf.invert_fansi")
    display.node_started("all.sub_01_wf.unwrap")
    display.node_iterated("all.sub_01_wf.invert_fansi", 120, 400)
    display.node_iterated("all.sub_01_wf.nobody", 1, 2)
    drawn = Console(file=io.StringIO(), width=120, record=True)
    drawn.print(display._display.get_renderable())
    overall, invert, unwrap = drawn.export_text().splitlines()
    display.stop()
    assert "steps 0/3" in overall
    assert re.search(r"sub_01: invert fansi .*━.* 120/400", invert)
    assert "120/400" not in unwrap


def test_a_person_at_a_terminal_sees_the_iterations(lab):
    main, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    process = subprocess.Popen(
        [sys.executable, script(lab, "2"), "live"], stdin=terminal, stdout=terminal, stderr=terminal, env=environment
    )
    os.close(terminal)
    seen = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:  # Linux's way to say that the other end is closed
            break
        if not part:
            break
        seen += part
    os.close(main)
    assert process.wait() == 0, seen.decode(errors="replace")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    shown = {int(done) for done in re.findall(r"inversion\s.*?(\d+)/200", text)}
    assert len(shown) >= 3 and max(shown) > 100
