"""Which image of a derivative dataset belongs to a run by its name."""

from __future__ import annotations

from pathlib import Path

from qsmprep.bids.names import file_entities, same_label
from qsmprep.bids.scans import GreRun

MOST_CANDIDATES = 20


def find_derivative(folder: Path, run: GreRun, *, suffix: str, desc: str | None) -> Path | None:
    """The file `*_desc-<desc>_<suffix>.nii[.gz]` of a derivative dataset that belongs to a run; None if there is none.

    With `desc` None, any or none will do. A file belongs to the run if none of its entities contradicts the run's, and
    numbers compare as such (run-01 is run-1); one that names more of them is preferred. Files in another space are left
    aside.

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
    for path in _images(folder, run, suffix):
        entities = file_entities(path)
        found = entities.pop("desc", None)
        if desc is not None and found != desc:
            continue
        entities.pop("part", None)
        entities.pop("echo", None)
        if all(same_label(entity, own.get(entity), label) for entity, label in entities.items()):
            fitting.setdefault(len(entities), []).append(path)
    best = fitting[max(fitting)] if fitting else []
    if len(best) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in best)
        raise ValueError(f"{folder}: {names} fit {run.name} equally well; keep one of them.")
    return best[0] if best else None


def derivative_candidates(folder: Path, run: GreRun, suffix: str) -> tuple[Path, ...]:
    """The files `*_<suffix>.nii[.gz]` of a run's subject in a derivative dataset, whatever run they belong to.

    At most 20, so that an error can say what lies there.
    """
    return tuple(_images(Path(folder), run, suffix)[:MOST_CANDIDATES])


def _images(folder: Path, run: GreRun, suffix: str) -> list[Path]:
    found = sorted((folder / f"sub-{run.subject}").rglob(f"*_{suffix}.nii*"))
    return [path for path in found if path.name.partition(".")[2] in ("nii", "nii.gz")]
