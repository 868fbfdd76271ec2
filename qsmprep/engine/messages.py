"""What went wrong in a node, in one line out of its traceback."""

from __future__ import annotations

import os
import re
from pathlib import Path
from textwrap import dedent
from typing import Any

from qsmprep.files.storage import FULL_IN_WORDS, full_disk_message


def message_of(traceback: str) -> str:
    """The exception itself, in one line, out of a traceback.

    nipype wraps what a node raised: the true traceback is the indented text at its end.
    """
    _, wrapped, inner = traceback.rpartition("\nTraceback:\n")
    text = dedent(inner) if wrapped else traceback
    lines = [line for line in text.splitlines() if line.strip()]
    last_frame = max((i for i, line in enumerate(lines) if line.startswith("  ")), default=-1)
    if last_frame + 1 >= len(lines):  # a message of several, indented lines
        begins = [i for i, line in enumerate(lines) if re.match(r"[\w.]+(Error|Exception|Interrupt|Exit)\b", line)]
        last_frame = begins[-1] - 1 if begins else -1
    return " ".join(" ".join(lines[last_frame + 1 :]).split()) or "failed without a message"


def in_words(node: Any, message: str) -> str:
    """A node's message; that of a full disk, which names no file, with the folder whose disk it is and what to do."""
    if not FULL_IN_WORDS.search(message):
        return message
    folders = [Path(node.output_dir())]
    for name in ("output_dir", "out_file"):
        place = getattr(node.inputs, name, None)
        if isinstance(place, str) and os.path.isabs(place):
            folders.append(Path(place))
    room = {folder: free for folder in folders if (free := _free_bytes(folder)) is not None}
    if not room:
        return message
    fullest = min(room, key=room.__getitem__)
    return full_disk_message(fullest, free_bytes=room[fullest])


def _free_bytes(folder: Path) -> int | None:
    """Bytes that this user may still write where a folder lies or would lie."""
    for place in (folder, *folder.parents):
        try:
            there = os.statvfs(place)
        except OSError:
            continue
        return there.f_bavail * there.f_frsize
    return None
