"""What a run's record says of the reference region."""

from __future__ import annotations

from dataclasses import dataclass

from qsmprep.report.record import Run, words
from qsmprep.stages import stage_of


@dataclass(frozen=True)
class ReferenceValues:
    """Susceptibility of the reference region in ppm as text, and what the record calls its mean."""

    region: str
    mean_name: str
    mean: str
    deviation: str


def reference_values(run: Run) -> ReferenceValues | None:
    """Mean and standard deviation of the reference region before it was set to zero; None where nothing tells."""
    for step in run.steps:
        if stage_of(step.stage).name == "reference":
            mean, deviation = step.fact("mean_before"), step.fact("sd")
            if mean and deviation and all(isinstance(fact.value, int | float) for fact in (mean, deviation)):
                return ReferenceValues(step.title or step.method, mean.label, words(mean.value), words(deviation.value))
    return None
