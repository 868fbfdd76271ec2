"""Where the program is run: a folder of foreign modules, no home, no right to write, another run beside it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.options import SimulationOptions

NOBODY = 54321
FOREIGN = ("json", "numpy", "nipype", "nibabel", "socket", "selectors", "signal", "struct", "pickle", "bids", "torch")


def program() -> tuple[str, ...]:
    """The command as it is installed."""
    installed = Path(sys.executable).with_name("qsmprep")
    if not installed.is_file():
        pytest.skip("the program is not installed beside this Python")
    return (str(installed),)


def test_no_module_of_the_current_folder_is_imported(quiet, tmp_path, monkeypatch):
    folder = tmp_path / "foreign"
    (folder / "qsmprep").mkdir(parents=True)
    act = f"open({str(tmp_path)!r} + '/executed-' + __name__, 'w').close()\n"
    for path in (*(folder / f"{name}.py" for name in FOREIGN), folder / "qsmprep" / "__init__.py"):
        path.write_text(act)
    before = quiet.results()
    monkeypatch.setattr(quiet, "program", program())
    status, said = quiet.run(cwd=folder)
    assert status == 0, said
    assert not list(tmp_path.glob("executed-*"))
    assert quiet.results() == before


@pytest.mark.faults
def test_a_folder_of_sources_is_not_taken_for_the_program(bench, tmp_path):
    root = Path(__file__).parents[2]
    shutil.copytree(root / "qsmprep", tmp_path / "clone" / "qsmprep", ignore=shutil.ignore_patterns("__pycache__"))
    bench.program = program()
    status, said = bench.run(cwd=tmp_path / "clone")
    assert status == 0, said


def as_nobody(mounts: Path) -> tuple[str, ...]:
    """Words before a command that run it under a user number without a name, a home or a group."""
    if os.getuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root can become another user")
    user = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "env", "-u", "HOME")
    test = subprocess.run([*user, sys.executable, "-c", "1"], capture_output=True, check=False, cwd="/")
    if test.returncode == 0:
        return user
    # Python lies in a folder that only root may enter, as under /root: show it there in a /root of our own
    base = Path("/", *Path(sys.base_prefix).resolve().parts[1:2])
    inside = Path("/", *Path(sys.base_prefix).resolve().parts[1:3])
    (mounts / "kept").mkdir(parents=True)
    script = (
        f"mount --bind {inside} {mounts}/kept && mount -t tmpfs -o mode=755 tmpfs {base} && mkdir {inside} && "
        f'mount --bind {mounts}/kept {inside} && exec "$@"'
    )
    around = ("unshare", "--mount", "sh", "-c", script, "sh", *user)
    test = subprocess.run([*around, sys.executable, "-c", "1"], capture_output=True, check=False, cwd="/")
    if test.returncode != 0:
        pytest.skip(f"nobody cannot run this Python: {test.stderr.decode()[-200:]}")
    return around


@pytest.fixture
def open_folder(tmp_path):
    """A folder for everybody, outside of the one that only this user may enter."""
    folder = Path("/var/tmp") / f"qsmprep-test-{os.getpid()}"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def nobody(head, bench, open_folder):
    """A bench in the open, whose command is run by nobody in a folder that cannot be written."""
    bids = shutil.copytree(head, open_folder / "bids")
    place = open_folder / "place"
    place.mkdir()
    bench = type(bench)(bids, place, prefix=as_nobody(open_folder / "mounts"))
    for folder in (bench.out, bench.work, bench.tmp):
        folder.mkdir(exist_ok=True)
        os.chown(folder, NOBODY, NOBODY)
    return bench


@pytest.mark.parametrize("home", [{}, {"HOME": "/nonexistent"}, {"HOME": ""}], ids=["unset", "missing", "empty"])
def test_a_user_without_name_or_home_hears_nothing_of_it(nobody, home):
    nobody.prefix = (*nobody.prefix, *(f"{name}={value}" for name, value in home.items()))
    status, said = nobody.run("--dry-run", cwd="/proc/self")
    assert status == 0, said
    assert "home" not in said.lower() and "matplotlib" not in said.lower() and "WARNING" not in said, said
    nobody.assert_tidy()


@pytest.mark.faults
@pytest.mark.parametrize("home", [{}, {"HOME": "/nonexistent"}], ids=["unset", "missing"])
def test_a_user_without_name_home_or_writable_folder_can_run_it(nobody, quiet, home):
    nobody.prefix = (*nobody.prefix, *(f"{name}={value}" for name, value in home.items()))
    status, said = nobody.run(cwd="/proc/self")
    assert status == 0, said
    assert "home" not in said.lower() and "matplotlib" not in said.lower(), said
    assert nobody.results() == quiet.results()
    nobody.assert_tidy()


def test_a_second_run_of_a_participant_is_refused_at_once(bench):
    first = bench.start()
    for line in first.stdout:
        if "[ 1/" in line:
            break
    first.send_signal(signal.SIGSTOP)  # so that it has not ended before the second looks
    second = type(bench)(bench.bids, bench.folder / "second")
    second.work = bench.work
    status, said = second.run()
    assert status == 2
    assert f"process {first.pid} on " in said and "works on sub_01 in this work folder" in said
    assert "Traceback" not in said
    assert first.poll() is None
    first.send_signal(signal.SIGCONT)
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=60)
    bench.assert_tidy()
    assert not list((bench.work / ".qsmprep-locks").iterdir())


@pytest.mark.faults
def test_runs_of_different_participants_share_folders(bench, quiet, tmp_path):
    bids = simulate(tmp_path / "bids", SimulationOptions(voxel_size="6"))
    shutil.copytree(bids / "sub-01", bids / "sub-02")
    for path in sorted((bids / "sub-02").rglob("*sub-01*")):
        path.rename(path.with_name(path.name.replace("sub-01", "sub-02")))
    bench.bids = bids
    both = [bench.start("--participant-label", label) for label in ("01", "02")]
    for process in both:
        said, _ = process.communicate(timeout=600)
        assert process.returncode == 0, said
    found = bench.results()
    for name, digest in quiet.results().items():
        if name.endswith(".nii.gz"):
            assert found[name] == found[name.replace("sub-01", "sub-02")] == digest
    bench.assert_tidy()


@pytest.mark.faults
def test_a_server_that_is_killed_does_not_end_the_run(bench, quiet):
    process = bench.start()
    for line in process.stdout:
        if "brain mask image" in line:
            break
    servers = [
        pid
        for pid in bench.processes()
        if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes() and os.getsid(pid) != pid
    ]
    for pid in servers:
        os.kill(pid, signal.SIGKILL)
    said, _ = process.communicate(timeout=600)
    assert servers and process.returncode in (0, 1) and "Traceback" not in said, said
    assert bench.run()[0] == 0
    assert bench.results() == quiet.results()
    bench.assert_tidy()
