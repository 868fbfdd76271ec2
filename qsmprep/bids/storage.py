"""What goes wrong with files and disks, in words."""

from __future__ import annotations

import errno
import os
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
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
        what = "the disk is full" if error.errno == errno.ENOSPC else "the quota of disk space is used up"
        return f"{where}: {what}. Free space and run the same command again: what was computed is kept."
    if error.errno in DENIED:
        why = error.strerror
        return f"{where}: may not be read or written ({why}). Change its permissions, or choose another folder."
    return f"{where}: {error.strerror or error}. Look at the file or folder, then run the same command again."
