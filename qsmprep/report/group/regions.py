"""Regional values over a study: means by site and sex, slopes with age, agreement of repeated measurements."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from qsmprep.analysis.group_statistics import (
    Agreement,
    Trend,
    agreement_of_groups,
    agreement_of_table,
    linear_trend,
)
from qsmprep.report.group.runs import GroupRun

# Regions that a reader of QSM looks for first, as their names may be written.
MAIN_REGIONS = ("caudate", "putamen", "pallid", "thalamus", "red.?nucleus", "nigra", "dentate", "subthalamic")
MAPS = ("chi", "chi_para", "chi_dia", "r2star")
MAP_TITLES = {"chi": "χ", "chi_para": "χ para", "chi_dia": "χ dia", "r2star": "R2*"}


@dataclass(frozen=True)
class Mean:
    """Mean and standard deviation over subjects, each of whose runs were averaged first; NaN where there is none."""

    mean: float
    sd: float
    n: int


@dataclass(frozen=True)
class RegionOfStudy:
    """The values of one region in one map, over all runs.

    Attributes
    ----------
    segmentation, name, quantity, unit : what it is.
    values : (runs,) mean of the region, NaN where there is none.
    everyone : over all subjects; by_site, by_sex : the same of each.
    age : slope with age over subjects; age_in_sites : with an intercept for each site; None where it cannot be told.
    agreement : of repeated measurements; None where it cannot be told.
    """

    segmentation: str
    name: str
    quantity: str
    unit: str
    values: np.ndarray
    everyone: Mean
    by_site: dict[str, Mean]
    by_sex: dict[str, Mean]
    age: Trend | None
    age_in_sites: Trend | None
    agreement: Agreement | None

    @property
    def is_main(self) -> bool:
        """Whether it is one of the deep grey nuclei that readers look for first."""
        return re.search("|".join(MAIN_REGIONS), self.name, re.IGNORECASE) is not None

    @property
    def title(self) -> str:
        """Map and region, for people."""
        return f"{MAP_TITLES.get(self.quantity, self.quantity)}, {self.name.replace('_', ' ')}"


@dataclass(frozen=True)
class Repeats:
    """Which measurements of which subjects are compared.

    Attributes
    ----------
    rows : of each subject with two or more runs, their numbers; in the order of `columns` when these are given.
    columns : what the measurements are called, when every subject has the same; else empty.
    words : what is compared, or why nothing can be.
    """

    rows: tuple[tuple[int, ...], ...]
    columns: tuple[str, ...]
    words: str

    @property
    def possible(self) -> bool:
        """Whether agreement can be told."""
        return len(self.rows) >= 2


def regional_values(runs: Sequence[GroupRun], repeats: Repeats) -> list[RegionOfStudy]:
    """Every region of every map; runs that do not count are left out of all but `values`."""
    values: dict[tuple[str, str, str], np.ndarray] = {}
    units: dict[tuple[str, str, str], str] = {}
    for run in runs:
        for line in run.results.regions:
            if line.key not in values:
                values[line.key], units[line.key] = np.full(len(runs), np.nan), line.texts["unit"]
            values[line.key][run.number] = line.numbers["mean"]
    summary = _Summary(runs)
    return [
        _region(key, units[key], values[key], summary, repeats)
        for key in sorted(values, key=lambda key: _order(key, values))
    ]


def repeated_measurements(runs: Sequence[GroupRun]) -> Repeats:
    """Which runs measure a subject repeatedly: on several scanners, in several sessions, or several times.

    The two-way ICCs need the same measurements of every subject: the same scanners, or else runs of the same names.
    Where more than half of the subjects have them, the others are left out, by name.
    """
    own: dict[str, list[GroupRun]] = {}
    for run in runs:
        if run.counts and run.results.regions:
            own.setdefault(run.subject, []).append(run)
    repeated = [group for group in own.values() if len(group) >= 2]
    if len(repeated) < 2:
        had = "no subject has" if not repeated else "only one subject has"
        return Repeats((), (), f"Not possible: {had} two or more usable runs with regional values; two subjects must.")
    keys: tuple[tuple[str, Callable[[GroupRun], str]], ...] = (
        ("scanners", lambda run: run.scanner),
        ("measurements", lambda run: run.measurement),
    )
    for what, key in keys:
        complete = _complete(repeated, key)
        if complete is not None:
            columns, rows, lacking = complete
            said = f"{len(rows)} subjects, each with the same {len(columns)} {what}: {', '.join(columns)}."
            if lacking:
                said += f" Left out, for they have other {what}: {', '.join(lacking)}."
            return Repeats(rows, columns, said)
    rows = tuple(tuple(run.number for run in group) for group in repeated)
    said = (
        f"{len(rows)} subjects with two or more runs, {sum(map(len, rows))} in all, but not the same ones of each: "
        "only the one-way ICC(1,1) can be told."
    )
    return Repeats(rows, (), said)


def _complete(
    repeated: Sequence[Sequence[GroupRun]], key: Callable[[GroupRun], str]
) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...], list[str]] | None:
    """The measurements that most subjects have once each, their runs by subject, and the subjects left out.

    None where that is not two measurements or more of at least two subjects, who must be more than half of all.
    """
    by_subject = [{key(run): run.number for run in group} for group in repeated]
    usual, _ = Counter(frozenset(numbers) for numbers in by_subject).most_common(1)[0]
    columns = tuple(next(numbers for numbers in by_subject if numbers.keys() == usual))
    rows, lacking = [], []
    for numbers, group in zip(by_subject, repeated, strict=True):
        if numbers.keys() == usual and len(group) == len(usual):
            rows.append(tuple(numbers[column] for column in columns))
        else:
            lacking.append(group[0].subject)
    if len(columns) < 2 or len(rows) < 2 or 2 * len(rows) <= len(repeated):
        return None
    return columns, tuple(rows), lacking


class _Summary:
    """Averages over subjects, with what does not depend on the region found once."""

    def __init__(self, runs: Sequence[GroupRun]):
        self.counts = np.array([run.counts for run in runs], bool)
        self.subjects, self.of_subject = np.unique([run.subject for run in runs], return_inverse=True)
        first = [next(run for run in runs if run.subject == subject) for subject in self.subjects]
        self.age = np.array([run.age for run in first])
        self.sex = np.array([run.sex for run in first])
        self.sites = list(dict.fromkeys(run.site for run in runs))
        self.site = np.array([run.site for run in runs])
        self.strata = [
            " + ".join(sorted({run.site for run in runs if run.subject == subject})) for subject in self.subjects
        ]

    def per_subject(self, values: np.ndarray, inside: np.ndarray | None = None) -> np.ndarray:
        """(subjects,) mean of each subject's runs that count, NaN where there is none."""
        there = np.isfinite(values) & self.counts & (True if inside is None else inside)
        n = np.bincount(self.of_subject[there], minlength=self.subjects.size)
        total = np.bincount(self.of_subject[there], weights=values[there], minlength=self.subjects.size)
        return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _region(
    key: tuple[str, str, str], unit: str, values: np.ndarray, summary: _Summary, repeats: Repeats
) -> RegionOfStudy:
    subjects = summary.per_subject(values)
    by_site = {site: _mean(summary.per_subject(values, summary.site == site)) for site in summary.sites}
    sexes = [sex for sex in dict.fromkeys(summary.sex.tolist()) if sex]
    several = len(set(summary.strata)) > 1
    return RegionOfStudy(
        *key,
        unit,
        values,
        _mean(subjects),
        by_site,
        {sex: _mean(subjects[summary.sex == sex]) for sex in sorted(sexes)},
        linear_trend(summary.age, subjects),
        linear_trend(summary.age, subjects, strata=summary.strata) if several else None,
        _agreement(values, repeats),
    )


def _mean(values: np.ndarray) -> Mean:
    values = values[np.isfinite(values)]
    if not values.size:
        return Mean(np.nan, np.nan, 0)
    return Mean(float(values.mean()), float(values.std(ddof=1)) if values.size > 1 else np.nan, int(values.size))


def _agreement(values: np.ndarray, repeats: Repeats) -> Agreement | None:
    if not repeats.possible:
        return None
    if repeats.columns:
        return agreement_of_table(np.array([values[list(row)] for row in repeats.rows]))
    return agreement_of_groups([values[list(row)] for row in repeats.rows])


def _order(key: tuple[str, str, str], every: dict[tuple[str, str, str], np.ndarray]) -> tuple:
    """Segmentation, then map in the usual order, then region in the order of the tables."""
    segmentation, _, quantity = key
    rank = MAPS.index(quantity) if quantity in MAPS else len(MAPS)
    return segmentation, rank, quantity, list(every).index(key)
