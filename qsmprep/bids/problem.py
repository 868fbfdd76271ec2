"""Something wrong with the input, told so that the user can mend it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Literal

from qsmprep.findings import Warning, check_code


def printable(text: object) -> str:
    r"""A text that can be printed and written anywhere: what is no character for the eye as an escape.

    >>> printable(b"sub-\xff".decode("utf-8", "surrogateescape"))
    'sub-\\udcff'
    """
    words = str(text)
    if words.isprintable():
        return words
    return "".join(
        character if character.isprintable() or character in "\n\t" else _escaped(character) for character in words
    )


def _sentence(text: str) -> str:
    """A text with one mark at its end."""
    words = text.rstrip(".")
    return words if words.endswith(("?", "!")) else f"{words}."


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


@dataclass(frozen=True)
class Problem:
    """One thing wrong, and what to do about it.

    Attributes
    ----------
    severity : "error" stops the run it belongs to, "warning" does not.
    code : what programs know it by, in lower case with hyphens ("echo-time-missing").
    path : file or folder, or a word for what it concerns; None if it concerns nothing in particular.
    found : what is there.
    needed : what is needed instead; may be empty.
    remedy : what the user can do; may be empty for an error whose text says it.
    """

    severity: Literal["error", "warning"]
    code: str
    path: str | PathLike[str] | None
    found: str
    needed: str = ""
    remedy: str = ""

    def __post_init__(self) -> None:
        check_code(self.code)
        if self.severity == "warning":
            self.warning()

    def __str__(self) -> str:
        """One line: "file: what was found. Needed: what. What to do."."""
        return f"{self.text} {printable(self.remedy)}".strip()

    @property
    def text(self) -> str:
        """What is wrong, without what to do: "file: what was found. Needed: what."."""
        where = f"{self.path}: " if self.path is not None else ""
        needed = f" Needed: {_sentence(self.needed)}" if self.needed else ""
        return printable(" ".join(f"{where}{_sentence(self.found)}{needed}".split()))

    def warning(self) -> Warning:
        """The problem as a run's record tells it; ValueError where it has no remedy."""
        return Warning(self.code, self.text, printable(" ".join(self.remedy.split())))


def warnings(problems: Iterable[Problem]) -> list[Warning]:
    """Those that do not stop a run, as its record tells them."""
    return [problem.warning() for problem in problems if problem.severity == "warning"]


def errors(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Those that stop a run."""
    return tuple(problem for problem in problems if problem.severity == "error")


def joined(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Problems of which those that differ in the file alone are one, which names the first file and the number."""
    together: dict[tuple[str, ...], list[Problem]] = {}
    for problem in problems:
        key = (problem.severity, problem.code, problem.found, problem.needed, problem.remedy)
        together.setdefault(key, []).append(problem)
    return tuple(_first_of(same) for same in together.values())


def _first_of(same: Sequence[Problem]) -> Problem:
    others = len({os.fspath(problem.path) for problem in same if problem.path is not None}) - 1
    if others < 1:
        return same[0]
    more = f" (and so in {others} more file{'s' if others > 1 else ''})"
    return replace(same[0], found=f"{same[0].found.rstrip('.')}{more}")
