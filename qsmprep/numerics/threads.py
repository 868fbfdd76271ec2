"""How many threads the numerics may use, for FFTs and compiled loops alike."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_THREADS: ContextVar[int | None] = ContextVar("qsmprep_threads", default=None)


def available_cores() -> int:
    """Number of cores this process may run on (respects affinity and cluster bindings)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_count() -> int:
    """Threads in force: those of the innermost `use_threads`, else every core available."""
    return _THREADS.get() or available_cores()


@contextmanager
def use_threads(count: int | None) -> Iterator[None]:
    """Bound the threads of FFTs and compiled loops inside the block (None: every core available)."""
    token = _THREADS.set(max(1, int(count)) if count else None)
    try:
        yield
    finally:
        _THREADS.reset(token)
