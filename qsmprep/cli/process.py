"""How a program begins and ends as a process: a home for its libraries, and one line when it is stopped."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from qsmprep.engine.session import settle

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal asks the program to end; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def run_program(
    name: str, main: Callable[[Sequence[str]], int], argv: Sequence[str] | None, *, advice: str = ""
) -> int:
    """Run a program's `main` and return its exit status: 128 and the number of the signal that stopped it.

    A program that is stopped says so in one line, followed by `advice`.
    """
    settle()
    with _stopped_by_signals() as stopped:
        try:
            status = main(sys.argv[1:] if argv is None else argv)
            _end_in_peace(argv)
            return status
        except KeyboardInterrupt:
            stopped = stopped or [signal.SIGINT]
        except Exception:
            if not stopped:  # a library that made another exception of the signal's
                raise
        _end_in_peace(argv)
        print(f"{name}: stopped by {signal.Signals(stopped[0]).name}{advice}.", file=sys.stderr, flush=True)
        return 128 + stopped[0]


def _end_in_peace(argv: Sequence[str] | None) -> None:
    """Let no signal break into what is left to do, where the program is the whole process (`argv` is None)."""
    if argv is None and threading.current_thread() is threading.main_thread():
        for number in NUMBERS:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def _stopped_by_signals() -> Iterator[list[int]]:
    """Raise Stopped when a signal asks the program to end; the numbers of those that came."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def stop(number: int, _frame: Any) -> None:
        came.append(number)
        raise Stopped(number)

    def lost(unraisable: sys.UnraisableHookArgs) -> None:
        """A signal that came while a finalizer ran, where exceptions get lost, comes again."""
        if isinstance(unraisable.exc_value, Stopped):
            threading.Timer(0.05, _thread.interrupt_main, [unraisable.exc_value.number]).start()
        else:
            before_hook(unraisable)

    before_hook, sys.unraisablehook = sys.unraisablehook, lost
    usual = (signal.SIG_DFL, signal.default_int_handler)  # one that is ignored, as under nohup, stays so
    before = {number: signal.getsignal(number) for number in NUMBERS}
    taken = [number for number in NUMBERS if before[number] in usual]
    for number in taken:
        signal.signal(number, stop)
    try:
        yield came
    finally:
        sys.unraisablehook = before_hook
        for number in taken:
            if signal.getsignal(number) is stop:
                signal.signal(number, before[number])
