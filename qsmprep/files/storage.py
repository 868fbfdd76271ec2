"""What goes wrong with files and disks, in words."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
# The same in a message of another process or library; numpy tells of a short write in its own words.
FULL_IN_WORDS = re.compile(r"No space left on device|Disk quota exceeded|\d+ requested and \d+ written")
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


def storage_message(error: OSError, place: Path) -> str:
    """An error of the file system: where, what, and what to do.

    Parameters
    ----------
    error : as it was raised.
    place : folder that was written to, for an error that names no file.
    """
    where = error.filename or place
    if isinstance(where, bytes):
        where = os.fsdecode(where)
    if error.errno in FULL:
        return full_disk_message(where, quota=error.errno == errno.EDQUOT)
    if error.errno in DENIED:
        why = error.strerror
        return f"{where}: may not be read or written ({why}). Change its permissions, or choose another folder."
    return f"{where}: {error.strerror or error}. Look at the file or folder, then run the same command again."


def full_disk_message(place: str | Path, *, quota: bool = False, free_bytes: int | None = None) -> str:
    """A full disk or quota: where, how much is free if that is known, and what to do."""
    what = "the quota of disk space is used up" if quota else "the disk is full"
    room = "" if free_bytes is None else f" ({free_bytes / 2**20:.1f} MB are free)"
    return (
        f"{place}: {what}{room}. Free space, or give a folder on another disk, and run the same command again: what "
        "was computed is kept."
    )
