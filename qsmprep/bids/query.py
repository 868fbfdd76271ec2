"""From a BIDS dataset to the runs in it: which files belong together, in which order, with which metadata."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids.exceptions import BIDSConflictingValuesError
from bids.layout import BIDSLayout, BIDSLayoutIndexer
from bids.layout import Query as BidsQuery

from qsmprep.bids.names import (
    PARTS,
    RUN_ENTITIES,
    bare_label,
    choose_labels,
    file_entities,
    labels_inside,
    listed,
    name_problems,
    sidecar_applies,
)
from qsmprep.bids.problem import Problem
from qsmprep.bids.scans import Echo, GreRun, SpinEchoScan
from qsmprep.numerics.units import GYROMAGNETIC_RATIO_MHZ_PER_T

# Suffixes of gradient echo images, and of spin echo images.
GRE_SUFFIXES = ("MEGRE", "T2starw")
SPIN_ECHO_SUFFIX = "MESE"
SUFFIXES = (*GRE_SUFFIXES, SPIN_ECHO_SUFFIX)
FILTER_NAMES = ("megre", "t2starw", "mese", "t1w")


@dataclass(frozen=True)
class Query:
    """What a dataset holds: runs, labels of all its subjects, problems that belong to no run, spin echo scans."""

    runs: tuple[GreRun, ...]
    subjects: tuple[str, ...]
    problems: tuple[Problem, ...]
    spin_echoes: tuple[SpinEchoScan, ...] = ()


def find_runs(
    bids_dir: Path,
    *,
    participant_labels: Sequence[str] | None = None,
    session_labels: Sequence[str] | None = None,
    filters: Mapping[str, Mapping[str, Any]] | None = None,
) -> Query:
    """The gradient echo runs of a dataset.

    Parameters
    ----------
    bids_dir : root of the dataset. Derivatives, source data and files of no interest are not looked at.
    participant_labels, session_labels : those wanted, with or without "sub-" and "ses-"; None for all.
    filters : content of --bids-filter-file: {"megre": {"acquisition": "x"}}; `t2starw` follows `megre` if not given.

    Raises
    ------
    ValueError
        If a filter is not understood, or a sidecar contradicts the name of its image.
    """
    bids_dir = Path(os.path.abspath(bids_dir))
    available = labels_inside(bids_dir, "sub")
    subjects, problems = choose_labels(bids_dir, "sub", participant_labels, available)
    if not available:
        problems.append(_empty(bids_dir, "no folder sub-* in it"))
    sessions = [bare_label(label, "ses") for label in session_labels or ()]
    if session_labels:
        found = {label for subject in subjects for label in labels_inside(bids_dir / f"sub-{subject}", "ses")}
        sessions, missing = choose_labels(bids_dir, "ses", session_labels, sorted(found))
        problems += missing
    if not (bids_dir / "dataset_description.json").is_file():
        file = bids_dir / "dataset_description.json"
        problems.append(Problem("warning", "description-missing", file, "missing", "every BIDS dataset has it",
                                "Write Name and BIDSVersion."))  # fmt: skip
    if not subjects or (session_labels and not sessions):
        return Query((), tuple(available), tuple(problems))

    broken = _broken_sidecars(bids_dir, subjects)
    layout = _index(bids_dir, subjects, [problem.path for problem in broken])
    runs: list[GreRun] = []
    for suffix in GRE_SUFFIXES:
        images = layout.get(**_filter(filters, suffix, layout, sessions))
        runs += _group(images, suffix, broken)
    scans = _group(layout.get(**_filter(filters, SPIN_ECHO_SUFFIX, layout, ())), SPIN_ECHO_SUFFIX, broken)
    runs, dropped = _drop_rivals(runs)
    problems += dropped
    problems += _subjects_without_runs(bids_dir, subjects, runs, named=bool(participant_labels))
    return Query(
        tuple(sorted(runs, key=lambda run: run.name)),
        tuple(available),
        tuple(problems),
        tuple(sorted((_spin_echo_scan(scan) for scan in scans), key=lambda scan: scan.name)),
    )


def _spin_echo_scan(group: GreRun) -> SpinEchoScan:
    return SpinEchoScan(group.subject, group.session, group.entities, group.echoes, group.metadata, group.problems)


def find_derivative(folder: Path, run: GreRun, *, suffix: str, desc: str | None) -> Path | None:
    """The file `*_desc-<desc>_<suffix>.nii[.gz]` of a derivative dataset that belongs to a run; None if there is none.

    With `desc` None, any or none will do. A file belongs to the run if none of its entities contradicts the run's; one
    that names more of them is preferred. Files in another space are left aside.

    Raises
    ------
    ValueError
        If several files fit equally well, or the folder does not exist.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder. Give the folder of the derivative dataset.")
    own = {"sub": run.subject, "ses": run.session, **run.entities}
    fitting: dict[int, list[Path]] = {}
    for path in sorted((folder / f"sub-{run.subject}").rglob(f"*_{suffix}.nii*")):
        entities = file_entities(path)
        found = entities.pop("desc", None)
        if path.name.partition(".")[2] not in ("nii", "nii.gz") or (desc is not None and found != desc):
            continue
        entities.pop("part", None)
        entities.pop("echo", None)
        if all(own.get(entity) == label for entity, label in entities.items()):
            fitting.setdefault(len(entities), []).append(path)
    best = fitting[max(fitting)] if fitting else []
    if len(best) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in best)
        raise ValueError(f"{folder}: {names} fit {run.name} equally well; keep one of them.")
    return best[0] if best else None


def number(value: Any) -> float | None:
    """A number of a sidecar as float; None for anything else."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _index(bids_dir: Path, subjects: Sequence[str], unreadable: Sequence[Any]) -> BIDSLayout:
    """pybids' index of the images and sidecars of interest, and of nothing else."""
    suffixes = "|".join(SUFFIXES)
    subs, sess = "|".join(map(re.escape, subjects)), "[^/]+"  # spin echoes may be those of another session
    wanted = (
        rf"/(?:[^/]*(?:{suffixes})\.json|sub-(?:{subs})(?:/ses-(?:{sess}))?(?:/anat)?"
        rf"(?:/[^/]*(?:{suffixes})\.(?:json|nii|nii\.gz))?)"
    )
    ignore = [re.compile(rf"^(?!{wanted}$)")]
    for path in unreadable:
        ignore.append(re.compile(rf"^{re.escape('/' + Path(path).relative_to(bids_dir).as_posix())}$"))
    indexer = BIDSLayoutIndexer(validate=False, ignore=ignore)
    try:
        return BIDSLayout(bids_dir, validate=False, derivatives=False, indexer=indexer)
    except BIDSConflictingValuesError as error:
        raise ValueError(f"{bids_dir}: a sidecar contradicts the name of its image. {error}") from None


def _filter(filters: Any, suffix: str, layout: BIDSLayout, sessions: Sequence[str]) -> dict[str, Any]:
    """Arguments for pybids' `get` out of the user's filters."""
    filters = filters or {}
    if not isinstance(filters, Mapping) or not all(isinstance(value, Mapping) for value in filters.values()):
        raise ValueError('The BIDS filter must look like {"megre": {"acquisition": "x"}}.')
    unknown = set(filters) - set(FILTER_NAMES)
    if unknown:
        raise ValueError(f"BIDS filter {min(unknown)!r} is not known; use {', '.join(FILTER_NAMES)}.")
    fallback = {} if suffix == SPIN_ECHO_SUFFIX else filters.get("megre", {})
    wanted = dict(filters.get(suffix.lower(), fallback))
    entities = {name for config in layout.config.values() for name in config.entities}
    strange = set(wanted) - entities
    if strange:
        known = ", ".join(sorted(entities))
        raise ValueError(f"BIDS filter entity {min(strange)!r} is not known; use pybids' names: {known}.")
    special = {None: BidsQuery.NONE, "Query.NONE": BidsQuery.NONE, "Query.ANY": BidsQuery.ANY, "*": BidsQuery.ANY}
    wanted = {key: special.get(value, value) if not isinstance(value, list) else value for key, value in wanted.items()}
    limits = {"session": list(sessions)} if sessions else {}
    return {"suffix": suffix, "extension": [".nii", ".nii.gz"], **limits, **wanted}


def _group(images: Sequence[Any], suffix: str, broken: Sequence[Problem]) -> list[GreRun]:
    """Images that differ only in echo and part make one run."""
    groups: dict[tuple[tuple[str, str], ...], list[Any]] = {}
    for image in sorted(images, key=lambda image: str(image.path)):
        entities = file_entities(Path(str(image.path)))
        key = tuple((name, label) for name, label in entities.items() if name not in ("echo", "part"))
        groups.setdefault(key, []).append(image)
    return [_run(dict(key), suffix, group, broken) for key, group in groups.items()]


def _run(entities: dict[str, str], suffix: str, images: Sequence[Any], broken: Sequence[Problem]) -> GreRun:
    problems: list[Problem] = []
    files: dict[int | None, dict[str, Path]] = {}
    metadata: dict[int | None, dict[str, dict[str, Any]]] = {}
    for image in images:
        path = Path(str(image.path))
        own = file_entities(path)
        echo = int(own["echo"]) if own.get("echo", "").isdigit() else None
        part = PARTS.get(own.get("part", "mag"), "")
        problems += [problem for problem in broken if sidecar_applies(Path(str(problem.path)), path)]
        problems += name_problems(path, own, part, suffix)
        rival = files.setdefault(echo, {}).setdefault(part, path)
        if rival != path:
            found = f"the same image as {rival.name} by its name"
            problems.append(
                Problem("error", "image-twice", path, found, "one file an echo and part", "Remove one of the two.")
            )
        metadata.setdefault(echo, {}).setdefault(part, dict(image.get_metadata()))
    echoes = [
        Echo(echo, _echo_time(metadata[echo]), **{p: f for p, f in parts.items() if p}, metadata=metadata[echo])
        for echo, parts in files.items()
    ]
    common = _agreed([facts for parts in metadata.values() for facts in parts.values()])
    frequency = number(common.get("ImagingFrequency"))
    extra = sorted(set(entities) - {"sub", "ses", *RUN_ENTITIES})
    ordered = [entity for entity in (*RUN_ENTITIES, *extra) if entity in entities]
    return GreRun(
        subject=entities.get("sub", ""),
        session=entities.get("ses"),
        entities={entity: entities[entity] for entity in ordered},
        echoes=tuple(sorted(echoes, key=_echo_order(echoes))),
        metadata=common,
        field_strength_t=_field_strength(common),
        imaging_frequency_mhz=frequency if frequency and frequency > 0 else None,
        manufacturer=str(common.get("Manufacturer") or ""),
        suffix=suffix,
        problems=tuple(dict.fromkeys(problems)),
    )


def _field_strength(metadata: Mapping[str, Any]) -> float | None:
    """MagneticFieldStrength in tesla as declared, else by the proton's frequency in MHz."""
    strength, frequency = number(metadata.get("MagneticFieldStrength")), number(metadata.get("ImagingFrequency"))
    if strength is None and frequency and 2 < frequency < 1000:
        return round(frequency / GYROMAGNETIC_RATIO_MHZ_PER_T, 3)
    return strength


def _echo_order(echoes: Sequence[Echo]) -> Callable[[Echo], tuple[float, int]]:
    """Order by echo time where every one is known, else by number."""
    timed = all(echo.echo_time_s is not None for echo in echoes)
    return lambda echo: (echo.echo_time_s or 0.0 if timed else 0.0, echo.number or 0)


def _echo_time(metadata: Mapping[str, Mapping[str, Any]]) -> float | None:
    times = (number(facts.get("EchoTime")) for facts in metadata.values())
    return next((time for time in times if time is not None), None)


def _agreed(facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Entries that all sidecars that have them give the same value."""
    merged: dict[str, Any] = {}
    for sidecar in facts:
        for key, value in sidecar.items():
            merged.setdefault(key, value)
    return {key: value for key, value in merged.items() if all(value == sidecar.get(key, value) for sidecar in facts)}


def _drop_rivals(runs: Sequence[GreRun]) -> tuple[list[GreRun], list[Problem]]:
    """Leave out T2starw images that are no run of their own beside multi-echo ones."""
    multi = [run for run in runs if run.suffix == "MEGRE"]
    kept, problems = list(multi), []
    for run in runs:
        if run.suffix == "MEGRE":
            continue
        beside = any((run.subject, run.session) == (other.subject, other.session) for other in multi)
        same_name = any(run.name == other.name for other in multi)
        magnitude_only = all(set(echo.files) == {"magnitude"} for echo in run.echoes)
        if beside and magnitude_only:
            found = "a magnitude without phase beside MEGRE images: not used"
            remedy = "Add its phase if it is to be processed."
            problems.append(Problem("warning", "magnitude-without-phase", run.files[0], found, "", remedy))
        elif same_name:
            needed = "names of runs that differ, as outputs are named after them"
            remedy = "Give one of them another acq- or run-, or choose by --bids-filter-file."
            problems.append(
                Problem(
                    "error", "run-name-twice", run.files[0], f"T2starw and MEGRE are both {run.name}", needed, remedy
                )
            )
        else:
            kept.append(run)
    return kept, problems


def _subjects_without_runs(
    bids_dir: Path, subjects: Sequence[str], runs: Sequence[GreRun], *, named: bool
) -> list[Problem]:
    without = [subject for subject in subjects if not any(run.subject == subject for run in runs)]
    if not without:
        return []
    if not runs:
        return [_empty(bids_dir, f"no MEGRE or T2starw image of {listed([f'sub-{label}' for label in without])}")]
    found = "no MEGRE or T2starw image that was asked for"
    if named:
        return [Problem("error", "participant-without-images", bids_dir / f"sub-{s}", found, "",
                        "Leave the participant out.") for s in without]  # fmt: skip
    found += f" of {listed([f'sub-{label}' for label in without])}"
    remedy = "Look at the names of their images, and at --session-label and --bids-filter-file."
    return [Problem("warning", "participants-without-images", bids_dir, found, "", remedy)]


def _empty(bids_dir: Path, found: str) -> Problem:
    needed = "files as sub-01/anat/sub-01_echo-1_part-phase_MEGRE.nii.gz"
    remedy = "Is this the root of a BIDS dataset, and do --session-label and --bids-filter-file leave anything?"
    return Problem("error", "dataset-empty", bids_dir, found, needed, remedy)


def _broken_sidecars(bids_dir: Path, subjects: Sequence[str]) -> list[Problem]:
    """Sidecars that are not JSON objects: pybids would stop at the first, and with it every other run."""
    folders = [bids_dir]
    for subject in subjects:
        root = bids_dir / f"sub-{subject}"
        for folder in (root, *sorted(root.glob("ses-*"))):
            folders += [folder, folder / "anat"]
    problems = []
    for path in (path for folder in folders for path in sorted(folder.glob("*.json"))):
        if not path.name.endswith(tuple(f"{suffix}.json" for suffix in SUFFIXES)):
            continue
        try:
            if not isinstance(json.loads(path.read_text(encoding="utf-8")), dict):
                raise ValueError("it holds no object { }")
        except (ValueError, OSError) as error:
            found = f"not a readable JSON sidecar ({error})"
            problems.append(
                Problem("error", "sidecar-unreadable", path, found, "", "Mend it, or convert the images again.")
            )
    return problems
