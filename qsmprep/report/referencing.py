"""What a run's record says of the reference region."""

from __future__ import annotations

from dataclasses import dataclass

from qsmprep.report.numbers import quantity_words
from qsmprep.report.record import Run
from qsmprep.stages import stage_of


@dataclass(frozen=True)
class ReferenceValues:
    """Susceptibility of the reference region in ppm as text, and what the record calls its mean.

    `common` is its mean in the whole-brain-referenced map; empty where the reference is the whole brain itself.
    """

    region: str
    mean_name: str
    mean: str
    deviation: str
    common: str = ""

    @property
    def in_common(self) -> str:
        """The region in the whole-brain-referenced map, as table 5 asks for it; empty for the whole brain."""
        return f"in the whole-brain-referenced map {self.common} ± {self.deviation} ppm" if self.common else ""


def reference_values(run: Run) -> ReferenceValues | None:
    """Mean and standard deviation of the reference region before it was set to zero; None where nothing tells."""
    for step in run.steps:
        if stage_of(step.stage).name == "reference":
            mean, deviation = step.fact("mean_before"), step.fact("sd")
            if mean and deviation and all(isinstance(fact.value, int | float) for fact in (mean, deviation)):
                common = step.value("mean_in_whole_brain_map") if step.method != "whole-brain" else None
                told = quantity_words(common, "ppm") if isinstance(common, int | float) else ""
                value, sd = (quantity_words(fact.value, "ppm") for fact in (mean, deviation))
                return ReferenceValues(step.title or step.method, mean.label, value, sd, told)
    return None
