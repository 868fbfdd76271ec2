"""Something wrong with the input, told so that the user can mend it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from typing import Literal


@dataclass(frozen=True)
class Problem:
    """One thing wrong, and what to do about it.

    Attributes
    ----------
    severity : "error" stops the run it belongs to, "warning" does not.
    path : file or folder, or a word for what it concerns; None if it concerns nothing in particular.
    found : what is there.
    needed : what is needed instead; may be empty.
    remedy : what the user can do; may be empty.
    """

    severity: Literal["error", "warning"]
    path: str | PathLike[str] | None
    found: str
    needed: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        """One line: "file: what was found; what is needed. What to do."."""
        where = f"{self.path}: " if self.path is not None else ""
        what = "; ".join(part.rstrip(".") for part in (self.found, self.needed) if part)
        return " ".join(f"{where}{what}. {self.remedy}".split())


def errors(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Those that stop a run."""
    return tuple(problem for problem in problems if problem.severity == "error")
