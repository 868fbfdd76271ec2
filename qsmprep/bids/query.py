"""From a BIDS dataset to the runs in it: which files belong together, in which order, with which metadata."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from qsmprep.bids.coils import OF_A_COIL, by_echo_time, coil_labels, echo_of, named_coils, without_coil
from qsmprep.bids.entities import FILTER_NAMES, Filter, read_filter
from qsmprep.bids.foreign import dicom_instead
from qsmprep.bids.kinds import GRE_SUFFIXES, SPIN_ECHO_SUFFIX, SUFFIXES, drop_rivals, named
from qsmprep.bids.metadata import OF_SPIN_ECHOES, OF_THE_FIELD, Sidecars, agreed, number
from qsmprep.bids.names import (
    PARTS,
    RUN_ENTITIES,
    choose_labels,
    file_entities,
    file_suffix,
    is_label,
    is_number,
    labels_inside,
    listed,
    name_problems,
    odd_name,
)
from qsmprep.bids.problem import Problem, errors, joined
from qsmprep.bids.reading import UnreadableFileError, read_json_object
from qsmprep.bids.scans import Echo, GreRun, SpinEchoScan
from qsmprep.numerics.units import GYROMAGNETIC_RATIO_MHZ_PER_T
from qsmprep.options import shown

_IMAGE = re.compile(rf"(?:.*[^0-9A-Za-z])?({'|'.join(SUFFIXES)})\.nii(?:\.gz)?", re.DOTALL)
_SIDECAR = re.compile(rf"(?:.*_)?({'|'.join(SUFFIXES)})\.json", re.DOTALL)


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
    datatypes: Sequence[str] = ("anat",),
) -> Query:
    """The gradient echo runs of a dataset.

    Parameters
    ----------
    bids_dir : root of the dataset. Derivatives, source data and files of no interest are not looked at.
    participant_labels, session_labels : those wanted, with or without "sub-" and "ses-"; None for all.
    filters : content of --bids-filter-file: {"megre": {"acquisition": "x"}}; `t2starw` follows `megre` if not given.
    datatypes : folders that are looked into, "anat" or "func"; spin echoes lie in "anat" alone.

    Raises
    ------
    ValueError
        If a filter is not understood.
    """
    bids_dir = Path(os.path.abspath(bids_dir))
    chosen = {kind: read_filter(filters, kind) for kind in FILTER_NAMES}
    try:
        labels, root = labels_inside(bids_dir, "sub"), _listed(bids_dir)
    except OSError as error:
        found = f"the folder cannot be listed ({error.strerror or error})"
        remedy = "Give yourself permission to read it."
        return Query((), (), (Problem("error", "dataset-unreadable", bids_dir, found, "", remedy),))
    available = [label for label in labels if is_label(label)]
    subjects, problems = choose_labels(bids_dir, "sub", participant_labels, available)
    if not participant_labels:
        problems += [_odd_folder(bids_dir / f"sub-{label}") for label in labels if not is_label(label)]
    if not labels:
        problems.append(_empty(bids_dir, "no folder sub-* in it"))
    if not labels and (dicom := dicom_instead(bids_dir)):
        return Query((), (), (dicom,))
    problems += _check_description(bids_dir / "dataset_description.json")
    sessions: set[str] = set()
    if session_labels:
        sessions, missing = _sessions(bids_dir, subjects, session_labels)
        problems += missing
    if not subjects or (session_labels and not sessions):
        return Query((), tuple(available), tuple(problems))

    above = Sidecars([path for path in root if _SIDECAR.fullmatch(path.name)])
    runs: list[GreRun] = []
    scans: list[SpinEchoScan] = []
    silent = []  # participants of whom there is neither a run nor a word why
    for subject in subjects:
        try:
            own = _participant(bids_dir, subject, sessions, chosen, above, datatypes)
        except Exception as error:  # whatever it is, it must not reach the others
            own = Query((), (), (_unlisted(bids_dir / f"sub-{subject}", error),))
        runs += own.runs
        scans += own.spin_echoes
        problems += own.problems
        if not own.runs and not errors(own.problems):
            silent.append(subject)
    problems += _subjects_without_runs(bids_dir, silent, runs, named(datatypes), by_name=bool(participant_labels))
    return Query(
        tuple(sorted(runs, key=lambda run: run.name)),
        tuple(available),
        tuple(problems),
        tuple(sorted(scans, key=lambda scan: scan.name)),
    )


@dataclass
class _Listing:
    """What the folders of a participant hold: images with the label of their session, sidecars, folders unreadable."""

    images: list[tuple[Path, str | None]] = field(default_factory=list)
    sidecars: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def _participant(
    bids_dir: Path,
    subject: str,
    sessions: set[str],
    chosen: Mapping[str, Filter],
    above: Sidecars,
    datatypes: Sequence[str],
) -> Query:
    """Runs and spin echo scans of one participant; spin echoes may be those of a session that was not asked for."""
    listing = _list_participant(bids_dir / f"sub-{subject}", sessions, datatypes)
    problems = list(listing.problems)
    sidecars = Sidecars(listing.sidecars, above)
    images: dict[str, list[Path]] = {suffix: [] for suffix in SUFFIXES}
    odd: list[tuple[Path, Problem]] = []
    for path, session in listing.images:
        suffix = _IMAGE.sub(r"\1", path.name)
        if not chosen[suffix.lower()].admits(f"/{path.relative_to(bids_dir).as_posix()}"):
            continue
        if sessions and session not in sessions and suffix in GRE_SUFFIXES:
            continue
        if problem := odd_name(path, subject, session):
            odd.append((path, problem))
        else:
            images[suffix].append(path)
    groups = [_with_odd(run, odd) for suffix in SUFFIXES for run in _group(images[suffix], suffix, sidecars)]
    runs, dropped = drop_rivals([group for group in groups if group.suffix in GRE_SUFFIXES])
    scans = [_spin_echo_scan(group) for group in groups if group.suffix == SPIN_ECHO_SUFFIX]
    theirs = {problem for group in groups for problem in group.problems}
    problems += joined(problem for _, problem in odd if problem not in theirs)
    return Query(tuple(runs), (), tuple(problems + dropped), tuple(scans))


def _with_odd(run: GreRun, odd: Sequence[tuple[Path, Problem]]) -> GreRun:
    """A run with the problems of images that would be of it by as much of their names as can be understood."""
    own = {"sub": run.subject, "ses": run.session, **run.entities}
    key = {name: label for name, label in own.items() if label is not None}
    mine = [problem for path, problem in odd if file_suffix(path) == run.suffix and _key(path) == key]
    return replace(run, problems=(*run.problems, *mine)) if mine else run


def _key(image: Path) -> dict[str, str]:
    """What the images of a run have in common: their entities but for echo and part."""
    return {name: label for name, label in file_entities(image).items() if name not in ("echo", "part")}


def _list_participant(folder: Path, sessions: set[str], datatypes: Sequence[str]) -> _Listing:
    """List the folder of a participant, those of the sessions, and those of the datatypes in each of them."""
    whole = _list_folder(folder, None, datatypes, wanted=not sessions)
    if any(problem.path == folder for problem in whole.problems):
        return whole
    for label in labels_inside(folder, "ses"):
        wanted = not sessions or label in sessions
        if is_label(label):
            own = _list_folder(folder / f"ses-{label}", label, datatypes, wanted=wanted)
            whole.images += own.images
            whole.sidecars += own.sidecars
            whole.problems += own.problems
        elif not sessions:
            whole.problems.append(_odd_folder(folder / f"ses-{label}"))
    return whole


def _list_folder(folder: Path, session: str | None, datatypes: Sequence[str], *, wanted: bool) -> _Listing:
    """A folder and those of the datatypes in it.

    No image of it where one of them cannot be read, as metadata may be missing then.
    """
    listing = _Listing()
    for place in (folder, *(folder / datatype for datatype in datatypes)):
        try:
            paths = _listed(place)
        except OSError as error:
            problem = _unlisted(place, error)
            matters = wanted or (session is None and place == folder)
            return _Listing(problems=[problem if matters else replace(problem, severity="warning")])
        listing.images += [(path, session) for path in paths if _IMAGE.fullmatch(path.name)]
        listing.sidecars += [path for path in paths if _SIDECAR.fullmatch(path.name)]
    return listing


def _listed(folder: Path) -> list[Path]:
    """The files of a folder in order, hidden ones left aside; none where there is no folder.

    Raises
    ------
    OSError : the folder cannot be listed, or links to one that is not here.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        if folder.is_symlink():
            raise
        return []
    except NotADirectoryError:
        return []
    return [folder / name for name in sorted(names) if not name.startswith(".")]


def _unlisted(folder: Path, error: Exception) -> Problem:
    """That a folder cannot be read, or what is in it cannot be understood."""
    cause = error.strerror if isinstance(error, OSError) else None
    cause = cause or f"{type(error).__name__}: {str(error)[:200]}"
    return Problem("error", "participant-unreadable", folder, f"the folder cannot be read ({cause})", "",
                   "Give yourself permission to read it, or fetch or restore the data.")  # fmt: skip


def _odd_folder(folder: Path) -> Problem:
    word = "participant" if folder.name.startswith("sub-") else "session"
    return Problem("error", "label-not-bids", folder, f"no label of a {word}", "letters and digits",
                   "Rename the folder and what is in it, or choose the others by "
                   f"--{word}-label.")  # fmt: skip


def _sessions(bids_dir: Path, subjects: Sequence[str], wanted: Sequence[str]) -> tuple[set[str], list[Problem]]:
    """The wanted sessions that some participant has, and a problem for each that none has."""
    found: set[str] = set()
    for subject in subjects:
        try:
            found.update(labels_inside(bids_dir / f"sub-{subject}", "ses"))
        except OSError:  # told when its files are listed
            continue
    sessions, missing = choose_labels(bids_dir, "ses", wanted, sorted(found))
    return set(sessions), missing


def _check_description(path: Path) -> list[Problem]:
    """What is wrong with dataset_description.json, which nothing here depends on."""
    remedy = "Write Name and BIDSVersion."
    try:
        document = read_json_object(path, remedy="Write Name and BIDSVersion into it anew.")
    except UnreadableFileError as error:
        if error.absent and not path.is_symlink():
            return [
                Problem("warning", "description-missing", path, "missing", "the description of a BIDS dataset", remedy)
            ]
        return [Problem("warning", "description-unreadable", path, error.found, "", error.remedy)]
    for key, kind, needed in (("Name", str, "a text"), ("BIDSVersion", str, "a text"), ("GeneratedBy", list, "a list")):
        if key in document and not isinstance(document[key], kind):
            return [
                Problem("warning", "description-wrong", path, f"{key} is {shown(document[key])}", needed, "Correct it.")
            ]
    return []


def _spin_echo_scan(group: GreRun) -> SpinEchoScan:
    return SpinEchoScan(group.subject, group.session, group.entities, group.echoes, group.metadata, group.problems)


def _group(images: Sequence[Path], suffix: str, sidecars: Sidecars) -> list[GreRun]:
    """Images that differ only in echo and part make one run."""
    coils = coil_labels(images) if suffix in GRE_SUFFIXES else {}
    groups: dict[tuple[bool, tuple[tuple[str, str], ...]], list[Path]] = {}
    for image in images:
        key = without_coil(_key(image))[1] if image in coils else _key(image)
        groups.setdefault((image in coils, tuple(key.items())), []).append(image)
    return [_run(dict(key), suffix, group, sidecars, coils) for (_, key), group in groups.items()]


def _run(
    entities: dict[str, str], suffix: str, images: Sequence[Path], sidecars: Sidecars, coils: Mapping[Path, str]
) -> GreRun:
    problems: list[Problem] = []
    files: dict[int | None, dict[str, dict[str, Path]]] = {}
    told: dict[Path, dict[str, Any]] = {}
    for path in images:
        own = file_entities(path)
        echo = int(own["echo"]) if is_number(own.get("echo", "")) else None
        part = PARTS.get(own.get("part", "mag"), "")
        told[path], unreadable = sidecars.of(path)
        problems += [*unreadable, *name_problems(path, own, part, suffix, of_coil=path in coils)]
        rival = files.setdefault(echo, {}).setdefault(part, {}).setdefault(coils.get(path, ""), path)
        if rival != path:
            found = f"the same image as {rival.name} by its name"
            problems.append(
                Problem("error", "image-twice", path, found, "one file an echo and part", "Remove one of the two.")
            )
    built = [echo_of(echo, parts, told) for echo, parts in files.items()]
    problems += [problem for _, found in built for problem in found]
    echoes, of_coils = [echo for echo, _ in built], named_coils(coils[path] for path in images if path in coils)
    if suffix in GRE_SUFFIXES and of_coils is None:
        echoes, of_coils = by_echo_time(echoes)
    kept = [(path, _facts_of_run(facts) if of_coils else facts) for path, facts in told.items()]
    common, contradictions = agreed(kept, OF_SPIN_ECHOES if suffix == SPIN_ECHO_SUFFIX else OF_THE_FIELD)
    frequency, maker = number(common.get("ImagingFrequency")), common.get("Manufacturer")
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
        manufacturer=maker if isinstance(maker, str) else "",
        suffix=suffix,
        problems=tuple(dict.fromkeys([*problems, *contradictions])),
        coils=of_coils,
    )


def _facts_of_run(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of an image without what is that of its coil."""
    return {key: value for key, value in facts.items() if key not in OF_A_COIL}


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


def _subjects_without_runs(
    bids_dir: Path, subjects: Sequence[str], runs: Sequence[GreRun], kinds: str, *, by_name: bool
) -> list[Problem]:
    without = [subject for subject in subjects if not any(run.subject == subject for run in runs)]
    if not without:
        return []
    if not runs:
        return [_empty(bids_dir, f"no {kinds} image of {listed([f'sub-{label}' for label in without])}")]
    found = f"no {kinds} image that was asked for"
    if by_name:
        return [Problem("error", "participant-without-images", bids_dir / f"sub-{s}", found, "",
                        "Leave the participant out.") for s in without]  # fmt: skip
    found += f" of {listed([f'sub-{label}' for label in without])}"
    remedy = "Look at the names of their images, and at --session-label and --bids-filter-file."
    return [Problem("warning", "participants-without-images", bids_dir, found, "", remedy)]


def _empty(bids_dir: Path, found: str) -> Problem:
    needed = "files as sub-01/anat/sub-01_echo-1_part-phase_MEGRE.nii.gz"
    remedy = "Is this the root of a BIDS dataset, and do --session-label and --bids-filter-file leave anything?"
    return Problem("error", "dataset-empty", bids_dir, found, needed, remedy)
