"""What a study comes to, made from what its runs left; the page and the tables show it."""

from __future__ import annotations

from dataclasses import dataclass

from qsmprep.bids.group import Study
from qsmprep.report.group.differences import Difference, differences
from qsmprep.report.group.quality import Metric, quality_metrics
from qsmprep.report.group.regions import RegionOfStudy, Repeats, regional_values, repeated_measurements
from qsmprep.report.group.runs import GroupRun, group_runs


@dataclass(frozen=True)
class Group:
    """What the study comes to; the page and the tables show nothing else.

    Attributes
    ----------
    study : what was read.
    runs, metrics, differences, regions, repeats : what was made of it.
    site_words : what a site is.
    """

    study: Study
    runs: list[GroupRun]
    site_words: str
    metrics: list[Metric]
    differences: list[Difference]
    regions: list[RegionOfStudy]
    repeats: Repeats


def summarise(study: Study) -> Group:
    """Everything that the page tells of a study."""
    runs, site_words = group_runs(study)
    repeats = repeated_measurements(runs)
    return Group(
        study, runs, site_words, quality_metrics(runs), differences(runs), regional_values(runs, repeats), repeats
    )
