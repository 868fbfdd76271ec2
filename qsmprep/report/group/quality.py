"""Quality numbers over the runs of a study, and which runs stand out in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qsmprep.analysis.group_statistics import OUTLIER_Z, robust_z
from qsmprep.bids.group import number
from qsmprep.report.group.runs import GroupRun
from qsmprep.report.record import words

FEWEST_OF_SCANNER = 20  # runs of one scanner from which its own median and spread are trusted


@dataclass(frozen=True)
class Metric:
    """One quality number over all runs.

    Attributes
    ----------
    name, title, unit, description : as the runs define it.
    low, high : absolute limits, NaN where there is none.
    values : (runs,), NaN where a run lacks it.
    z : robust z against all runs, z_scanner : against those of its scanner (NaN where those are fewer than 20).
    """

    name: str
    title: str
    unit: str
    description: str
    low: float
    high: float
    values: np.ndarray
    z: np.ndarray
    z_scanner: np.ndarray

    def stands_out(self, run: int) -> bool:
        """Whether a run's value is far from the others'."""
        return any(abs(z[run]) > OUTLIER_Z for z in (self.z, self.z_scanner))

    def why(self, run: int) -> str:
        """In words how far out a value lies; empty where it does not stand out."""
        if not self.stands_out(run):
            return ""
        overall = abs(self.z[run]) > OUTLIER_Z
        z = self.z[run] if overall else self.z_scanner[run]
        return f"z = {z:+.1f}".replace("-", "−") + ("" if overall else " on its scanner")


def quality_metrics(runs: Sequence[GroupRun]) -> list[Metric]:
    """Every quality number that a run has, in the order in which the runs tell them."""
    definitions: dict[str, Mapping[str, Any]] = {}
    for run in runs:
        own = run.results.quality.get("definitions")
        for name in run.results.quality.get("metrics", {}):
            given = own.get(name) if isinstance(own, Mapping) else None
            if not definitions.get(name):
                definitions[name] = given if isinstance(given, Mapping) else {}
    return [_metric(name, definition, runs) for name, definition in definitions.items()]


def _metric(name: str, definition: Mapping[str, Any], runs: Sequence[GroupRun]) -> Metric:
    values = np.array([number(run.results.quality.get("metrics", {}).get(name)) for run in runs])
    by_scanner = np.full(values.shape, np.nan)
    scanners = np.array([run.scanner for run in runs])
    if len(set(scanners)) > 1:
        for scanner in set(scanners):
            own = scanners == scanner
            if np.isfinite(values[own]).sum() >= FEWEST_OF_SCANNER:
                by_scanner[own] = robust_z(values[own])
    return Metric(
        str(name),
        words(definition.get("title") or str(name).replace("_", " ")),
        words(definition.get("unit") or ""),
        words(definition.get("description") or ""),
        number(definition.get("low")),
        number(definition.get("high")),
        values,
        robust_z(values),
        by_scanner,
    )


def outliers_of(run: int, metrics: Sequence[Metric]) -> list[Metric]:
    """The numbers in which a run stands out, farthest first."""
    found = [metric for metric in metrics if metric.stands_out(run)]
    return sorted(found, key=lambda metric: -float(np.nanmax(np.abs([metric.z[run], metric.z_scanner[run]]))))
