"""What a step finds, said so that a program can read it: by code and key, never by the words.

In files (`step.json`, run records, `ProcessingSteps` of sidecars) each is an object with the attributes as its keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

# The remedy of a warning for which its step knows none better.
LOOK = "Look at this step's pictures before the map is used; run the step with another method if they are not good."
_KEY = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
_CODE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


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

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise ValueError(f"The key of a fact is {self.key!r}; write it in lower case with underscores.")


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

    def __post_init__(self) -> None:
        check_code(self.code)
        if not self.remedy:
            raise ValueError(f"The warning {self.code!r} has no remedy; LOOK is the one for want of a better.")

    def __str__(self) -> str:
        return f"{self.text} {self.remedy}"


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

    def __post_init__(self) -> None:
        check_code(self.code)


def document(finding: Fact | Warning | Note) -> dict[str, Any]:
    """A finding as files and inputs of nodes hold it.

    >>> document(Note("phase-sign", "Phase sign kept."))
    {'code': 'phase-sign', 'text': 'Phase sign kept.'}
    """
    return asdict(finding)


def key_of(name: str) -> str:
    """The key that belongs to a name out of the data, for facts of which there are as many as names.

    >>> key_of("fs-aparc.DKTatlas+aseg")
    'fs_aparc_dktatlas_aseg'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "unnamed"


def code_of(key: str) -> str:
    """The code of a warning about what has that key.

    >>> code_of("phase_linearity")
    'phase-linearity'
    """
    return key_of(key).replace("_", "-")


def fact_values(facts: Any) -> dict[str, Any]:
    """Key -> value of the facts in a step's record as a file holds them; what is none is left out.

    >>> fact_values([{"key": "iterations", "label": "iterations", "unit": "", "value": 12}, None])
    {'iterations': 12}
    """
    return {fact.key: fact.value for fact in read_facts(facts)}


def read_facts(documents: Any) -> tuple[Fact, ...]:
    """The facts that a file holds, each as far as it is there; what is none is left out."""
    return tuple(
        Fact(key_of(_text(d, "key")), _text(d, "label") or _text(d, "key"), _text(d, "unit"), d.get("value"))
        for d in _mappings(documents)
    )


def read_warnings(documents: Any) -> tuple[Warning, ...]:
    """The warnings that a file holds, each as far as it is there; what has no text is left out."""
    return tuple(
        Warning(code_of(_text(d, "code")), _text(d, "text"), _text(d, "remedy") or LOOK)
        for d in _mappings(documents)
        if _text(d, "text")
    )


def read_notes(documents: Any) -> tuple[Note, ...]:
    """The notes that a file holds, each as far as it is there; what has no text is left out."""
    return tuple(Note(code_of(_text(d, "code")), _text(d, "text")) for d in _mappings(documents) if _text(d, "text"))


def check_code(code: str) -> None:
    """Raise ValueError for a code that is not in lower case with hyphens."""
    if not _CODE.fullmatch(code):
        raise ValueError(f"The code of a finding is {code!r}; write it in lower case with hyphens.")


def _mappings(documents: Any) -> Iterable[Mapping[str, Any]]:
    found = documents if isinstance(documents, list | tuple) else ()
    return (item for item in found if isinstance(item, Mapping))


def _text(document: Mapping[str, Any], name: str) -> str:
    """A text of a document, its white space joined; empty where there is none."""
    value = document.get(name)
    return "" if value is None else " ".join(str(value).split())
