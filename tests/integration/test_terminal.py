"""What a person sees in a terminal: every warning whole, once, with its run; the verdict at the end."""

import json
import os
import pty
import subprocess
import sys
import threading

import pyte
import pytest

from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.options import SimulationOptions

COLUMNS, LINES = 100, 40


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("terminal") / "bids", SimulationOptions(voxel_size="7"))


def in_terminal(command, cwd, stderr=None):
    """Exit status of a command in a terminal, and all lines that were seen on it, also those that scrolled away."""
    ours, theirs = pty.openpty()
    screen = pyte.HistoryScreen(COLUMNS, LINES, history=100_000, ratio=1.0)
    stream = pyte.ByteStream(screen)

    def read():
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # the other end is closed
                return
            if not data:
                return
            stream.feed(data)

    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(COLUMNS), "LINES": str(LINES)}
    process = subprocess.Popen(command, cwd=cwd, stdin=theirs, stdout=theirs, stderr=stderr or theirs, env=environment)
    reader = threading.Thread(target=read)
    reader.start()
    status = process.wait(timeout=600)
    os.close(theirs)
    reader.join(timeout=10)
    os.close(ours)
    gone = ["".join(line[x].data for x in range(COLUMNS)) for line in screen.history.top]
    return status, [line.rstrip() for line in (*gone, *screen.display)]


def squeezed(text):
    """The text without blanks: a terminal breaks lines where it likes."""
    return "".join(text.split())


def test_warnings_are_whole_and_told_once_and_the_verdict_comes_last(dataset, tmp_path):
    words = [sys.executable, "-m", "qsmprep.cli.run", dataset, tmp_path / "out", "participant", "-w", tmp_path / "work"]
    status, lines = in_terminal([*map(str, words), "--sloppy", "--skip-bids-validation"], tmp_path)
    assert status == 0, lines
    seen = squeezed(" ".join(lines))
    record = json.loads((tmp_path / "out" / "sub-01" / "figures" / "sub-01_record.json").read_text("utf-8"))
    warnings = [*record["warnings"], *(warning for step in record["steps"] for warning in step["warnings"])]
    assert len(warnings) >= 2
    for warning in warnings:
        assert seen.count(squeezed(warning["text"])) == 1, (warning, lines)
    told = [line for line in lines if line.startswith("Warning: ")]
    assert told and all(line.startswith("Warning: sub-01: ") for line in told)
    assert "WARNING" not in seen
    last = seen[seen.index("1of1runssucceeded") :]
    assert "sub-01:donotuse(asloppyrun" in last and "sub-01.html" in last
    assert "steps" in seen  # the display's last line


def test_what_goes_to_a_file_is_not_shown_in_the_terminal(dataset, tmp_path):
    words = [sys.executable, "-m", "qsmprep.cli.run", dataset, tmp_path / "out", "participant", "-w", tmp_path / "work"]
    with open(tmp_path / "err.txt", "w") as stream:
        status, lines = in_terminal(
            [*map(str, words), "--sloppy", "--dry-run", "--skip-bids-validation"], tmp_path, stream
        )
    assert status == 0, lines
    assert "sub-01: This is a sloppy run" in (tmp_path / "err.txt").read_text("utf-8")
    assert "sloppy run" not in " ".join(lines)
