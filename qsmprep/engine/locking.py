"""One process at a time on a run of a participant in a work folder."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from qsmprep.files.locks import Lock, is_at, lock

logger = logging.getLogger("qsmprep")
LOCKS = ".qsmprep-locks"


class Busy(ValueError):
    """Another process works on the same runs in the same folder."""


@contextmanager
def locked_runs(work_dir: Path, names: Sequence[str]) -> Iterator[None]:
    """Hold the runs of these names in a work folder; jobs on other runs may share the folder.

    A process that is killed holds nothing. Children do not inherit the locks. Raises Busy, naming host and process,
    where another holds one of the runs; where the file system knows no locks, a warning says so and the run goes on.
    """
    folder = Path(work_dir) / LOCKS
    with ExitStack() as held:
        for name in sorted(set(names)):
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{name}.lock"
            descriptor, whose = _open_locked(path)
            if whose is Lock.ANOTHERS:
                holder = os.pread(descriptor, 300, 0).decode("utf-8", "replace").strip()
                os.close(descriptor)
                raise Busy(
                    f"{work_dir}: {holder or 'another process'} works on {name} in this work folder. Wait until it has "
                    "ended, or give another --work-dir and another output folder."
                )
            held.callback(os.close, descriptor)
            if whose is Lock.UNKNOWN:
                logger.warning(
                    "%s: its file system knows no locks, so that nothing keeps a second run from this work folder. "
                    "Start one run of a participant at a time.",
                    work_dir,
                )
                break
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            held.callback(path.unlink, missing_ok=True)  # while it is still ours
        yield


def is_held(work_dir: Path, name: str) -> bool:
    """Whether a process, this one included, holds the run of that name in a work folder."""
    path = Path(work_dir) / LOCKS / f"{name}.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        return lock(descriptor) is Lock.ANOTHERS
    finally:
        os.close(descriptor)


def _open_locked(path: Path) -> tuple[int, Lock]:
    """Open and try to lock a file, made if missing; one that was removed in between is made anew."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        whose = lock(descriptor)
        if whose is not Lock.OURS or is_at(descriptor, path):
            return descriptor, whose
        os.close(descriptor)
