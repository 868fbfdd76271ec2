"""Small files that others wrote: regular files alone, never more than a limit, and an error that says what to do."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from qsmprep.bids.problem import printable

# What dcm2niix writes is a few kB; embedded DICOM headers and slice tables make some MB.
SIDECAR_LIMIT_BYTES = 10 * 2**20
TEXT_LIMIT_BYTES = 10 * 2**20
LONGEST_NUMBER = 300  # digits; a double ends at 309
DEEPEST = 64  # objects and arrays within each other
FETCH = "Fetch or restore the data."
_CHUNK = 2**20
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class UnreadableFileError(ValueError):
    """A file that cannot be used; as text "file: what was found. What to do.".

    Attributes
    ----------
    path : the file.
    found : what is wrong with it.
    remedy : what the user can do.
    absent : whether it, or what it links to, does not exist.
    """

    def __init__(self, path: Path, found: str, remedy: str, absent: bool = False):
        super().__init__(path, found, remedy, absent)
        self.path, self.found, self.remedy, self.absent = path, found, remedy, absent

    def __str__(self) -> str:
        return printable(f"{self.path}: {self.found}. {self.remedy}".strip())


def open_regular(path: str | os.PathLike[str]) -> int:
    """A descriptor of a regular file opened for reading; waits for nothing, as a pipe without a writer would make it.

    Raises
    ------
    UnreadableFileError : anything but a regular file that may be read.
    """
    path = Path(path)
    descriptor = -1
    try:
        _demand_regular(path, os.stat(path).st_mode)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        _demand_regular(path, os.fstat(descriptor).st_mode)
    except FileNotFoundError:
        linked = path.is_symlink()
        found = "it links to data that is not here" if linked else "the file does not exist"
        raise UnreadableFileError(path, found, FETCH, True) from None
    except PermissionError:
        raise UnreadableFileError(path, "the file may not be read", "Give yourself permission to read it.") from None
    except UnreadableFileError:
        if descriptor >= 0:
            os.close(descriptor)
        raise
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        found = f"the file cannot be read ({getattr(error, 'strerror', None) or error})"
        raise UnreadableFileError(path, found, FETCH) from None
    return descriptor


def read_bytes(path: str | os.PathLike[str], *, limit_bytes: int = TEXT_LIMIT_BYTES) -> bytes:
    """The content of a regular file of at most `limit_bytes`; its errors are those of `open_regular`."""
    path = Path(path)
    found = f"the file has more than {limit_bytes / 2**20:.3g} MiB, the most that is read"
    too_large = UnreadableFileError(path, found, "Is it the right file? Leave out of it what is not needed.")
    with os.fdopen(open_regular(path), "rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size > limit_bytes:
            raise too_large
        parts: list[bytes] = []
        left = limit_bytes + 1  # the size may grow, and files of /proc tell none
        try:
            while left and (part := file.read(min(left, _CHUNK))):
                parts.append(part)
                left -= len(part)
        except OSError as error:
            found = f"the file cannot be read ({error.strerror or error})"
            raise UnreadableFileError(path, found, FETCH) from None
    if not left:
        raise too_large
    return b"".join(parts)


def read_text_file(path: str | os.PathLike[str], *, limit_bytes: int = TEXT_LIMIT_BYTES) -> str:
    """The text of a small file in UTF-8, with or without a byte order mark.

    Raises
    ------
    UnreadableFileError : no regular file, too large, not allowed, or not UTF-8.
    """
    try:
        return read_bytes(path, limit_bytes=limit_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"not text in UTF-8 (byte {error.start + 1})"
        raise UnreadableFileError(Path(path), found, "Save it as UTF-8.") from None


def read_json_object(
    path: str | os.PathLike[str],
    *,
    limit_bytes: int = SIDECAR_LIMIT_BYTES,
    what: str = "JSON file",
    remedy: str = "Mend it, or write it anew.",
) -> dict[str, Any]:
    """The object { } that a small JSON file holds.

    Integers too long for a double become infinite, as numbers with an exponent do.

    Parameters
    ----------
    path : the file.
    limit_bytes : the most that is read.
    what : what the file is, for the message ("JSON sidecar").
    remedy : what to do about a file that is no such object.

    Raises
    ------
    UnreadableFileError : as of `read_text_file`; no JSON, no object, nested too deeply, or text that is not Unicode.
    """
    path = Path(path)
    text = read_text_file(path, limit_bytes=limit_bytes)
    try:
        document = json.loads(text, parse_int=_integer)
    except RecursionError:
        raise _not_json(path, what, f"objects or arrays nested more than {DEEPEST} deep", remedy) from None
    except ValueError as error:
        raise _not_json(path, what, str(error), remedy) from None
    if not isinstance(document, dict):
        raise _not_json(path, what, "it holds no object { }", remedy)
    if cause := _unfit(document):
        raise _not_json(path, what, cause, remedy)
    return document


def _demand_regular(path: Path, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    kind = next((words for is_kind, words in _KINDS if is_kind(mode)), "no regular file")
    raise UnreadableFileError(path, f"{kind}, where a file is needed", "Put the file itself there.")


def _not_json(path: Path, what: str, cause: str, remedy: str) -> UnreadableFileError:
    return UnreadableFileError(path, f"not a readable {what} ({cause})", remedy)


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= LONGEST_NUMBER else float(digits)


def _unfit(document: Any) -> str:
    """What keeps a document from being written again: depth, or half of a surrogate pair; empty if nothing does."""
    level = [document]
    for _ in range(DEEPEST):
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                if not _is_unicode(item):
                    return f"text that is not Unicode: {printable(item)[:40]}"
            elif isinstance(item, dict):
                below += item.keys()
                below += item.values()
            elif isinstance(item, list):
                below += item
        if not below:
            return ""
        level = below
    return f"objects or arrays nested more than {DEEPEST} deep"


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
