"""What is told on the terminal while a graph runs: one style, the run named, every warning once."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from qsmprep.engine.progress import Labels, run_and_step

WORDS = {logging.WARNING: "Warning", logging.ERROR: "Error", logging.CRITICAL: "Error", logging.INFO: "Info"}
_node: ContextVar[str] = ContextVar("node", default="")


class Terminal(logging.Handler):
    """Writes records to standard error as it is at that moment, so that a live display keeps above itself.

    Attributes
    ----------
    labels : function from a node's full name to its run and step in words.
    """

    def __init__(self) -> None:
        super().__init__()
        self.labels: Labels = run_and_step
        self._told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; a warning that was told of this run already is not told again."""
        try:
            node = getattr(record, "node", "") or _node.get()
            run = self.labels(node)[0] if node else ""
            word = WORDS.get(record.levelno, record.levelname.capitalize())
            line = f"{word}: {run + ': ' if run else ''}{record.getMessage()}"
            if record.exc_info and not record.exc_text:
                record.exc_text = logging.Formatter().formatException(record.exc_info)
            if record.levelno >= logging.WARNING:
                if line in self._told:
                    return
                self._told.add(line)
            print("\n".join(filter(None, (line, record.exc_text))), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


def name_runs(labels: Labels) -> None:
    """Let the terminal name runs by these labels."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, Terminal):
            handler.labels = labels


@contextmanager
def by_node(name: str) -> Iterator[None]:
    """What is told inside is told by the node of this full name."""
    token = _node.set(name)
    try:
        yield
    finally:
        _node.reset(token)
