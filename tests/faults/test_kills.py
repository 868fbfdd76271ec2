"""A run that is killed or stopped, at whatever moment, leaves nothing behind, and the same command ends it."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time

import pytest

MOMENTS = 20


def wait_for(process: subprocess.Popen, words: str) -> str:
    """Read what a run says until it says these words."""
    said = ""
    for line in process.stdout:
        said += line
        if words in line:
            return said
    pytest.fail(f"never said {words!r}: {said}")


def assert_the_same_command_ends_it(bench, quiet) -> str:
    status, said = bench.run()
    assert status == 0, said
    assert bench.results() == quiet.results()
    bench.assert_tidy()
    return said


@pytest.fixture(scope="module")
def duration_s(quiet, tmp_path_factory) -> float:
    again = type(quiet)(quiet.bids, tmp_path_factory.mktemp("timed"))
    begun = time.monotonic()
    assert again.run()[0] == 0
    return time.monotonic() - begun


def test_a_run_ended_while_a_node_works_goes_on_with_the_same_command(bench, quiet):
    process = bench.start()
    wait_for(process, "brain mask image")
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 143
    assert "Traceback" not in said
    assert said.splitlines()[-1] == "qsmprep: stopped by SIGTERM; the same command goes on where it was."
    bench.assert_tidy()

    process = bench.start()
    wait_for(process, "field unwrap")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    bench.assert_nothing_runs()
    assert os.listdir(bench.tmp) == []
    assert "field unwrap, from an earlier run" in assert_the_same_command_ends_it(bench, quiet)


def test_what_a_node_had_begun_to_write_goes_with_it(bench):
    process = bench.start()
    wait_for(process, "brain mask image")
    for folder in (bench.out / "sub-01" / "fmap", bench.work / "qsmprep" / "sub_01" / "field_wf" / "unwrap"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f".map.json.{'0' * 16}.part").touch()  # as a node leaves it that is ended while it writes
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    bench.assert_tidy()


@pytest.mark.faults
@pytest.mark.parametrize("moment", range(MOMENTS))
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_a_run_killed_at_any_moment_goes_on(bench, quiet, duration_s, number, moment):
    process = bench.start()
    time.sleep(duration_s * (moment + 0.5) / MOMENTS)
    ended = process.poll() is not None
    process.send_signal(number)
    sent = time.monotonic()
    said = process.communicate(timeout=60)[0]
    ended |= process.returncode == 0 and time.monotonic() - sent < 1  # nothing was left to do but to end
    expected = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    # before Python has read anything of ours it ends as Python does
    assert ended or process.returncode in {expected, -number if moment < 2 else expected}
    assert "Traceback" not in said or moment < 2, said
    bench.assert_nothing_runs()
    assert os.listdir(bench.tmp) == []
    if number != signal.SIGKILL and process.returncode != -number:
        bench.assert_tidy()
    assert_the_same_command_ends_it(bench, quiet)


def kill_a_worker(bench, process, after_s: float) -> None:
    until = time.monotonic() + after_s
    while time.monotonic() < until or not (workers := bench.workers()):
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(workers[-1], signal.SIGKILL)


@pytest.mark.faults
@pytest.mark.parametrize("moment", range(10))
def test_a_worker_that_the_kernel_kills_is_run_again_or_named(bench, quiet, duration_s, moment):
    process = bench.start()
    try:
        kill_a_worker(bench, process, duration_s * (0.25 + 0.6 * moment / 10))
    except (AssertionError, ProcessLookupError):
        pytest.skip("the run was quicker than the hand")
    said = process.communicate(timeout=600)[0]
    assert process.returncode == 0 or (process.returncode == 1 and "want of memory" in said), said
    bench.assert_tidy()
    assert_the_same_command_ends_it(bench, quiet)


def in_a_terminal(bench, words: str, delay_s: float) -> tuple[int, str]:
    """Run in a terminal of its own, press Ctrl-C so long after these words are shown; status and what was shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"TMPDIR": str(bench.tmp), "TERM": "dumb"}
        os.execv(bench.command()[0], bench.command())
    shown, pressed, begun, due = b"", False, time.monotonic(), float("inf")
    while True:
        if select.select([terminal], [], [], 0.02)[0]:
            try:
                shown += os.read(terminal, 65536)
            except OSError:  # everybody has left the terminal
                break
        if due == float("inf") and words.encode() in shown:
            due = time.monotonic() + delay_s
        if time.monotonic() > due and not pressed:
            os.write(terminal, b"\x03")
            pressed = True
        assert time.monotonic() - begun < 300
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode("utf-8", "replace")


def assert_one_line(status: int, shown: str) -> None:
    assert status == 130, shown
    assert "Traceback" not in shown and "Exception ignored" not in shown, shown
    assert "qsmprep: stopped by SIGINT; the same command goes on where it was." in shown


def test_ctrl_c_is_told_in_one_line(bench, quiet):
    assert_one_line(*in_a_terminal(bench, " -> ", 3.0))
    bench.assert_tidy()


def test_ctrl_c_while_modules_are_loaded_is_told_in_one_line(bench):
    status, shown = in_a_terminal(bench, "", 0.7)
    assert_one_line(status, shown)
    assert "sub-01" not in shown, "pressed too late to tell"
    bench.assert_nothing_runs()


@pytest.mark.faults
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_ctrl_c_at_any_moment(bench, quiet, duration_s, moment):
    status, shown = in_a_terminal(bench, "", 0.4 + (duration_s - 1.0) * moment / MOMENTS)
    if status == 0 and moment > 16:
        pytest.skip("the run was quicker than the hand")
    assert_one_line(status, shown)
    bench.assert_nothing_runs()
    assert os.listdir(bench.tmp) == []
    assert_the_same_command_ends_it(bench, quiet)
