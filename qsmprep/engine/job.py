"""A node being run in a process of its own, and its end in words."""

from __future__ import annotations

import logging
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any

from qsmprep.engine import worker
from qsmprep.engine.iterations import Iterations
from qsmprep.engine.share import Share


@dataclass(eq=False)
class Job:
    """A node being run in its process."""

    node: Any
    process: Any
    pipe: connection.Connection | None
    share: Share
    started: float = field(default_factory=time.monotonic)
    had_neighbours: bool = False
    iterations: Iterations | None = None
    outcome: worker.NodeOutcome | None = None
    outcome_at: float = 0.0

    def receive(self) -> None:
        """Take what the process has sent: log records to their loggers, newest iterations and outcome to keep."""
        while self.pipe is not None:
            try:
                if not self.pipe.poll():
                    return
                message = self.pipe.recv()
            except (EOFError, OSError):
                self.pipe.close()
                self.pipe = None
            else:
                if isinstance(message, worker.NodeOutcome):
                    self.outcome, self.outcome_at = message, time.monotonic()
                elif isinstance(message, Iterations):
                    self.iterations = message
                elif logging.getLogger(message.name).isEnabledFor(message.levelno):
                    message.node = self.node.fullname
                    logging.getLogger(message.name).handle(message)

    def signal_group(self, number: int) -> None:
        """Send a signal to the process and the programs it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)
            return
        if self.process.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)


def describe_exit(code: int) -> str:
    """An exit code of a process in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    return f"killed by signal {-code} ({name})"


def death_message(code: int, expected_gb: float, limit_gb: float, second_time: bool) -> str:
    """One line for a node whose process ended without a result: what happened, why probably, what to do."""
    what = f"The node's process was {describe_exit(code)} before it gave a result"
    if second_time:
        what += ", alone, after it had been killed beside others"
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return (
            f"{what}, most likely by the kernel or the cluster for want of memory: it was expected to need "
            f"{expected_gb:.1f} GB, {limit_gb:.1f} GB were allowed. Give the run more memory, or lower --mem-mb or "
            "--nprocs so that less is run side by side; running the same command again continues where it was."
        )
    if code in (-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL, -signal.SIGABRT, -signal.SIGFPE):
        return f"{what}: a fault in compiled code, not in the data's format. Please report it with the crash file."
    return f"{what}. If somebody or a cluster's limit ended it, running the same command again continues."
