"""Batches: the arrays of jobs that were prepared so far, each with a folder of its own.

A batch of N tasks holds `tasks.txt` (one line a task), `participants.sh`, `batch.json`, and once it is submitted `job`
(its number). Task I of it leaves `I.begun` (its job), `I.ended` (exit status) and `I.log`.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qsmprep.bids.outputs import write_json, write_text
from qsmprep.bids.reading import read_json_object
from qsmprep.cluster.tasks import Task

DOCUMENT = "batch.json"
SCRIPT = "participants.sh"
TASKS = "tasks.txt"


@dataclass(frozen=True)
class Batch:
    """An array of jobs with the same resources.

    Attributes
    ----------
    folder : where its scripts and the files of its tasks lie.
    engine : slurm, pbs or sge.
    memory_mb : memory of each of its tasks.
    tasks : names of its tasks; the first has index 1.
    """

    folder: Path
    engine: str
    memory_mb: int
    tasks: tuple[str, ...]

    @property
    def job_name(self) -> str:
        """The name by which the scheduler knows it; that of no other output folder."""
        return f"{study_name(self.folder.parent)}-{self.folder.name.removeprefix('batch-')}"

    @property
    def job(self) -> str | None:
        """Its number at the scheduler; None as long as it was not submitted."""
        return read_word(self.folder / "job")

    @property
    def was_submitted(self) -> bool:
        """Whether it was handed to the scheduler, by `submit.sh` or by hand."""
        return self.job is not None or any(self.folder.glob("*.begun"))

    def file(self, task: str, kind: str) -> Path:
        """The file of a task that ends in .begun, .ended or .log."""
        return self.folder / f"{self.tasks.index(task) + 1}.{kind}"


def study_name(jobs_dir: Path) -> str:
    """Beginning of the names of all jobs of a folder."""
    return f"qsmprep-{hashlib.sha256(str(jobs_dir).encode()).hexdigest()[:6]}"


def read_batches(jobs_dir: Path) -> list[Batch]:
    """The batches of a folder, the oldest first; those that were prepared but not submitted are among them.

    Raises
    ------
    ValueError : a damaged batch; names the file and the remedy.
    """
    batches = []
    for folder in sorted(jobs_dir.glob("batch-*/")):
        path = folder / DOCUMENT
        try:
            document = read_json_object(path)
            tasks = tuple(map(str, document["tasks"]))
            batches.append(Batch(folder, str(document["engine"]), int(document["memory_mb"]), tasks))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not as qsmprep-tools cluster wrote it ({error}). "
                             "Delete its folder, if none of its jobs runs.") from None  # fmt: skip
    return batches


def new_batches(
    jobs_dir: Path, chunks: Sequence[tuple[int, Sequence[Task]]], engine: str, earlier: Sequence[Batch]
) -> list[Batch]:
    """Make a folder for each (memory in MB, tasks), in place of earlier ones that were never submitted."""
    for batch in earlier:
        if not batch.was_submitted:
            shutil.rmtree(batch.folder)
    used = [int(batch.folder.name.removeprefix("batch-")) for batch in earlier if batch.was_submitted]
    batches = []
    for number, (memory_mb, tasks) in enumerate(chunks, max(used, default=0) + 1):
        folder = jobs_dir / f"batch-{number:03d}"
        names = [task.name for task in tasks]
        write_text(folder / TASKS, "".join(f"{task.name} {task.selection}\n" for task in tasks))
        write_json(folder / DOCUMENT, {"engine": engine, "memory_mb": memory_mb, "tasks": names})
        batches.append(Batch(folder, engine, memory_mb, tuple(names)))
    return batches


def read_word(path: Path) -> str | None:
    """The first word of a small file; None where there is none, or no file."""
    try:
        words = path.read_text("utf-8", errors="replace").split()
    except OSError:
        return None
    return words[0] if words else None
