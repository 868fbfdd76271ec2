"""What the runs of a study left in the output folder, read for the group level: results, records, participants."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from qsmprep.bids.acquired import Acquired, acquired
from qsmprep.bids.names import bare_label, file_entities
from qsmprep.bids.reading import UnreadableFileError, read_json_object, read_text_file
from qsmprep.files.age import is_of_earlier_command

QUALITY, REGIONS, RECORD, CHI = "_qc.json", "_desc-roi_stats.tsv", "_record.json", "_Chimap.json"
REGION_NUMBERS = ("n", "n_region", "excluded_share", "mean", "sd", "median", "p5", "p25", "p75", "p95")
REGION_TEXTS = ("segmentation", "index", "name", "map", "unit")
NEEDED = ("segmentation", "name", "map", "mean")
RESULT_LIMIT_BYTES = 64 * 2**20  # of one record or table
MISSING = ("", "n/a", "nan", "none")


@dataclass(frozen=True)
class RegionValue:
    """One line of a run's table of regions: its texts, and its numbers (NaN where there is none)."""

    texts: Mapping[str, str]
    numbers: Mapping[str, float]

    @property
    def key(self) -> tuple[str, str, str]:
        """Segmentation, region and map."""
        return self.texts["segmentation"], self.texts["name"], self.texts["map"]


@dataclass(frozen=True)
class RunResults:
    """What one run left.

    Attributes
    ----------
    prefix, subject, session : as in its file names; session is empty where there is none.
    quality : content of its *_qc.json, record : of its *_record.json; empty where there is none.
    steps : ProcessingSteps of its susceptibility map's sidecar, software : ProcessingSoftware of it.
    regions : lines of its table of regions.
    """

    prefix: str
    subject: str
    session: str = ""
    quality: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    steps: Sequence[Any] = ()
    software: Mapping[str, Any] = field(default_factory=dict)
    regions: tuple[RegionValue, ...] = ()


@dataclass(frozen=True)
class Study:
    """Everything the group level reads.

    Attributes
    ----------
    runs : in the order of their names.
    participants : label -> columns of participants.tsv; empty without it.
    missing : labels of participants of the dataset that left no result.
    unreadable : (path relative to its folder, why) of what was skipped.
    reports : labels of the subjects that have a report.
    pages : run -> address of what its subject's report tells of it, relative to the output folder.
    acquired : run -> when it was measured.
    output_dir : the folder that was read.
    """

    runs: tuple[RunResults, ...]
    participants: Mapping[str, Mapping[str, str]]
    missing: tuple[str, ...]
    unreadable: tuple[tuple[str, str], ...]
    reports: frozenset[str]
    pages: Mapping[str, str] = field(default_factory=dict)
    acquired: Mapping[str, Acquired] = field(default_factory=dict)
    output_dir: Path = Path()


def read_study(
    output_dir: Path, bids_dir: Path, *, participant_labels: Sequence[str] = (), session_labels: Sequence[str] = ()
) -> Study:
    """Read the results of all runs, of some subjects or sessions if asked.

    Files that cannot be read are named and skipped.

    Raises
    ------
    ValueError : the output folder is not there or holds no result.
    """
    output_dir, bids_dir = Path(output_dir), Path(bids_dir)
    if not output_dir.is_dir():
        raise ValueError(f"{output_dir}: no such folder. Run qsmprep BIDS_DIR OUTPUT_DIR participant first.")
    subjects = {bare_label(label, "sub") for label in participant_labels}
    sessions = {bare_label(label, "ses") for label in session_labels}
    unreadable: list[tuple[str, str]] = []
    found: dict[str, dict[str, Any]] = {}
    every: dict[str, set[str]] = {}
    for kind, path in _result_files(output_dir):
        prefix = path.name.removesuffix(kind)
        subject, session = _place(path, output_dir)
        every.setdefault(subject, set()).add(prefix)
        if (subjects and subject not in subjects) or (sessions and session not in sessions):
            continue
        content = _read(path, kind, output_dir, unreadable)
        run = found.setdefault(prefix, {"prefix": prefix, "subject": subject, "session": session})
        run |= content or {}
    if not found:
        raise ValueError(
            f"{output_dir}: no results of {_asked(subjects, sessions)} (no *{QUALITY}, *{REGIONS}, *{RECORD}). "
            "Run qsmprep BIDS_DIR OUTPUT_DIR participant first."
        )
    runs = tuple(_lasting(RunResults(**found[prefix]), output_dir, unreadable) for prefix in sorted(found, key=natural))
    participants = read_participants(bids_dir, unreadable)
    known = set(participants) | {path.name.removeprefix("sub-") for path in bids_dir.glob("sub-*") if path.is_dir()}
    missing = known - {run.subject for run in runs}
    reports = frozenset(path.stem.removeprefix("sub-") for path in output_dir.glob("sub-*.html"))
    return Study(
        runs,
        participants,
        tuple(sorted((label for label in missing if not subjects or label in subjects), key=natural)),
        tuple(unreadable),
        reports,
        {run.prefix: _page(run, sorted(every[run.subject], key=natural), reports) for run in runs},
        {run.prefix: acquired(bids_dir, run.subject, run.session, _inputs(run), _rows) for run in runs},
        output_dir,
    )


def _page(run: RunResults, of_subject: Sequence[str], reports: Collection[str]) -> str:
    """Where the subject's report tells of a run: its own page, its place in the page of all, or that page."""
    if run.prefix.removeprefix("sub-") in reports:
        return quote(f"{run.prefix}.html")
    if run.subject not in reports:
        return ""
    place = f"#run-{of_subject.index(run.prefix) + 1}" if len(of_subject) > 1 else ""
    return quote(f"sub-{run.subject}.html") + place


def _inputs(run: RunResults) -> Sequence[Any]:
    inputs = run.record.get("inputs")
    return inputs if isinstance(inputs, list) else ()


def _lasting(run: RunResults, output_dir: Path, unreadable: list[tuple[str, str]]) -> RunResults:
    """The run without the numbers of an earlier command, which a later one leaves that failed or made fewer."""
    if run.record and run.record.get("status") != "ok":
        if run.quality or run.regions or run.steps:
            unreadable.append((run.prefix, "its last command failed, so numbers that lie there are not used"))
        return replace(run, quality={}, regions=(), steps=(), software={})
    session, started = f"ses-{run.session}" if run.session else "", str(run.record.get("started", ""))
    anat = output_dir / f"sub-{run.subject}" / session / "anat"
    for kind, name in ((QUALITY, "quality"), (REGIONS, "regions")):
        path = anat / f"{run.prefix}{kind}"
        if getattr(run, name) and is_of_earlier_command(path, started):
            unreadable.append((path.relative_to(output_dir).as_posix(), "it is of an earlier command than the maps"))
            run = replace(run, **{name: type(getattr(run, name))()})
    return run


def read_participants(bids_dir: Path, unreadable: list[tuple[str, str]]) -> dict[str, dict[str, str]]:
    """Columns of participants.tsv by label, names of columns in lower case; empty when it is not there."""
    path = bids_dir / "participants.tsv"
    try:
        rows = _rows(path)
        if rows and "participant_id" not in rows[0]:
            raise ValueError("no column participant_id")
    except (ValueError, csv.Error) as error:
        if os.path.lexists(path):
            unreadable.append((path.name, _cause(error)))
        return {}
    table = {}
    for row in rows:
        label = row["participant_id"].removeprefix("sub-")
        if label:
            table[label] = {name: value for name, value in row.items() if value.lower() not in MISSING}
    return table


def natural(name: str) -> list[Any]:
    """Sorting key by which 2 comes before 10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def _result_files(output_dir: Path) -> Iterable[tuple[str, Path]]:
    for kind, folder in ((QUALITY, "anat"), (REGIONS, "anat"), (CHI, "anat"), (RECORD, "figures")):
        paths = [*output_dir.glob(f"sub-*/{folder}/*{kind}"), *output_dir.glob(f"sub-*/ses-*/{folder}/*{kind}")]
        for path in sorted(paths):
            if kind != CHI or not {"desc", "space"} & file_entities(path).keys():  # of the main map of the scan only
                yield kind, path


def _place(path: Path, output_dir: Path) -> tuple[str, str]:
    """Labels of the subject and of the session of a file, from its folders."""
    parts = path.relative_to(output_dir).parts
    session = parts[1].removeprefix("ses-") if parts[1].startswith("ses-") else ""
    return parts[0].removeprefix("sub-"), session


def _read(path: Path, kind: str, root: Path, unreadable: list[tuple[str, str]]) -> dict[str, Any] | None:
    """What a file tells of its run; None, and a line in `unreadable`, where it cannot be read."""
    readers: Mapping[str, Callable[[Path], dict[str, Any]]] = {
        QUALITY: lambda path: {"quality": _quality(path)},
        REGIONS: lambda path: {"regions": _regions(path)},
        CHI: _sidecar,
        RECORD: lambda path: {"record": _json(path)},
    }
    try:
        return readers[kind](path)
    except (ValueError, csv.Error) as error:
        unreadable.append((path.relative_to(root).as_posix(), _cause(error)))
        return None


def _cause(error: Exception) -> str:
    """Why a file is not read, without its name, which is told beside it."""
    return f"{error.found}. {error.remedy}" if isinstance(error, UnreadableFileError) else str(error)


def _json(path: Path) -> dict[str, Any]:
    return read_json_object(path, limit_bytes=RESULT_LIMIT_BYTES)


def _quality(path: Path) -> dict[str, Any]:
    document = _json(path)
    if not isinstance(document.get("metrics"), dict):
        raise ValueError('the file has no object "metrics"')
    return document


def _sidecar(path: Path) -> dict[str, Any]:
    document = _json(path)
    steps, software = document.get("ProcessingSteps"), document.get("ProcessingSoftware")
    return {
        "steps": tuple(steps) if isinstance(steps, list) else (),
        "software": software if isinstance(software, dict) else {},
    }


def _regions(path: Path) -> tuple[RegionValue, ...]:
    rows = _rows(path)
    lacking = [name for name in NEEDED if rows and name not in rows[0]]
    if lacking:
        raise ValueError(f"no column {', '.join(lacking)}")
    return tuple(
        RegionValue(
            {name: row.get(name, "") for name in REGION_TEXTS},
            {name: number(row.get(name, "")) for name in REGION_NUMBERS},
        )
        for row in rows
    )


def _rows(path: Path) -> list[dict[str, str]]:
    """Lines of a TSV file by its columns in lower case; a line with too few or too many cells is refused."""
    text = io.StringIO(read_text_file(path, limit_bytes=RESULT_LIMIT_BYTES), newline="")
    lines = [line for line in csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE) if line]
    if not lines:
        raise ValueError("the file is empty")
    names = [name.strip().lower() for name in lines[0]]
    for place, line in enumerate(lines[1:], start=2):
        if len(line) != len(names):
            raise ValueError(f"line {place} has {len(line)} cells, the header {len(names)}")
    return [dict(zip(names, (cell.strip() for cell in line), strict=True)) for line in lines[1:]]


def number(text: Any) -> float:
    """A number from a cell or a JSON value; NaN for what is none or not finite."""
    if isinstance(text, bool) or text is None:
        return math.nan
    try:
        value = float(text)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return value if math.isfinite(value) else math.nan


def _asked(subjects: set[str], sessions: set[str]) -> str:
    asked = [f"sub-{label}" for label in sorted(subjects)] + [f"ses-{label}" for label in sorted(sessions)]
    return ", ".join(asked) or "any subject"
