"""Names of BIDS: labels, entities of file names, which sidecar belongs to which image."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qsmprep.bids.problem import Problem

# Entities BIDS allows for gradient echo images, in the order of file names; `echo` and `part` do not name a run.
RUN_ENTITIES = ("task", "acq", "ce", "rec", "run", "chunk")
# Entities of a coil that BIDS does not have: as BEP004 proposed it, as heudiconv writes it, and in full.
COIL_ENTITIES = ("coil", "ch", "channel")
# Entities BIDS allows beside those for one suffix alone.
OF_SUFFIX = {"MPM": ("flip", "mt"), "bold": ("dir",), "sbref": ("dir",)}
PARTS = {"mag": "magnitude", "phase": "phase", "real": "real", "imag": "imaginary"}
# Entities whose labels are numbers, which compare as such: run-1 is run-01.
NUMBERED = frozenset({"run", "echo", "flip", "inv", "chunk"})
_LABEL = re.compile(r"[0-9A-Za-z+]+")
_ENTITY = re.compile(r"[a-z]+")
RENAME = "Rename the file and its JSON."


def file_entities(path: Path) -> dict[str, str]:
    """Entities of a file name, as written there."""
    pairs = (part.split("-", 1) for part in path.name.partition(".")[0].split("_") if "-" in part)
    return {name: label for name, label in pairs}


def file_suffix(path: Path) -> str:
    """Suffix of a file name: "MEGRE" of "sub-01_echo-1_MEGRE.nii.gz"."""
    return path.name.partition(".")[0].rpartition("_")[2]


def is_number(label: str) -> bool:
    """Whether a label is a whole number in the digits 0 to 9 (not one of Unicode's other digits, as ²)."""
    return label.isascii() and label.isdecimal()


def same_label(entity: str, one: str | None, other: str | None) -> bool:
    """Whether two labels of an entity mean the same.

    >>> same_label("run", "1", "01"), same_label("acq", "1", "01")
    (True, False)
    """
    if entity in NUMBERED and one and other and is_number(one) and is_number(other):
        return int(one) == int(other)
    return one == other


def is_label(label: str) -> bool:
    """Whether BIDS allows a label: letters, digits and plus."""
    return _LABEL.fullmatch(label) is not None


def odd_name(path: Path, subject: str, session: str | None) -> Problem | None:
    """What keeps an image from being told apart by its name: no BIDS name, or not that of its folders.

    Parameters
    ----------
    path : of the image.
    subject, session : labels of the folders that it lies in; session is None outside of a ses-*.
    """
    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    words = [word.partition("-") for word in stem.split("_")[:-1]]
    strange = [
        "".join(word)
        for word in words
        if not (word[1] and _ENTITY.fullmatch(word[0]) and _LABEL.fullmatch(word[2])) or words.count(word) > 1
    ]
    names = [entity for entity, _, _ in words]
    twice = [entity for entity in names if names.count(entity) > 1]
    own = {entity: label for entity, _, label in words}
    if strange or twice or not _LABEL.fullmatch(stem.split("_")[-1]):
        what = strange[0] if strange else f"{twice[0]}- twice" if twice else stem.split("_")[-1]
        return Problem("error", "name-malformed", path, f"{what!r} in its name",
                       "entity-label pairs of letters and digits, each entity once", RENAME)  # fmt: skip
    for entity, label in (("sub", subject), ("ses", session)):
        if label is not None and own.get(entity) != label:
            said = f"says {entity}-{own[entity]}" if entity in own else f"says no {entity}-"
            return Problem("error", "name-of-other-folder", path,
                           f"it lies in a folder {entity}-{label}, but its name {said}",
                           "a name that begins with that of its folders", RENAME)  # fmt: skip
    return None


def is_of_run(name: str, prefix: str) -> bool:
    """Whether a file's name is that of a file of a run, and not of one whose name begins alike.

    >>> is_of_run("sub-01_desc-brain_mask.nii.gz", "sub-01"), is_of_run("sub-01_acq-x_Chimap.nii.gz", "sub-01")
    (True, False)
    """
    return re.match(re.escape(prefix) + r"_(?!(ses|acq|run)-)", name) is not None


def listed(items: Sequence[Any], most: int = 20) -> str:
    """Items in a row, the first few of many."""
    words = [str(item) for item in items[:most]]
    return ", ".join(words) + (f" and {len(items) - most} more" if len(items) > most else "")


def name_problems(
    path: Path, own: Mapping[str, str], part: str, suffix: str, *, of_coil: bool = False
) -> list[Problem]:
    """What is wrong with the name of an image whose entities are `own` and whose part is `part` (empty: unknown).

    One of several coils may have an entity that names it.
    """
    found = []
    if suffix in ("MEGRE", "MESE") and not is_number(own.get("echo", "")):
        found.append(Problem("error", "echo-not-in-name", path, "no echo-<number> in the name",
                             f"the number of the echo in names of {suffix}", RENAME))  # fmt: skip
    if not part:
        needed = "part-mag, part-phase, part-real or part-imag"
        found.append(Problem("error", "part-unknown", path, f"part-{own['part']} in the name", needed, RENAME))
    allowed = {"sub", "ses", "echo", "part", *RUN_ENTITIES, *OF_SUFFIX.get(suffix, ())}
    strange = sorted(set(own) - allowed - set(COIL_ENTITIES if of_coil else ()))
    if strange:
        remedy = RENAME
        if set(COIL_ENTITIES) & set(strange):
            remedy = "Uncombined coils? Give the images of all of them (docs/coils.md), or one image an echo."
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
        if not is_label(label):
            needed, remedy = "letters and digits", f"Give the label of a folder {entity}-<label>."
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
    """Labels of the folders sub-* or ses-* inside a folder, also those that BIDS does not allow and links to nothing.

    Raises
    ------
    OSError : the folder cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(f"{entity}-") and _is_folder(entry)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name.removeprefix(f"{entity}-") for name in names)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether something is a folder, or a link of which that cannot be told: a dataset that was not fetched."""
    try:
        return entry.is_dir() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:
        return True
