"""Limits of containers and clusters count, not only those of the machine."""

from __future__ import annotations

import pytest

from qsmprep.engine.resources import (
    available_cores,
    available_memory_gb,
    estimate_mem_gb,
    total_memory_gb,
)

GIB = 2**30


@pytest.fixture
def machine(tmp_path):
    """A machine of 64 GiB, 32 of them free, made of files."""
    write(tmp_path, "proc/meminfo", f"MemTotal: {64 * 2**20} kB\nMemFree: 1 kB\nMemAvailable: {32 * 2**20} kB\n")
    write(tmp_path, "proc/self/cgroup", "0::/job/step\n")
    return tmp_path


def write(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(str(text))


def test_without_limits_the_machine_counts(machine):
    write(machine, "sys/fs/cgroup/job/step/memory.max", "max\n")
    assert available_memory_gb(machine) == 32
    assert total_memory_gb(machine) == 64


def test_a_limit_of_an_outer_group_counts_and_page_cache_is_not_use(machine):
    write(machine, "sys/fs/cgroup/job/step/memory.max", "max")
    write(machine, "sys/fs/cgroup/job/memory.max", 8 * GIB)
    write(machine, "sys/fs/cgroup/job/memory.current", 5 * GIB)
    write(machine, "sys/fs/cgroup/job/memory.stat", f"anon 1\ninactive_file {2 * GIB}\n")
    assert available_memory_gb(machine) == 5
    assert total_memory_gb(machine) == 8


def test_version_one_groups_count_and_its_no_limit_does_not(machine):
    write(machine, "proc/self/cgroup", "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n")
    write(machine, "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", 2**63 - 4096)
    assert available_memory_gb(machine) == 32
    # inside the container the group's own path does not exist; its limits stand at the mount point
    write(machine, "sys/fs/cgroup/memory/memory.limit_in_bytes", 3 * GIB)
    write(machine, "sys/fs/cgroup/memory/memory.usage_in_bytes", GIB)
    assert available_memory_gb(machine) == 2


def test_a_cpu_quota_bounds_the_cores(machine):
    assert available_cores(machine) >= 1
    write(machine, "sys/fs/cgroup/job/cpu.max", "50000 100000")
    assert available_cores(machine) == 1


def test_memory_grows_with_voxels_and_echoes():
    base = estimate_mem_gb((256, 256, 128), copies=8)
    assert base == pytest.approx(0.215 + 0.25, abs=1e-3)
    assert estimate_mem_gb((256, 256, 128), copies=8, n_echoes=8) == pytest.approx(0.715, abs=1e-3)
