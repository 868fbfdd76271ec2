"""Which files of a folder are those of an earlier command."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path


def is_of_earlier_command(path: Path, started: str) -> bool:
    """Whether a file was written before the command whose record says when it started; False where none can say.

    Parameters
    ----------
    path : of the file.
    started : as the record has it: ISO 8601, in whole seconds.
    """
    try:
        return os.stat(path).st_mtime < datetime.fromisoformat(started).timestamp()
    except (OSError, ValueError):
        return False
