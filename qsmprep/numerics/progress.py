"""How long work tells how far it is: one callback, called as progress(done, total)."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]


def continued(progress: Progress | None, done: int, total: int) -> Progress | None:
    """The callback of a stage that follows `done` units of work, out of `total` of all stages together."""
    if progress is None:
        return None
    return lambda count, _: progress(done + count, total)


def part(progress: Progress | None, number: int, parts: int) -> Progress | None:
    """The callback of one of several equal parts of the work, the first being number 0."""
    if progress is None:
        return None
    return lambda count, total: progress(number * total + count, parts * total)
