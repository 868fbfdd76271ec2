"""Locks on open files, which the kernel drops when their holder ends, however it ends."""

from __future__ import annotations

import enum
import errno
import fcntl
import os
from pathlib import Path

_NOT_KNOWN = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EINVAL)


class Lock(enum.Enum):
    """Whose a lock is; UNKNOWN where the file system knows no locks."""

    OURS = enum.auto()
    ANOTHERS = enum.auto()
    UNKNOWN = enum.auto()


def lock(descriptor: int) -> Lock:
    """Try to lock an open file without waiting; the lock ends with the descriptor."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return Lock.ANOTHERS
        if error.errno in _NOT_KNOWN:
            return Lock.UNKNOWN
        raise
    return Lock.OURS


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file still is what lies at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False
