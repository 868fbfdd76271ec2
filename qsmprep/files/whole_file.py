"""Files that are whole or not there, whoever else writes beside, and whatever ends the writer."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from qsmprep.files.locks import Lock, is_at, lock

PART = re.compile(r"\..*\.[0-9a-f]{16}\.part")
LONGEST_STEM = 50  # characters of the final name that a half file repeats: names end at 255 bytes
DAY_S = 86400.0


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file whole: to a name beside it that no other process has, synced, then renamed.

    Nothing is left after an error. What a killed process left in the folder is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    stream, temporary = _open_part(path)
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove from a folder the half files of writers that were killed; those of living writers stay.

    A living writer holds a lock on its file. Where the file system knows no locks, a day without a change is death.
    """
    left: list[Path] = []
    with suppress(OSError), os.scandir(folder) as entries:
        left += [Path(entry.path) for entry in entries if PART.fullmatch(entry.name)]
    for part in left:
        with suppress(OSError):
            descriptor = os.open(part, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                whose, age_s = lock(descriptor), time.time() - os.fstat(descriptor).st_mtime
                if whose is Lock.OURS or (whose is Lock.UNKNOWN and age_s > DAY_S):
                    part.unlink()
            finally:
                os.close(descriptor)


def remove_leftovers_below(folders: Iterable[Path]) -> None:
    """`remove_leftovers` of each of these folders and of all folders in them."""
    for folder in folders:
        for path, _, names in os.walk(folder):
            if any(PART.fullmatch(name) for name in names):
                remove_leftovers(Path(path))


def _open_part(path: Path) -> tuple[BinaryIO, Path]:
    """A new file beside `path`, locked, with the mode that the umask gives; and its name."""
    while True:
        temporary = path.with_name(f".{path.name[:LONGEST_STEM]}.{secrets.token_hex(8)}.part")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            continue
        stream = os.fdopen(descriptor, "wb")
        # Between its making and its locking, somebody who cleans may have taken it for a leftover.
        if lock(descriptor) is not Lock.ANOTHERS and is_at(descriptor, temporary):
            return stream, temporary
        stream.close()


def _sync_folder(folder: Path) -> None:
    """Make a rename in a folder outlast a loss of power, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
