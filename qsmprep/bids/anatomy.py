"""Which segmentations and which T1w image belong to a run, in the layouts of BIDS, FreeSurfer, FastSurfer, SynthSeg."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qsmprep.bids.entities import read_filter
from qsmprep.bids.names import RUN_ENTITIES, file_entities, listed, same_label
from qsmprep.bids.problem import Problem
from qsmprep.bids.reading import UnreadableFileError, read_json_object
from qsmprep.bids.scans import GreRun
from qsmprep.findings import Note, Warning

FREESURFER_FILES = ("aseg.mgz", "aparc.DKTatlas+aseg.deep.mgz", "aseg.auto_noCCseg.mgz")
# Derivatives of these names are given for their segmentations; programs whose labels are FreeSurfer's.
SEGMENTERS = ("freesurfer", "fastsurfer", "synthseg")
_FREESURFER_WORDS = (*SEGMENTERS, "aseg", "aparc")
_NATIVE_SPACES = (None, "T1w", "orig", "individual", "native", "MEGRE", "T2starw")
_GRADIENT_ECHO = re.compile(r"MEGRE|T2starw|part-mag|echo-\d")
_PYBIDS_NAMES = {"acquisition": "acq", "reconstruction": "rec", "ceagent": "ce", "run": "run"}
_NO_LABELS = ("post", "resample", "_qc", "_vol")  # what SynthSeg writes beside its labels


@dataclass(frozen=True)
class Candidate:
    """A segmentation that belongs to a run by its name.

    Attributes
    ----------
    label : as tables and file names call it: the derivative's name and what the file adds.
    path : the label image.
    root : folder of the derivative, up to which a table of names is looked for.
    freesurfer : whether its labels are FreeSurfer's where no table says otherwise.
    gradient_echo : whether it was made from a gradient echo image, and so lies as they do in the scanner.
    note : what was assumed, if anything.
    """

    label: str
    path: Path
    root: Path
    freesurfer: bool = False
    gradient_echo: bool = False
    note: Note | None = None


@dataclass(frozen=True)
class Segmentation:
    """A segmentation to be measured in.

    Attributes
    ----------
    label, path : as in `Candidate`.
    names : number to name of its regions.
    placement : "grid": on the run's grid; "scanner": by the affines; "t1w": by the T1w image's registration.
    notes : where its names come from, what was assumed.
    """

    label: str
    path: Path
    names: Mapping[int, str]
    placement: str = "grid"
    notes: tuple[Note, ...] = ()

    @property
    def source(self) -> str:
        """Which file it is."""
        return self.path.name


@dataclass(frozen=True)
class Atlas:
    """An atlas to be registered: label image, its table, and the template it was drawn on."""

    label: str
    path: Path
    names: Mapping[int, str]
    template: Path
    notes: tuple[Note, ...] = ()

    @property
    def source(self) -> str:
        """Which file it is, and what it was drawn on."""
        return f"{self.path.name} by its template {self.template.name}"


@dataclass(frozen=True)
class OwnTemplate:
    """The package's own template, to be registered to magnitude and susceptibility."""

    names: Mapping[int, str]
    label: str = "template"
    notes: tuple[Note, ...] = ()
    path: Path | None = None

    @property
    def source(self) -> str:
        """What it is."""
        return "the package's own template, registered to magnitude and susceptibility"


@dataclass(frozen=True)
class Anatomy:
    """What tells a run's regions: segmentations, atlases, own template, T1w image, and what was decided or is wrong.

    `to_templates` tells whether the T1w image is wanted for the spaces of templates too.
    """

    segmentations: tuple[Segmentation, ...] = ()
    atlases: tuple[Atlas, ...] = ()
    template: OwnTemplate | None = None
    t1w: Path | None = None
    notes: tuple[Note, ...] = ()
    warnings: tuple[Warning, ...] = ()
    to_templates: bool = False

    @property
    def needs_t1w(self) -> bool:
        """Whether the T1w image has to be registered to the magnitude."""
        placed = any(segmentation.placement == "t1w" for segmentation in self.segmentations)
        return self.t1w is not None and (placed or bool(self.atlases) or self.to_templates)


def find_t1w(bids_dir: Path, run: GreRun, wanted: Mapping[str, Any] | None = None) -> tuple[Path | None, Note | None]:
    """The T1w image of a run's session, whatever its acq-, and a note where that was a choice.

    Parameters
    ----------
    bids_dir : root of the raw dataset.
    run : the gradient echo run.
    wanted : pybids entities of the image, of --bids-filter-file.

    Raises
    ------
    ValueError : an entity that is not known.
    """
    if strange := set(wanted or {}) - {*_PYBIDS_NAMES, "suffix", "extension", "datatype"}:
        raise ValueError(f"BIDS filter t1w: {min(strange)!r} is not known; use {', '.join(_PYBIDS_NAMES)}.")
    names = {name: value for name, value in (wanted or {}).items() if name in _PYBIDS_NAMES}
    chosen = read_filter({"t1w": names}, "t1w")
    folder = Path(bids_dir, f"sub-{run.subject}", *([f"ses-{run.session}"] if run.session else []), "anat")
    fitting = [
        path
        for path in sorted(folder.glob("*_T1w.nii*"))
        if path.name.partition(".")[2] in ("nii", "nii.gz")
        and chosen.admits(f"/{path.relative_to(bids_dir).as_posix()}")
    ]
    if not fitting:
        return None, None
    first = min(fitting, key=lambda path: (len(file_entities(path)), path.name))
    if len(fitting) == 1:
        return first, None
    text = f"Of {len(fitting)} T1w images of the session, {first.name} is used; choose by --bids-filter-file."
    return first, Note("t1w-chosen", text)


def find_segmentations(
    derivatives: Iterable[tuple[str, Path]], run: GreRun, bids_dir: Path
) -> tuple[tuple[Candidate, ...], tuple[Problem, ...]]:
    """Every segmentation of a run in derivative datasets, and a warning for each dataset that lacks one.

    A segmentation belongs to the run by subject and session; one of a T1w image may bear another acq- or run-.
    """
    found: list[Candidate] = []
    problems: list[Problem] = []
    for name, folder in derivatives:
        others: set[str] = set()
        own = [*_in_bids(name, folder, run, bids_dir, others, problems), *_in_freesurfer(name, folder, run, others)]
        known = {candidate.path for candidate in own}
        own += [candidate for candidate in _in_synthseg(name, folder, run, others) if candidate.path not in known]
        if not own and not any(problem.path and folder in Path(problem.path).parents for problem in problems):
            problems += _nothing(name, folder, run, others)
        found += own
    return tuple(found), tuple(problems)


def _nothing(name: str, folder: Path, run: GreRun, others: set[str]) -> list[Problem]:
    """Why a derivative gives no segmentation; nothing where it is given for its brain masks."""
    masks = (folder / f"sub-{run.subject}").rglob("*_desc-brain_mask.nii*")
    if name.lower() not in SEGMENTERS and not others and any(masks):
        return []
    whose = f"sub-{run.subject}" + (f"_ses-{run.session}" if run.session else "")
    there = f" (there is one of {listed(sorted(others))})" if others else ""
    needed = f"{whose}/mri/aseg.mgz, a {whose}_*_dseg.nii.gz in the head's own space, or a *synthseg*.nii.gz"
    remedy = "Segment this session too, or leave the derivative out."
    return [Problem("warning", "no-segmentation", folder, f"no segmentation of {whose}{there}", needed, remedy)]


def _in_bids(
    name: str, folder: Path, run: GreRun, bids_dir: Path, others: set[str], problems: list[Problem]
) -> list[Candidate]:
    """Files `*_dseg.nii[.gz]`: of those that differ in the run alone, the one whose name fits best."""
    groups: dict[str, list[tuple[int, Path]]] = {}
    standard: list[Path] = []
    for path in sorted((folder / f"sub-{run.subject}").rglob("*_dseg.nii*")):
        entities = file_entities(path)
        if path.name.partition(".")[2] not in ("nii", "nii.gz") or entities.get("sub") != run.subject:
            continue
        if _of_other_session(entities.get("ses"), run, others):
            continue
        if entities.get("space") not in _NATIVE_SPACES:
            standard.append(path)
            continue
        words = [entities[key] for key in ("atlas", "seg", "desc", "res") if key in entities]
        groups.setdefault("-".join([name, *words]), []).append((_likeness(entities, run), path))
    found = []
    for label, files in groups.items():
        best = max(likeness for likeness, _ in files)
        first = next(path for likeness, path in files if likeness == best)
        if best < 0 and not _names_a_t1w(first, run, bids_dir):
            what = "its name contradicts the run's, and no T1w image of the session bears it"
            problems.append(Problem("warning", "segmentation-of-other-run", first, what,
                                    f"a segmentation of {run.name}", "Rename or remove it."))  # fmt: skip
            continue
        gradient_echo = best >= 0 and _is_gradient_echo(first)
        freesurfer = any(word in f"{name} {first.name}".lower() for word in _FREESURFER_WORDS)
        found.append(Candidate(label, first, folder, freesurfer, gradient_echo, _session_note(first, run)))
    if standard and not found:
        what = f"in {standard[0].name} the head lies in a template's space"
        remedy = "Give the segmentation in the head's own space."
        problems.append(Problem("warning", "segmentation-in-template-space", standard[0], what, "", remedy))
    return found


def _likeness(entities: Mapping[str, str], run: GreRun) -> int:
    """How many entities of a segmentation's name are the run's; negative where one contradicts it."""
    own = [(entity, entities[entity]) for entity in RUN_ENTITIES if entity in entities]
    return len(own) if all(same_label(entity, run.entities.get(entity), label) for entity, label in own) else -1


def _names_a_t1w(path: Path, run: GreRun, bids_dir: Path) -> bool:
    """Whether a T1w image of the session has the segmentation's acq-, run- and so on."""
    own = {entity: label for entity, label in file_entities(path).items() if entity in RUN_ENTITIES}
    folder = Path(bids_dir, f"sub-{run.subject}", *([f"ses-{run.session}"] if run.session else []), "anat")
    others = (file_entities(image) for image in folder.glob("*_T1w.nii*"))
    return any(all(same_label(entity, other.get(entity), label) for entity, label in own.items()) for other in others)


def _in_freesurfer(name: str, folder: Path, run: GreRun, others: set[str]) -> list[Candidate]:
    """Folders `sub-X[_ses-Y]/mri` of FreeSurfer and FastSurfer; one of the session before one of the person."""
    subject = folder / f"sub-{run.subject}"
    own = [Path(f"{subject}_ses-{run.session}"), subject / f"ses-{run.session}"] if run.session else []
    for place in (*own, subject):
        files = [place / "mri" / file for file in FREESURFER_FILES if (place / "mri" / file).is_file()]
        if files:
            note = _session_note(place, run)
            return [Candidate(f"{name}-{path.stem}", path, folder, True, False, note) for path in files]
    for path in sorted(folder.glob(f"{subject.name}_ses-*/mri")):
        others.add(path.parent.name)
    return []


def _in_synthseg(name: str, folder: Path, run: GreRun, others: set[str]) -> list[Candidate]:
    """Files `*synthseg*.nii[.gz]` below or named after the subject."""
    subject = f"sub-{run.subject}"
    places = [folder / subject, *sorted(folder.glob(f"{subject}_ses-*"))]
    files = [path for place in places if place.is_dir() for path in sorted(place.rglob("*synthseg*.nii*"))]
    files += sorted(folder.glob(f"{subject}_*synthseg*.nii*"))
    found: dict[str, Candidate] = {}
    for path in files:
        inside = path.relative_to(folder).as_posix()
        if path.name.partition(".")[2] not in ("nii", "nii.gz") or any(word in path.name for word in _NO_LABELS):
            continue
        sessions = re.findall(r"ses-([0-9A-Za-z]+)", inside)
        if _of_other_session(sessions[-1] if sessions else None, run, others):
            continue
        gradient_echo = bool(_GRADIENT_ECHO.search(path.name)) or _is_gradient_echo(path)
        if gradient_echo and _likeness(file_entities(path), run) < 0:
            continue
        words = [word for word in path.name.partition(".")[0].split("_") if not re.match(r"(sub|ses)-", word)]
        label = "-".join([name, *words])
        found.setdefault(label, Candidate(label, path, folder, True, gradient_echo, _session_note(path, run)))
    return list(found.values())


def _of_other_session(session: str | None, run: GreRun, others: set[str]) -> bool:
    """Whether a file is of another session, which is then told."""
    if session is None or session == run.session:
        return False
    others.add(f"ses-{session}")
    return True


def _session_note(path: Path, run: GreRun) -> Note | None:
    """What is assumed of a segmentation that names no session while the run does."""
    if run.session is None or f"ses-{run.session}" in path.as_posix():
        return None
    text = f"{path.name} names no session: it is taken to lie as the images of ses-{run.session}."
    return Note("session-assumed", text)


def _is_gradient_echo(path: Path) -> bool:
    """Whether a sidecar says that the image lies as a gradient echo image does."""
    try:
        sidecar = read_json_object(path.with_name(path.name.partition(".")[0] + ".json"))
        return bool(_GRADIENT_ECHO.search(json.dumps(sidecar.get("SpatialReference", ""))))
    except UnreadableFileError:
        return False
