"""The runs of a subject as the output folder holds them: from their records, else from the sidecars of their maps."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from qsmprep.findings import Warning, document
from qsmprep.report.crash import crashes_in_logs
from qsmprep.report.pictures import PICTURES, further_inversion, picture_name
from qsmprep.report.record import (
    RECORD_SUFFIX,
    Picture,
    Run,
    load_picture,
    natural_order,
    parse_run,
    read_record,
    read_runs,
    subject_label,
)
from qsmprep.stages import rank_of

AGAIN = "Run qsmprep again for this participant to have its whole record."
REBUILT = Warning(
    "record-missing",
    "The record of this run is missing: this page was made from the sidecars of its maps and its pictures.",
    AGAIN,
)
NO_MAP = "The record of this run is missing, and so is its susceptibility map: it did not come to its end."


def runs_of(output_dir: Path, subject: str) -> list[Run]:
    """Every run of a subject, in all sessions, pictures loaded, sorted by name.

    A run without a record is made up from the sidecars of its maps; a failed one whose record holds no crash text
    takes it from the logs. Nothing but the output folder is read.

    Raises
    ------
    ValueError : a label that is no plain name.
    """
    runs = [
        replace(run, crashes=crashes_in_logs(output_dir, run.run)) if run.errors and not run.crashes else run
        for run in read_runs(output_dir, subject)
    ]
    folder = Path(output_dir) / f"sub-{subject_label(subject)}"
    known = {run.run for run in runs} | {run.run.removesuffix("_orientations") for run in runs}
    for home in (folder, *sorted(folder.glob("ses-*/"))):
        runs += [_with_pictures(record, home / "figures") for record in _rebuilt_records(home, known)]
    return sorted(runs, key=lambda run: natural_order(run.run))


def subjects_of(output_dir: Path) -> list[str]:
    """Labels of the subjects of whom a run left a record, a picture or a map's sidecar."""
    found = set()
    for folder in Path(output_dir).glob("sub-*/"):
        patterns = (
            f"{where}{what}" for where in ("", "ses-*/") for what in ("figures/*_record.json", "anat/*map.json")
        )
        if any(next(folder.glob(pattern), None) for pattern in patterns):
            found.add(folder.name.removeprefix("sub-"))
    return sorted(found, key=natural_order)


def record_files(output_dir: Path) -> Iterator[Path]:
    """The records of all runs, in no order."""
    for where in ("sub-*", "sub-*/ses-*"):
        yield from Path(output_dir).glob(f"{where}/figures/*{RECORD_SUFFIX}")


def records_there(output_dir: Path) -> frozenset[tuple[str, int]]:
    """The records of all runs and when they were written."""
    found = set()
    for path in record_files(output_dir):
        with suppress(FileNotFoundError):
            found.add((str(path), path.stat().st_mtime_ns))
    return frozenset(found)


def runs_with_results(output_dir: Path) -> list[Run]:
    """The runs of all subjects as their results tell them, without pictures, sorted by name.

    A run whose last command failed, while maps of an earlier one lie in its place, is made up from their sidecars.
    """
    found: list[Run] = []
    for subject in subjects_of(output_dir):
        folder = Path(output_dir) / f"sub-{subject}"
        for home in (folder, *sorted(folder.glob("ses-*/"))):
            runs = {run.run: run for run in map(read_record, sorted(home.glob(f"figures/*{RECORD_SUFFIX}")))}
            if not runs or not all(run.succeeded for run in runs.values()):
                rebuilt = [parse_run(record) for record in _rebuilt_records(home)]
                runs |= {run.run: run for run in rebuilt if run.run not in runs or not runs[run.run].succeeded}
            found += [run for run in runs.values() if run.steps]
    return sorted(found, key=lambda run: natural_order(run.run))


def _rebuilt_records(home: Path, known: Collection[str] = ()) -> list[dict[str, Any]]:
    """What the sidecars of a folder's maps tell of their runs, those known already apart, as records."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted([*home.glob("anat/*map.json"), *home.glob("fmap/*map.json")]):
        if _run_of(path) in known or "_space-" in path.name:
            continue
        try:
            sidecar = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            text = f"The sidecar {path.name} cannot be read ({error})."
            _record_of(found, path)["warnings"].append(document(Warning("map-sidecar-unreadable", text, AGAIN)))
            continue
        steps = sidecar.get("ProcessingSteps") if isinstance(sidecar, dict) else None
        if isinstance(steps, list):
            record = _record_of(found, path)
            if path.name.endswith("_Chimap.json"):
                record |= {"status": "ok", "errors": []}
            record["software"] = sidecar.get("ProcessingSoftware")
            for step in steps:
                if isinstance(step, dict):
                    record["steps"].setdefault((str(step.get("stage")), str(step.get("method"))), step)
    for record in found.values():
        record["steps"] = sorted(record["steps"].values(), key=lambda step: rank_of(str(step.get("stage"))))
    return list(found.values())


def _record_of(found: dict[str, dict[str, Any]], sidecar: Path) -> dict[str, Any]:
    """The record of the run that a sidecar belongs to, begun where there is none."""
    prefix = _run_of(sidecar)
    errors = [{"step": "", "message": NO_MAP}]
    begun = {"run": prefix, "warnings": [document(REBUILT)], "steps": {}, "errors": errors}
    return found.setdefault(prefix, begun)


def _run_of(sidecar: Path) -> str:
    """The run that a map belongs to by its name."""
    return sidecar.stem.rpartition("_")[0].partition("_desc-")[0]


def _with_pictures(record: dict[str, Any], figures: Path) -> Run:
    """The run of a made-up record; each picture of the folder at the step its name belongs to."""
    run = parse_run(record)
    left = {picture_name(path.name): path for path in _pictures(figures, run.run)}
    told: set[str] = set()
    methods = [step.method for step in run.steps if step.stage == "inversion"]
    complete = []
    for step in run.steps:
        mine: list[Picture] = []
        for name, kind in PICTURES.items():
            if step.stage in kind.stages and step.stage not in told and name in left:
                mine.append(load_picture(figures, Picture(left[name].name, kind.caption)))
        if step.stage == "inversion" and step.stage not in told:  # all methods in one place, to be compared
            further = {kind.name: kind.caption for kind in map(further_inversion, methods)}
            mine += [load_picture(figures, Picture(left[n].name, words)) for n, words in further.items() if n in left]
        told.add(step.stage)
        complete.append(replace(step, figures=tuple(mine)))
    shown = {picture.file for step in complete for picture in step.figures}
    rest = [path for path in left.values() if path.name not in shown]
    more = tuple(load_picture(figures, Picture(path.name, picture_name(path.name))) for path in rest)
    return replace(run, steps=tuple(complete), more_figures=more)


def _pictures(figures: Path, run: str) -> Iterable[Path]:
    return sorted(path for path in figures.glob("*.png") if path.name.startswith(f"{run}_desc-"))
