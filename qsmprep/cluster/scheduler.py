"""What the scheduler itself knows: which tasks wait or run, and why ended ones ended."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence

from qsmprep.cluster.batches import Batch

RUNNING, QUEUED = "running", "queued"
SUBMITTERS = {"slurm": "sbatch", "pbs": "qsub", "sge": "qsub"}
PATIENCE_S = 120.0


class SilentError(OSError):
    """The scheduler does not answer."""


def queue(batches: Sequence[Batch]) -> dict[tuple[str, int], str]:
    """RUNNING or QUEUED of each (name of the array, index) that has not ended.

    PBS and SGE are asked for whole arrays: what has begun in an array that lives is taken to run.

    Raises
    ------
    SilentError : the scheduler cannot be asked, so that nothing is known of what has not ended.
    """
    found: dict[tuple[str, int], str] = {}
    submitted = [batch for batch in batches if batch.was_submitted]
    slurm = [batch.job_name for batch in submitted if batch.engine == "slurm"]
    if slurm:
        found |= _slurm_queue(slurm)
    for batch in submitted:
        if batch.engine != "slurm" and batch.job is not None and _lives(batch.engine, batch.job):
            for task, name in enumerate(batch.tasks, 1):
                found[batch.job_name, task] = RUNNING if batch.file(name, "begun").exists() else QUEUED
    return found


def ended_states(jobs: Iterable[str]) -> Mapping[str, str]:
    """State of each ended task, as {"123_4": "OUT_OF_MEMORY"}, where Slurm keeps accounts; else nothing."""
    numbers = ",".join(sorted({job.partition("_")[0] for job in jobs}))
    if not numbers or shutil.which("sacct") is None:
        return {}
    status, text, _ = _ask("sacct", "--noheader", "--parsable2", "--format=JobID,State", f"--jobs={numbers}")
    states: dict[str, str] = {}
    for line in text.splitlines() if status == 0 else ():
        step, _, state = line.partition("|")
        job = step.partition(".")[0]  # 123_4.batch is a step of 123_4
        if states.get(job) != "OUT_OF_MEMORY":
            states[job] = state.split()[0] if state.split() else ""
    return states


def _slurm_queue(names: Sequence[str]) -> dict[tuple[str, int], str]:
    status, text, complaint = _ask("squeue", "--noheader", "--array", f"--name={','.join(names)}", "--format=%j|%K|%T")
    if status != 0:
        why = complaint.strip() or f"exit status {status}"
        raise SilentError(f"squeue failed: {why}. Try again when the cluster's controller answers.")
    waits = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED")
    found = {}
    for line in text.splitlines():
        name, index, state = line.strip().split("|")
        if index.isdigit():  # a job of no array is none of ours
            found[name, int(index)] = QUEUED if state in waits else RUNNING
    return found


def _lives(engine: str, job: str) -> bool:
    """Whether PBS or SGE still has an array."""
    status, _, _ = _ask("qstat", *(["-j"] if engine == "sge" else []), job)
    return status == 0


def _ask(program: str, *words: str) -> tuple[int, str, str]:
    """Exit status, output and errors of a program of the scheduler."""
    try:
        done = subprocess.run(
            [program, *words], capture_output=True, text=True, timeout=PATIENCE_S, check=False, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise SilentError(f"{program} is not here. Run this where jobs are submitted.") from None
    except subprocess.TimeoutExpired:
        raise SilentError(f"{program} gave no answer in {PATIENCE_S:.0f} s. Try again later.") from None
    return done.returncode, done.stdout, done.stderr
