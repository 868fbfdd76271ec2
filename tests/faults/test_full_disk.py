"""A full disk is named, costs the runs it met, and the same command ends the work when there is room."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def small_disk(tmp_path):
    """Mounts file systems of so many kB."""
    mounted: list[Path] = []

    def mount(folder: Path, size_kb: int) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", str(folder)]
        if os.getuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no file system can be mounted here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def more_room(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=1g", str(folder)], check=True)


@pytest.mark.faults
@pytest.mark.parametrize("size_kb", [40, 300, 900, 2000])
@pytest.mark.parametrize("which", ["work", "out"])
def test_a_full_disk_is_told_and_the_same_command_goes_on(bench, quiet, small_disk, which, size_kb):
    folder = small_disk(getattr(bench, which), size_kb)
    status, said = bench.run()
    if status == 0:
        pytest.skip("the disk was large enough")
    assert status == 1, said
    assert "No space left on device" in said or "is full" in said, said
    assert str(folder) in said, said
    assert "Traceback" not in said, said
    bench.assert_nothing_runs()
    more_room(folder)
    status, said = bench.run()
    assert status == 0, said
    assert bench.results() == quiet.results()
    bench.assert_tidy()
