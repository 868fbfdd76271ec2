"""The runs of a study as the group report speaks of them: verdict, scanner, site, age and sex of each."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from qsmprep.bids.acquired import Acquired
from qsmprep.bids.group import RunResults, Study, number
from qsmprep.report.acquisition import look_up
from qsmprep.report.record import Run, parse_run, words

# Worst first, which is the order of the table of runs.
RUN_VERDICTS = ("failed", "do not use", "check", "not judged", "usable")
LEFT_OUT = ("failed", "do not use")  # of means, slopes and agreement
SITE_COLUMNS = ("site", "site_id", "centre", "center", "scanner", "institution", "institution_name", "location")
SEX_COLUMNS = ("sex", "gender")
WHICH_DEVICE = ("device_serial_number", "station", "institution")  # what tells two scanners of one model apart
UNKNOWN_SCANNER = "scanner not recorded"


@dataclass(frozen=True)
class RunFlag:
    """A number of a run beyond its absolute limit."""

    metric: str
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class GroupRun:
    """One run in the study.

    Attributes
    ----------
    number : its place among the runs, from 0.
    name, subject, session : as in the file names; session may be empty.
    verdict : one of RUN_VERDICTS.
    flags : numbers beyond an absolute limit.
    scanner : what its acquisition tells of it; site : of participants.tsv, or the scanner.
    age : years, NaN when unknown; sex : as in participants.tsv, or empty.
    report : address of what its subject's report tells of it, empty where there is none.
    record : what ran; None when it was not recorded or could not be read.
    results : the files as they were read.
    acquired : when it was measured, as far as the dataset tells.
    """

    number: int
    name: str
    subject: str
    session: str
    verdict: str
    flags: tuple[RunFlag, ...]
    scanner: str
    site: str
    age: float
    sex: str
    report: str
    record: Run | None
    results: RunResults
    acquired: Acquired = field(default_factory=Acquired)

    @property
    def counts(self) -> bool:
        """Whether its regional values enter means, slopes and agreement."""
        return self.verdict not in LEFT_OUT

    @property
    def measurement(self) -> str:
        """Its name without the subject: which of the subject's measurements it is."""
        return re.sub(r"^sub-[^_]*_?", "", self.name)

    @property
    def joined(self) -> bool:
        """Whether it joins several orientations, and so ran other steps than the rest."""
        return self.record is not None and any(step.stage == "registration" for step in self.record.steps)


def group_runs(study: Study) -> tuple[list[GroupRun], str]:
    """The runs of a study, and what their `site` is, in words.

    The site is that of participants.tsv; where that has none, or where a subject was scanned on several scanners (one
    line of participants.tsv cannot tell where each run was made), it is the scanner.
    """
    runs = [_group_run(i, results, study) for i, results in enumerate(study.runs)]
    devices: dict[str, set[str]] = {}
    for run, results in zip(runs, study.runs, strict=True):
        devices.setdefault(run.subject, set()).add(scanner_name(_acquisition(results)))
    travelled = sum(len(names) > 1 for names in devices.values())
    if travelled:
        plural = "subject was" if travelled == 1 else "subjects were"
        said = f"Site is the scanner, as {travelled} {plural} scanned on several scanners."
        return [
            replace(run, scanner=(name := scanner_name(_acquisition(run.results))), site=name) for run in runs
        ], said
    if any(run.site for run in runs):
        return [replace(run, site=run.site or "site not given") for run in runs], "Site is that of participants.tsv."
    return [replace(run, site=run.scanner) for run in runs], "Site is the scanner, as participants.tsv tells no site."


def scanner_name(acquisition: Mapping[str, Any]) -> str:
    """Vendor, model, field strength and, as far as it is recorded, which device of that model."""
    parts = [look_up(acquisition, key).text for key in ("vendor", "scanner_model", "field_strength")]
    parts.append(_device(acquisition))
    return " ".join(filter(None, parts)) or UNKNOWN_SCANNER


def centre_frequency_mhz(run: GroupRun) -> float:
    """Centre frequency of a run in MHz; NaN when it is not recorded."""
    found = look_up(_acquisition(run.results), "centre_frequency").number
    return math.nan if found is None else found


def letters(count: int) -> list[str]:
    """A, B, ... Z, AA, AB, ...: short names for the scanners."""
    names = []
    for i in range(count):
        name = ""
        while i >= 0:
            name, i = chr(65 + i % 26) + name, i // 26 - 1
        names.append(name)
    return names


def _group_run(place: int, results: RunResults, study: Study) -> GroupRun:
    person = study.participants.get(results.subject, {})
    record = parse_run({"run": results.prefix, **results.record}) if results.record else None
    site = next((person[name] for name in SITE_COLUMNS if name in person), "")
    scanner = scanner_name(_acquisition(results))
    if site and site not in scanner and not _device(_acquisition(results)):
        scanner = f"{scanner} ({site})"
    return GroupRun(
        place,
        results.prefix,
        results.subject,
        results.session,
        _verdict(results.quality, record),
        _flags(results.quality),
        scanner,
        site,
        number(person.get("age")),
        next((person[name] for name in SEX_COLUMNS if name in person), ""),
        study.pages.get(results.prefix, ""),
        record,
        results,
        study.acquired.get(results.prefix, Acquired()),
    )


def _acquisition(results: RunResults) -> Mapping[str, Any]:
    acquisition = results.record.get("acquisition")
    return acquisition if isinstance(acquisition, Mapping) else {}


def _device(acquisition: Mapping[str, Any]) -> str:
    """Which device of its model a scanner was; empty where nothing tells."""
    return next(filter(None, (look_up(acquisition, key).text for key in WHICH_DEVICE)), "")


def _verdict(quality: Mapping[str, Any], record: Run | None) -> str:
    if record is not None and not record.succeeded:
        return "failed"
    verdict = quality.get("verdict")
    return verdict if verdict in RUN_VERDICTS else "not judged"


def _flags(quality: Mapping[str, Any]) -> tuple[RunFlag, ...]:
    flags = quality.get("flags")
    found: Sequence[Any] = flags if isinstance(flags, list) else ()
    return tuple(
        RunFlag(
            words(flag.get("metric") or ""),
            words(flag.get("message") or flag.get("metric") or "flagged"),
            words(flag.get("remedy") or ""),
        )
        for flag in found
        if isinstance(flag, Mapping)
    )
