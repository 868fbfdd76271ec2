"""The rules of a study, in TOML: who is called what, and what a series is where the metadata do not tell.

[participants]                       # PatientID = label
"MR-0815" = "01"

[sessions]                           # StudyDate (YYYYMMDD) or StudyInstanceUID = label
"20260317" = "baseline"

[[series]]                           # the first rule that fits counts
where = { ProtocolName = "qsm*", SeriesNumber = [5, 6] }
use = "MEGRE"                        # or T2starw, MESE, T1w, "nothing"; left out: as the metadata tell
acq = "highres"                      # also rec, run
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from qsmprep.bids.names import bare_label, is_label
from qsmprep.bids.reading import read_text_file
from qsmprep.dicom.classify import USES, Kind
from qsmprep.dicom.headers import KEYWORDS, text_of
from qsmprep.dicom.runs import Scan

NOTHING = "nothing"
ENTITIES = ("acq", "rec", "run")
REASON = "left out by a rule of the study"


@dataclass(frozen=True)
class SeriesRule:
    """What fits (patterns by DICOM keyword), what it is used as (empty: as the metadata tell), entities of its name."""

    where: Mapping[str, tuple[str, ...]]
    use: str
    entities: Mapping[str, str]

    def fits(self, scan: Scan) -> bool:
        """Whether one series of a scan fits every pattern."""
        return any(
            all(_matches(text_of(one.facts, key), patterns) for key, patterns in self.where.items())
            for one in scan.series
        )


@dataclass(frozen=True)
class Rules:
    """Labels of participants by PatientID, of sessions by date or UID of the study, and rules of series."""

    participants: Mapping[str, str]
    sessions: Mapping[str, str]
    series: tuple[SeriesRule, ...]

    def of(self, scan: Scan) -> SeriesRule | None:
        """The first rule that fits."""
        return next((rule for rule in self.series if rule.fits(scan)), None)

    def kind(self, scan: Scan, told: Kind) -> Kind:
        """What a scan is used as, given what its metadata tell."""
        rule = self.of(scan)
        if rule is None or not rule.use:
            return told
        return Kind("", REASON) if rule.use == NOTHING else Kind(rule.use)


NO_RULES = Rules({}, {}, ())


def read_rules(path: Path) -> Rules:
    """The rules of a file.

    Raises
    ------
    ValueError : no readable TOML, or something in it that is not understood, named by its key.
    """
    try:
        document = tomllib.loads(read_text_file(path))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not readable TOML ({error}).") from None
    if unknown := sorted(set(document) - {"participants", "sessions", "series"}):
        raise ValueError(f"{path}: {unknown[0]!r} is not known; use participants, sessions and series.")
    labels = {name: _labels(path, name, document.get(name, {})) for name in ("participants", "sessions")}
    series = document.get("series", [])
    if not isinstance(series, list) or not all(isinstance(rule, dict) for rule in series):
        raise ValueError(f"{path}: write each rule of a series as [[series]].")
    return Rules(**labels, series=tuple(_series_rule(f"{path}: series rule {n}", r) for n, r in enumerate(series, 1)))


def _labels(path: Path, name: str, table: Any) -> dict[str, str]:
    entity = {"participants": "sub", "sessions": "ses"}[name]
    if not isinstance(table, dict):
        raise ValueError(f'{path}: {name} must be a table, as [{name}] with lines "ID" = "label".')
    labels = {str(key): bare_label(str(label), entity) for key, label in table.items()}
    for key, label in labels.items():
        if not is_label(label):
            raise ValueError(f"{path}: {name}: {key!r} is given the label {label!r}; use letters and digits.")
    return labels


def _series_rule(where: str, rule: Mapping[str, Any]) -> SeriesRule:
    if unknown := sorted(set(rule) - {"where", "use", *ENTITIES}):
        raise ValueError(f"{where}: {unknown[0]!r} is not known; use where, use, {', '.join(ENTITIES)}.")
    patterns = rule.get("where")
    if not isinstance(patterns, dict) or not patterns:
        raise ValueError(f'{where}: say which series it is for, as where = {{ ProtocolName = "qsm*" }}.')
    if strange := sorted(set(patterns) - set(KEYWORDS)):
        raise ValueError(f"{where}: {strange[0]!r} is no DICOM keyword that is read; use {', '.join(KEYWORDS)}.")
    use = rule.get("use", "")
    if use not in ("", NOTHING, *USES):
        raise ValueError(f"{where}: use is {use!r}; write {', '.join(USES)} or {NOTHING}.")
    entities = {name: str(rule[name]) for name in ENTITIES if name in rule}
    for name, label in entities.items():
        if not is_label(label) or (name == "run" and not label.isdecimal()):
            needed = "a number" if name == "run" else "letters and digits"
            raise ValueError(f"{where}: {name} is {label!r}; use {needed}.")
    listed = {key: value if isinstance(value, list) else [value] for key, value in patterns.items()}
    return SeriesRule({key: tuple(map(str, values)) for key, values in listed.items()}, use, entities)


def _matches(value: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(value.casefold(), pattern.casefold()) for pattern in patterns)
