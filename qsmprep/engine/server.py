"""What is done inside the server that the nodes' processes are forked from, and nowhere else.

Imported there first of all. The server ends with the program, however that ends, and takes the processes of the nodes
and the folder of its socket with it. The program tells it by an environment variable who it is.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

TOLD = "QSMPREP_SERVER"
PATIENCE_S = 2.0  # of a program that has closed its files until it is gone
_PR_SET_PDEATHSIG = 1


def message(folder: Path, restored: dict[str, str | None], watch: bool) -> str:
    """What the program tells its server: itself, the folder to remove, the environment to restore.

    `watch`: whether the kernel may tell the end of the thread that starts the server as that of the program.
    """
    return json.dumps({"program": os.getpid(), "folder": str(folder), "restored": restored, "watch": watch})


def serve(told: str) -> None:
    """Take up the server's duties."""
    duties = json.loads(told)
    for name, value in duties["restored"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    end = partial(_end, os.getpid(), duties["program"], duties["folder"])
    atexit.register(end)
    signal.signal(signal.SIGTERM, partial(_leave, end))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program alone
    # A refused program ends, with the folder of its caches, while this one still loads.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    sys.excepthook = partial(_tell_no_loss_of_a_client, os.getpid(), sys.excepthook)
    if duties["watch"]:
        with suppress(OSError, AttributeError):  # not Linux
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != duties["program"]:
        sys.exit(0)


def _tell_no_loss_of_a_client(server: int, tell: Callable[..., Any], kind: Any, error: Any, traceback: Any) -> None:
    """Say nothing of a process that was forked, but whose work the program, ended at that moment, never sent."""
    unsent = isinstance(error, EOFError | ConnectionError) or "truncated" in str(error)
    if os.getpid() == server or not unsent:
        tell(kind, error, traceback)


def children() -> list[int]:
    """Processes forked from this one that still run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            state, parent = entry.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state != "Z":
                found.append(int(entry.parent.name))
    return found


def _leave(end: Callable[[], None], _number: int, _frame: Any) -> NoReturn:
    """End at once: the signal may come while Python already ends, where an exception would be told."""
    end()
    os._exit(0)


def _end(server: int, program: int, folder: str) -> None:
    """End the nodes' processes with the programs they started, and remove the folder if the program has ended.

    A process that computes in compiled code hears nothing of the program's end by itself.
    """
    if os.getpid() != server:
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for pid in children():
        for kill in (os.killpg, os.kill):  # the group is the child's own, once it has begun
            with suppress(OSError):
                kill(pid, signal.SIGKILL)
    until = time.monotonic() + PATIENCE_S
    while os.getppid() == program and time.monotonic() < until:
        time.sleep(0.01)
    if os.getppid() != program:
        shutil.rmtree(folder, ignore_errors=True)


if TOLD in os.environ:
    serve(os.environ.pop(TOLD))
