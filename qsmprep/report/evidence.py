"""What a run offers the checklist as evidence, and the verdicts it can come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from qsmprep import registry
from qsmprep.report.acquisition import Entry, look_up
from qsmprep.report.quality import QualityLine, ShownQuality
from qsmprep.report.record import Parameter, RecordedStep, Run
from qsmprep.report.regional import RegionTable
from qsmprep.stages import stage_of

MET, NOT_MET, CANNOT_KNOW, NO_CASE = "met", "not met", "cannot know", "does not apply"
STATUSES = (MET, NOT_MET, CANNOT_KNOW, NO_CASE)

# Of the paper: field strengths in T, T2* of the putamen in ms, T1 of white matter in ms, voxel edge of the suggested
# protocol in mm.
FIELDS_T = (1.5, 3.0, 7.0)
T2STAR_MS = (55.0, 30.0, 16.0)
T1_MS = (650.0, 850.0, 1220.0)
EDGES_MM = (1.2, 1.0, 0.75)


class Verdict(NamedTuple):
    """How a run stands to a recommendation, and the value that says so."""

    status: str
    value: str


@dataclass(frozen=True)
class Evidence:
    """A run as the recommendations ask about it.

    Attributes
    ----------
    run : as read from its record.
    regions : its tables of regional values.
    quality : its quality numbers.
    """

    run: Run
    regions: Sequence[RegionTable] = ()
    quality: ShownQuality = field(default_factory=ShownQuality)

    def item(self, key: str) -> Entry:
        """What is known of an acquisition item."""
        return look_up(self.run.acquisition, key)

    def steps(self, stage: str) -> list[RecordedStep]:
        """The steps of a stage that ran."""
        return [step for step in self.run.steps if stage_of(step.stage).name == stage]

    def method(self, stage: str) -> tuple[str, str]:
        """Name and title of the first method of a stage; empty where none ran."""
        steps = self.steps(stage)
        return (steps[0].method, steps[0].title or steps[0].method) if steps else ("", "")

    def value(self, stage: str, key: str) -> Any:
        """The value of a fact of a stage's first step; None where it is not told."""
        steps = self.steps(stage)
        return steps[0].value(key) if steps else None

    def number(self, stage: str, key: str) -> float | None:
        """The same where it is a number."""
        value = self.value(stage, key)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def parameter(self, stage: str, name: str) -> Parameter | None:
        """A parameter of a stage's first step."""
        steps = self.steps(stage)
        return next((p for p in steps[0].parameters if p.name == name), None) if steps else None

    def measured(self, name: str) -> QualityLine | None:
        """A quality number that was measured; None where it was not."""
        return next((line for line in self.quality.lines if line.name == name and line.value != "n/a"), None)

    def recommended(self, stage: str) -> bool | None:
        """Whether the paper recommends the method of a stage, as the registry says; None where nothing tells."""
        known = registry.judged(stage, self.method(stage)[0])
        return None if known is None else known.recommended

    def field_t(self) -> float | None:
        """The field strength in T."""
        return self.item("field_strength").number

    def echo_times_ms(self) -> tuple[float, ...]:
        """The echo times in ms, as acquired."""
        return self.item("echoes").numbers


def short(line: QualityLine) -> str:
    """A quality number to three digits, with its unit."""
    return f"{float(line.value):.3g} {line.unit}".strip()


def verdict(value: str, good: bool | None) -> Verdict:
    """Met or not met with its value; "cannot know" where nothing tells."""
    return Verdict(CANNOT_KNOW if good is None or not value else MET if good else NOT_MET, value)


def unknown(value: str = "") -> Verdict:
    """Nothing tells."""
    return Verdict(CANNOT_KNOW, value)


def t2star_ms(field_t: float) -> float:
    """T2* of the putamen in ms: its rate is interpolated between the field strengths of the paper.

    >>> [round(t2star_ms(field)) for field in (1.5, 3, 7)]
    [55, 30, 16]
    """
    return float(1 / np.interp(field_t, FIELDS_T, 1 / np.array(T2STAR_MS)))


def t1_ms(field_t: float) -> float:
    """T1 in ms for the Ernst angle, interpolated between the field strengths of the paper.

    >>> t1_ms(3)
    850.0
    """
    return float(np.interp(field_t, FIELDS_T, T1_MS))


def suggested_edge_mm(field_t: float) -> float:
    """Edge of a voxel of the paper's suggested protocols in mm, interpolated between their field strengths."""
    return float(np.interp(field_t, FIELDS_T, EDGES_MM))
