"""What an iterative method tells about how it ended."""

from __future__ import annotations

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
    """

    iterations: int
    converged: bool
    history: tuple[float, ...]
    monitored: str
    seconds: float
