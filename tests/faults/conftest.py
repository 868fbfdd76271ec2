"""The real command on a small simulated head, disturbed on purpose; what it leaves is compared with a quiet run."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.options import SimulationOptions

FAST = ("--pipeline", "fast", "--inversion", "tkd", "--relaxometry", "none", "--separation", "none",
        "--phase-offset", "none", "--skip-bids-validation")  # fmt: skip
CODE = "import sys; from qsmprep.cli.run import main; sys.exit(main())"
PASSING = ("seconds", "started", "command", "file", "message", "text")  # of a record: what tells of one call


@dataclass
class Bench:
    """Folders of one test: output, work folder, and a TMPDIR by which every process of the test is known."""

    bids: Path
    folder: Path
    words: tuple[str, ...] = FAST
    environment: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    program: tuple[str, ...] = (sys.executable, "-P", "-c", CODE)

    def __post_init__(self) -> None:
        self.out, self.work, self.tmp = (self.folder / name for name in ("out", "work", "tmp"))
        self.tmp.mkdir(parents=True, exist_ok=True)

    def command(self, *words: str) -> list[str]:
        return [*self.prefix, *self.program, str(self.bids), str(self.out), "participant", "-w", str(self.work),
                *self.words, *words]  # fmt: skip

    def start(self, *words: str, **how) -> subprocess.Popen:
        environment = {**os.environ, "TMPDIR": str(self.tmp), **self.environment}
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | how
        return subprocess.Popen(self.command(*words), env=environment, text=True, **streams)

    def run(self, *words: str, **how) -> tuple[int, str]:
        """Run the command to its end; its status and what it said."""
        process = self.start(*words, **how)
        said, _ = process.communicate(timeout=600)
        return process.returncode, said

    def processes(self) -> list[int]:
        """Every process that still runs with this bench's TMPDIR, whoever its parent is."""
        mark, found = f"TMPDIR={self.tmp}\0".encode(), []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (entry / "environ").read_bytes() and "\nState:\tZ" not in (entry / "status").read_text():
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def workers(self) -> list[int]:
        """Processes of nodes: each leads a session of its own, which neither the program nor its server does."""
        found = []
        for pid in self.processes():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes()
                if b"multiprocessing.forkserver" in words and os.getsid(pid) == pid:
                    found.append(pid)
            except OSError:
                continue
        return found

    def assert_nothing_runs(self, within_s: float = 10.0) -> None:
        until = time.monotonic() + within_s
        while (left := self.processes()) and time.monotonic() < until:
            time.sleep(0.05)
        told = [Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")[:200] for pid in left]
        assert not left, f"left running: {told}"

    def assert_tidy(self) -> None:
        """Nothing runs, TMPDIR is empty, and no half file lies anywhere."""
        self.assert_nothing_runs()
        assert os.listdir(self.tmp) == []
        assert not [path for folder in (self.out, self.work) for path in folder.rglob(".*.part")]

    def results(self) -> dict[str, str]:
        """What a run leaves of lasting value: digest of each file of the participants, without times."""
        found = {}
        for path in sorted(self.out.rglob("sub-*/**/*")):
            if path.is_file():
                content = path.read_bytes()
                if path.name.endswith("_record.json"):
                    content = json.dumps(_lasting(json.loads(content)), sort_keys=True).encode()
                found[str(path.relative_to(self.out))] = hashlib.sha256(content).hexdigest()
        return found


def _lasting(value):
    if isinstance(value, dict):
        return {key: _lasting(item) for key, item in value.items() if key not in PASSING}
    return [_lasting(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="session")
def head(tmp_path_factory) -> Path:
    return simulate(tmp_path_factory.mktemp("faults") / "bids", SimulationOptions(voxel_size="6"))


@pytest.fixture(scope="session")
def quiet(head, tmp_path_factory) -> Bench:
    """An undisturbed run."""
    bench = Bench(head, tmp_path_factory.mktemp("quiet"))
    status, said = bench.run()
    assert status == 0, said
    bench.assert_tidy()
    return bench


@pytest.fixture
def bench(head, tmp_path) -> Iterator[Bench]:
    made = Bench(head, tmp_path)
    yield made
    for pid in made.processes():
        os.kill(pid, signal.SIGKILL)
