"""What a job of an array works on: a participant, or a session of one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qsmprep.bids.kinds import OF_DATATYPE
from qsmprep.bids.names import bare_label, is_label, labels_inside

PER = ("participant", "session")


@dataclass(frozen=True, order=True)
class Task:
    """A participant, or a session of one.

    >>> Task("01", "2").name, Task("01", "2").selection
    ('sub-01_ses-2', '--participant-label 01 --session-label 2')
    """

    subject: str
    session: str | None = None

    @property
    def name(self) -> str:
        """As files are named."""
        return f"sub-{self.subject}" + (f"_ses-{self.session}" if self.session else "")

    @property
    def selection(self) -> str:
        """The flags of qsmprep that choose it."""
        session = f" --session-label {self.session}" if self.session else ""
        return f"--participant-label {self.subject}{session}"


def find_tasks(
    bids_dir: Path, *, per: str, datatypes: Sequence[str], participant_labels: Sequence[str] = ()
) -> list[Task]:
    """Participants of a dataset, or their sessions, that have gradient echo images by the names of their files.

    Nothing is read: the job itself tells what is wrong with the images.

    Raises
    ------
    ValueError : there is none, or a participant that was asked for has none.
    OSError : a folder cannot be listed.
    """
    wanted = {bare_label(label, "sub") for label in participant_labels}
    tasks: list[Task] = []
    for subject in filter(is_label, labels_inside(bids_dir, "sub")):
        if wanted and subject not in wanted:
            continue
        folder = bids_dir / f"sub-{subject}"
        sessions = [label for label in labels_inside(folder, "ses") if is_label(label)]
        homes = {None: folder} | {label: folder / f"ses-{label}" for label in sessions}
        with_images = [label for label, home in homes.items() if _has_images(home, datatypes)]
        tasks += [Task(subject, label) for label in with_images] if per == "session" else []
        tasks += [Task(subject)] if per == "participant" and with_images else []
    without = sorted(wanted - {task.subject for task in tasks})
    if without or not tasks:
        who = ", ".join(f"sub-{label}" for label in without) or "any participant"
        raise ValueError(f"{bids_dir}: no gradient echo images of {who}. Give the root of the BIDS dataset; "
                         "`qsmprep BIDS OUT participant --dry-run` tells more.")  # fmt: skip
    return tasks


def _has_images(home: Path, datatypes: Sequence[str]) -> bool:
    for datatype in datatypes:
        endings = tuple(f"_{suffix}.nii{end}" for suffix in OF_DATATYPE[datatype] for end in ("", ".gz"))
        try:
            if any(name.endswith(endings) for name in os.listdir(home / datatype)):
                return True
        except (FileNotFoundError, NotADirectoryError):
            continue
    return False
