"""How the iterations of a step reach the display: from the step's process, through its pipe, a few times a second.

Whoever runs a node names the receiver (`told_to`), and the node asks for the callback (`callback`) that it gives to its
step. A receiver that is slow, busy or broken costs the step nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from qsmprep.numerics.progress import Progress

INTERVAL_S = 0.25


@dataclass(frozen=True)
class Iterations:
    """How far a step is: `done` of `total`; a total of 0 is not known."""

    done: int
    total: int


Receiver = Callable[[Iterations], None]
_callback: ContextVar[Progress | None] = ContextVar("callback", default=None)


def callback() -> Progress | None:
    """The callback for the step that runs now; None where nobody wants to know."""
    return _callback.get()


@contextmanager
def told_to(receiver: Receiver) -> Iterator[None]:
    """Let `receiver` know the iterations of what runs inside."""
    token = _callback.set(throttled(receiver, INTERVAL_S))
    try:
        yield
    finally:
        _callback.reset(token)


def throttled(receiver: Receiver, interval_s: float) -> Progress:
    """A callback that passes on what it is told at most every `interval_s`; what goes wrong there raises nothing."""
    due = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal due
        now = time.monotonic()
        if now < due:
            return
        due = now + interval_s
        try:
            receiver(Iterations(int(done), int(total)))
        except Exception:  # a display must not end a computation; without one it goes on
            due = float("inf")

    return progress
