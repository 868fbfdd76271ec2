"""Names of BIDS: labels, entities of file names, which sidecar belongs to which image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qsmprep.bids.problem import Problem

# Entities BIDS allows for gradient echo images, in the order of file names; `echo` and `part` do not name a run.
RUN_ENTITIES = ("task", "acq", "ce", "rec", "run", "chunk")
PARTS = {"mag": "magnitude", "phase": "phase", "real": "real", "imag": "imaginary"}


def sidecar_applies(sidecar: Path, image: Path) -> bool:
    """Whether an image inherits from a sidecar: above it or beside it, same suffix, no entity that contradicts."""
    same_suffix = sidecar.name.partition(".")[0].split("_")[-1] == image.name.partition(".")[0].split("_")[-1]
    return (
        same_suffix
        and sidecar.parent in image.parents
        and file_entities(sidecar).items() <= file_entities(image).items()
    )


def file_entities(path: Path) -> dict[str, str]:
    """Entities of a file name, as written there."""
    pairs = (part.split("-", 1) for part in path.name.partition(".")[0].split("_") if "-" in part)
    return {name: label for name, label in pairs}


def listed(items: Sequence[Any], most: int = 20) -> str:
    """Items in a row, the first few of many."""
    words = [str(item) for item in items[:most]]
    return ", ".join(words) + (f" and {len(items) - most} more" if len(items) > most else "")


def name_problems(path: Path, own: Mapping[str, str], part: str, suffix: str) -> list[Problem]:
    """What is wrong with the name of an image whose entities are `own` and whose part is `part` (empty: unknown)."""
    found = []
    if suffix in ("MEGRE", "MESE") and not own.get("echo", "").isdigit():
        found.append(Problem("error", "echo-not-in-name", path, "no echo-<number> in the name",
                             f"{suffix} names have it", "Rename the file and its JSON."))  # fmt: skip
    if not part:
        needed = "part is mag, phase, real or imag"
        found.append(Problem("error", "part-unknown", path, f"part-{own['part']} in the name", needed,
                             "Rename the file and its JSON."))  # fmt: skip
    strange = sorted(set(own) - {"sub", "ses", "echo", "part", *RUN_ENTITIES})
    if strange:
        remedy = "Rename the file and its JSON."
        if {"coil", "ch", "channel"} & set(strange):
            remedy = "Uncombined coils? Combine them first, and give one image an echo."
        needed = "a name BIDS allows for this suffix"
        found.append(
            Problem("error", "entity-not-allowed", path, f"{strange[0]}-{own[strange[0]]} in the name", needed, remedy)
        )
    return found


def choose_labels(
    bids_dir: Path, entity: str, wanted: Sequence[str] | None, available: Sequence[str]
) -> tuple[list[str], list[Problem]]:
    """The wanted labels that exist, and a problem for each that does not. A label never becomes part of a path here."""
    if not wanted:
        return list(available), []
    word = {"sub": "participant", "ses": "session"}[entity]
    chosen, problems = [], []
    for label in dict.fromkeys(bare_label(label, entity) for label in wanted):
        if not re.fullmatch(r"[0-9A-Za-z+]+", label):
            needed, remedy = "labels consist of letters and digits", f"Give the label of a folder {entity}-<label>."
            problems.append(
                Problem("error", "label-malformed", f"{word} label {label!r}", "not a BIDS label", needed, remedy)
            )
        elif label in available:
            chosen.append(label)
        else:
            remedy = f"Available: {listed(available)}." if available else "There is none at all."
            problems.append(Problem("error", "label-unknown", bids_dir, f"no {word} {entity}-{label}", "", remedy))
    return chosen, problems


def bare_label(label: str, entity: str) -> str:
    """A label without its "sub-" or "ses-"."""
    return str(label).strip().removeprefix(f"{entity}-")


def labels_inside(folder: Path, entity: str) -> list[str]:
    """Labels of the folders sub-* or ses-* inside a folder."""
    if not folder.is_dir():
        return []
    return sorted(bare_label(path.name, entity) for path in folder.glob(f"{entity}-*") if path.is_dir())
