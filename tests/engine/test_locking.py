"""One run of a participant at a time in a work folder; a killed run holds nothing."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys

import pytest

from qsmprep.engine.locking import LOCKS, Busy, locked_runs

HOLD = """
import sys, time
from qsmprep.engine.locking import locked_runs
with locked_runs(sys.argv[1], ["sub_01"]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_of_a_participant_is_refused_by_name_and_others_are_not(tmp_path, holder):
    with locked_runs(tmp_path, ["sub_02"]):
        pass
    said = f"process {holder.pid} on {socket.gethostname()} works on sub_01"
    with pytest.raises(Busy, match=said), locked_runs(tmp_path, ["sub_00", "sub_01"]):
        pytest.fail("two at once")
    with locked_runs(tmp_path, ["sub_00"]):
        pass  # what was taken before the refusal is free again


def test_a_killed_run_holds_nothing_and_an_ended_one_leaves_nothing(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked_runs(tmp_path, ["sub_01"]):
        assert os.listdir(tmp_path / LOCKS) == ["sub_01.lock"]
    assert os.listdir(tmp_path / LOCKS) == []


def test_children_do_not_hold_the_lock(tmp_path):
    with locked_runs(tmp_path, ["sub_01"]):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    with locked_runs(tmp_path, ["sub_01"]):
        pass
    child.communicate(b"\n")


def test_where_there_are_no_locks_a_warning_says_so(tmp_path, monkeypatch, caplog):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with locked_runs(tmp_path, ["sub_01", "sub_02"]):
        pass
    (line,) = caplog.messages
    assert "knows no locks" in line
