"""What an iterative method tells about how it ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Convergence:
    """End of an iteration.

    Attributes
    ----------
    iterations : outer iterations done.
    converged : whether the tolerance was met before the cap on iterations.
    history : the monitored quantity after each iteration.
    monitored : what the history holds, in words ("relative change of chi").
    seconds : wall time.
    second : iteration at which a second part begins from a start of its own; 0: there is one part alone.
    """

    iterations: int
    converged: bool
    history: tuple[float, ...]
    monitored: str
    seconds: float
    second: int = 0


def ended(
    begin: float, history: Sequence[float], converged: bool, *, monitored: str, unlisted: int = 0, second: int = 0
) -> Convergence:
    """How an iteration ended that ends now.

    Parameters
    ----------
    begin : when it began, by `time.perf_counter()`.
    history : the monitored quantity after each iteration.
    converged : whether the tolerance was met.
    monitored : what the history holds, in words.
    unlisted : iterations that the history leaves out.
    second : iteration at which a second part begins; 0: there is one part alone.
    """
    seconds = time.perf_counter() - begin
    return Convergence(unlisted + len(history), converged, tuple(history), monitored, seconds, second)
