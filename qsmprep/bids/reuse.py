"""Results of a step that another program left: which image it is, by its name, and in which unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from qsmprep.bids.names import file_entities, listed, same_label
from qsmprep.bids.problem import Problem
from qsmprep.bids.reading import read_json_object
from qsmprep.bids.scans import GreRun

FIELD_UNITS = MappingProxyType({"hz": "Hz", "rad/s": "rad/s", "ppm": "ppm"})
RATE_UNITS = MappingProxyType({"1/s": "1/s", "s^-1": "1/s", "hz": "1/s", "1/ms": "1/ms", "ms^-1": "1/ms"})


@dataclass(frozen=True)
class Kind:
    """A result that can be taken over.

    Attributes
    ----------
    name : on the command line.
    what : in words.
    endings : of the file names, without `.nii[.gz]`.
    units : what `Units` of a sidecar may say, in lower case -> the unit.
    usual : the unit where no sidecar tells.
    """

    name: str
    what: str
    endings: tuple[str, ...]
    units: Mapping[str, str]
    usual: str


# fmt: off
KINDS = {kind.name: kind for kind in (
    Kind("unwrapped", "unwrapped phase of the echoes", ("part-phase_unwrapped",), {"rad": "rad"}, "rad"),
    Kind("total-field", "total field", ("desc-total_fieldmap", "fieldmap"), FIELD_UNITS, "Hz"),
    Kind("tissue-field", "tissue field", ("desc-local_fieldmap", "localfield"), FIELD_UNITS, "Hz"),
    Kind("r2star", "R2*", ("R2starmap",), RATE_UNITS, "1/s"),
)}
# fmt: on


@dataclass(frozen=True)
class Reused:
    """An image that stands for the result of a step.

    Attributes
    ----------
    kind : a name of KINDS.
    path : the image.
    unit : of its values.
    told : whether a sidecar told the unit.
    origin : where it comes from, in words.
    """

    kind: str
    path: Path
    unit: str
    told: bool
    origin: str


def find_reused(name: str, folder: Path, run: GreRun, kind: Kind) -> Reused | None:
    """The image of a derivative dataset that is a kind of result of a run; None if there is none.

    It lies below `sub-<label>`, in the session's folder if one is named. No entity of its name may contradict the
    run's; a prefix without entities (`Sepia_localfield`) fits every run of the session.

    Raises
    ------
    ValueError : several images fit equally well, or the sidecar's unit is none of this kind.
    """
    fitting: dict[int, list[Path]] = {}
    for path in sorted((Path(folder) / f"sub-{run.subject}").rglob("*.nii*")):
        entities = _entities(path, kind)
        if entities is not None and _belongs(path.relative_to(folder), entities, run):
            fitting.setdefault(len(entities), []).append(path)
    best = fitting[max(fitting)] if fitting else []
    if len(best) > 1:
        names = listed([path.relative_to(folder).as_posix() for path in best])
        raise ValueError(f"{folder}: {names} fit {run.name} equally well as {kind.what}; keep one of them.")
    if not best:
        return None
    unit, told = _unit(best[0], kind)
    return Reused(kind.name, best[0], unit, told, f"{best[0].name} of the derivatives {name}")


def _entities(path: Path, kind: Kind) -> dict[str, str] | None:
    """Entities of a name without what makes it this kind; None where it is not this kind."""
    stem, _, extension = path.name.partition(".")
    if extension not in ("nii", "nii.gz"):
        return None
    for ending in kind.endings:
        if stem == ending or stem.endswith(f"_{ending}"):
            return file_entities(Path(stem.removesuffix(ending)))
    return None


def _belongs(path: Path, entities: Mapping[str, str], run: GreRun) -> bool:
    own = {"sub": run.subject, "ses": run.session, **run.entities}
    sessions = [part.removeprefix("ses-") for part in path.parts[:-1] if part.startswith("ses-")]
    return all(same_label("ses", run.session, session) for session in sessions) and all(
        same_label(entity, own.get(entity), label) for entity, label in entities.items()
    )


def _unit(path: Path, kind: Kind) -> tuple[str, bool]:
    """Unit of an image, and whether its sidecar told it."""
    sidecar = path.with_name(path.name.partition(".")[0] + ".json")
    said = str(read_json_object(sidecar).get("Units", "")).strip() if sidecar.is_file() else ""
    if not said:
        return kind.usual, False
    if (unit := kind.units.get(said.lower())) is None:
        known = listed(list(dict.fromkeys(kind.units.values())))
        remedy = f"Convert the image and write its unit there: {known}."
        raise ValueError(str(Problem("error", "reused-unit", sidecar, f"Units is {said!r}", f"{known}", remedy)))
    return unit, True
