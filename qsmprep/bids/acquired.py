"""When a run was measured: from scans.tsv, the sidecars of its images or sessions.tsv of the dataset."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from qsmprep.bids.reading import read_json_object

SCANS, SIDECAR, SESSIONS = "acq_time of scans.tsv", "AcquisitionDateTime of the sidecar", "acq_time of sessions.tsv"
SHIFTED_BEFORE = 1926  # BIDS: dates shifted for privacy lie in 1925 or earlier, by another shift for each subject
Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Acquired:
    """When a run was measured.

    Attributes
    ----------
    time : as ISO 8601 without a time zone; empty where it is not known.
    source : where it was found, one of SCANS, SIDECAR, SESSIONS.
    shifted : whether a date was found that was shifted for privacy, which is not used.
    """

    time: str = ""
    source: str = ""
    shifted: bool = False


def acquired(
    bids_dir: Path, subject: str, session: str, inputs: Sequence[Any], rows: Callable[[Path], Rows]
) -> Acquired:
    """When the images of a run were measured.

    Parameters
    ----------
    bids_dir : the dataset.
    subject, session : labels; session may be empty.
    inputs : images of the run relative to the dataset, as its record names them.
    rows : reads a TSV file.

    Returns
    -------
    The earliest time of the images in scans.tsv; else that in their sidecars; else that of the session.
    """
    images = [path for path in map(PurePosixPath, filter(_is_text, inputs)) if _is_inside(path)]
    home = f"sub-{subject}" + (f"/ses-{session}" if session else "")
    table = bids_dir / home / f"{home.replace('/', '_')}_scans.tsv"
    own = {path.relative_to(home).as_posix() for path in images if path.is_relative_to(home)}
    found = {
        SCANS: [row.get("acq_time", "") for row in _read(table, rows) if row.get("filename") in own],
        SIDECAR: [_of_sidecar(bids_dir / path) for path in images[:1]],
        SESSIONS: _of_session(bids_dir, subject, session, rows),
    }
    times = {source: [time for time in map(_time, texts) if time is not None] for source, texts in found.items()}
    for source, own_times in times.items():
        known = [time for time in own_times if time.year >= SHIFTED_BEFORE]
        if known:
            return Acquired(min(known).isoformat(timespec="seconds"), source)
    return Acquired(shifted=any(times.values()))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_inside(path: PurePosixPath) -> bool:
    return not path.is_absolute() and ".." not in path.parts


def _read(path: Path, rows: Callable[[Path], Rows]) -> Rows:
    """Lines of a table; none where it is not there or is no table: the page says of which runs no date is known."""
    try:
        return rows(path)
    except (ValueError, csv.Error):
        return []


def _of_sidecar(image: Path) -> str:
    name = image.name.removesuffix(".gz").removesuffix(".nii") + ".json"
    try:
        found = read_json_object(image.with_name(name)).get("AcquisitionDateTime")
    except ValueError:
        return ""
    return found if isinstance(found, str) else ""


def _of_session(bids_dir: Path, subject: str, session: str, rows: Callable[[Path], Rows]) -> list[str]:
    table = bids_dir / f"sub-{subject}" / f"sub-{subject}_sessions.tsv"
    lines = _read(table, rows) if session else []
    return [row.get("acq_time", "") for row in lines if row.get("session_id", "").removeprefix("ses-") == session]


def _time(text: str) -> datetime | None:
    """A time of ISO 8601 with its date, as local or, where a zone is told, as universal time; None for what is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
