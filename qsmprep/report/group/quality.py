"""Quality numbers over the runs of a study, and which runs stand out in them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qsmprep.analysis.group_statistics import OUTLIER_Z, robust_z
from qsmprep.bids.group import number
from qsmprep.report.group.runs import GroupRun
from qsmprep.report.group.short_words import MAIN, short_word
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
    remedy : what to do about a value beyond the limits.
    main : whether it is shown in the line of a run, before the others.
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
    remedy: str = ""
    main: bool = False

    @property
    def shown_unit(self) -> str:
        """The unit; empty for a pure number."""
        return "" if self.unit in ("1", "none") else self.unit

    @property
    def short(self) -> str:
        """It in a word or two, as a heading."""
        word = short_word(self.name, self.title)
        return word[:1].upper() + word[1:]

    @property
    def median(self) -> float:
        """Over the runs that have it; NaN where none has."""
        there = self.values[np.isfinite(self.values)]
        return float(np.median(there)) if there.size else math.nan

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
    main = _main(definitions)
    return [_metric(name, definition, runs, name in main) for name, definition in definitions.items()]


def _main(definitions: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of the main numbers, filled up by others that have a limit where a study lacks some of them."""
    limits = {name: [number(own.get("low")), number(own.get("high"))] for name, own in definitions.items()}
    limited = [name for name, own in limits.items() if any(map(math.isfinite, own))]
    return list(dict.fromkeys([name for name in MAIN if name in definitions] + limited))[: len(MAIN)]


def _metric(name: str, definition: Mapping[str, Any], runs: Sequence[GroupRun], main: bool) -> Metric:
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
        words(definition.get("remedy") or ""),
        main,
    )


def main_metrics(metrics: Sequence[Metric]) -> list[Metric]:
    """The numbers that are shown first, in their order; all where none is marked as main."""
    main = [metric for metric in metrics if metric.main]
    order = {name: place for place, name in enumerate(MAIN)}
    return sorted(main, key=lambda metric: order.get(metric.name, len(MAIN))) or list(metrics)


def in_order(metrics: Sequence[Metric]) -> list[Metric]:
    """All numbers, the main ones before the others."""
    main = main_metrics(metrics)
    return main + [metric for metric in metrics if not any(metric is other for other in main)]


def outliers_of(run: int, metrics: Sequence[Metric]) -> list[Metric]:
    """The numbers in which a run stands out, farthest first."""
    found = [metric for metric in metrics if metric.stands_out(run)]
    return sorted(found, key=lambda metric: -float(np.nanmax(np.abs([metric.z[run], metric.z_scanner[run]]))))
