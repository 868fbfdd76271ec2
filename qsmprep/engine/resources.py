"""What the machine offers, and what a step is going to need."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from qsmprep.numerics import threads

GIB = 2**30
# Resident memory of a worker before it holds an image, as measured, by what its step loads besides numpy, nibabel and
# nipype: nothing more; matplotlib; compiled loops and scipy. Compiling them for the first time takes 0.1 more.
FILES_GB, DRAWING_GB, COMPILED_GB = 0.135, 0.2, 0.215


def estimate_mem_gb(
    shape: Sequence[int],
    *,
    n_echoes: int = 0,
    copies: float = 4,
    padding: float = 1.0,
    bytes_per_voxel: int = 4,
    loaded_gb: float = COMPILED_GB,
) -> float:
    """Memory a step needs in GiB: arrays the size of the image, plus what its process has loaded.

    Parameters
    ----------
    shape : (n0, n1, n2) of the image in voxels.
    n_echoes : echoes of a multi-echo array held besides; 0 for a step that sees single volumes only.
    copies : volumes (inputs, results, temporaries) held at once at the peak.
    padding : factor by which zero-padding enlarges the volumes.
    bytes_per_voxel : 4 for float32.
    loaded_gb : FILES_GB, DRAWING_GB or COMPILED_GB.
    """
    voxels = math.prod(int(n) for n in shape[:3]) * padding
    return round(loaded_gb + voxels * bytes_per_voxel * (copies + n_echoes) / GIB, 3)


def available_cores(root: Path = Path("/")) -> int:
    """Cores this process may use: the smaller of its affinity and its container's CPU quota."""
    cores = threads.available_cores()
    for quota in _cpu_quotas(root):
        cores = min(cores, max(1, math.ceil(quota - 1e-6)))
    return cores


def available_memory_gb(root: Path = Path("/")) -> float:
    """Memory in GiB that can still be taken: the least of the machine's and that of every control group above."""
    limits = [_machine_available(root), *_group_rooms(root)]
    return max(0.0, min(limits)) / GIB


def total_memory_gb(root: Path = Path("/")) -> float:
    """Memory in GiB of the machine or of the container, whichever is smaller, whoever is using it now."""
    return min([_meminfo(root).get("MemTotal", math.inf), *(limit for limit, _ in _groups(root))]) / GIB


def _machine_available(root: Path) -> float:
    facts = _meminfo(root)
    return facts.get("MemAvailable", facts.get("MemFree", math.inf))


def _meminfo(root: Path) -> dict[str, float]:
    lines = (line.split() for line in _read(root / "proc/meminfo").splitlines())
    return {words[0].rstrip(":"): float(words[1]) * 1024 for words in lines if len(words) >= 2}


def _group_rooms(root: Path) -> Iterator[float]:
    for limit, used in _groups(root):
        yield limit - used


def _groups(root: Path) -> Iterator[tuple[float, float]]:
    """(limit, use that cannot be reclaimed) in bytes of every memory control group with a limit."""
    for folder in _group_folders(root, ""):
        limit = _number(folder / "memory.max")
        if limit is not None:
            yield limit, (_number(folder / "memory.current") or 0.0) - _reclaimable(folder, "inactive_file")
    for folder in _group_folders(root, "memory"):
        limit = _number(folder / "memory.limit_in_bytes")
        if limit is not None and limit < 2**60:  # version 1 says "no limit" by a number near 2**63
            used = _number(folder / "memory.usage_in_bytes") or 0.0
            yield limit, used - _reclaimable(folder, "total_inactive_file")


def _cpu_quotas(root: Path) -> Iterator[float]:
    for folder in _group_folders(root, ""):
        words = _read(folder / "cpu.max").split()
        if len(words) == 2 and words[0] != "max":
            yield float(words[0]) / float(words[1])
    for folder in _group_folders(root, "cpu"):
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if quota and period and quota > 0:
            yield quota / period


def _group_folders(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's control group and of those above it; controller "" is version 2.

    Inside a container the path may be the host's and not exist there: the mount point itself then tells the limits.
    """
    mount = root / "sys/fs/cgroup" / controller
    own = "/"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            own = path
    folder = mount / own.strip("/")
    while True:
        if folder.is_dir():
            yield folder
        if folder == mount or mount not in folder.parents:
            return
        folder = folder.parent


def _reclaimable(folder: Path, key: str) -> float:
    for line in _read(folder / "memory.stat").splitlines():
        if line.startswith(f"{key} "):
            return float(line.split()[1])
    return 0.0


def _number(path: Path) -> float | None:
    text = _read(path).strip()
    return float(text) if text.lstrip("-").isdigit() else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
