"""What a step finds, said so that a program can read it: by code and key, never by the words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Fact:
    """A result worth stating.

    Attributes
    ----------
    key : what programs look it up by, in lower case with underscores; unique within a step.
    label : what a person reads.
    unit : of the value as text ("%", "1/s", "ppm"); empty for a pure number or a text.
    value : number, text, bool, or a list of them.
    """

    key: str
    label: str
    unit: str
    value: Any


@dataclass(frozen=True)
class Warning:
    """What the reader should worry about.

    Attributes
    ----------
    code : what programs know it by, in lower case with hyphens ("iteration-cap").
    text : what is the matter, a sentence.
    remedy : what to do about it, a sentence.
    """

    code: str
    text: str
    remedy: str


@dataclass(frozen=True)
class Note:
    """What was detected, decided or assumed.

    Attributes
    ----------
    code : what programs know it by, in lower case with hyphens ("phase-scaling").
    text : a sentence.
    """

    code: str
    text: str
