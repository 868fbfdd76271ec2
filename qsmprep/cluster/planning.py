"""What is to be submitted: what is not done and not in the queue, with more memory where that was the cause."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from qsmprep.bids.outputs import write_text
from qsmprep.cluster.batches import SCRIPT, Batch, new_batches
from qsmprep.cluster.scheduler import QUEUED, RUNNING
from qsmprep.cluster.script import Job, group_script, participants_script, submit_script
from qsmprep.cluster.status import DONE, State
from qsmprep.cluster.tasks import Task

MORE_MEMORY = 2  # times what was too little
LARGEST_ARRAY = 1000  # Slurm's own limit allows indices up to 1000, unless a cluster sets another


def chunks(states: Sequence[State], memory_mb: int, largest: int = LARGEST_ARRAY) -> list[tuple[int, list[Task]]]:
    """What is to be submitted, as arrays of one memory each: (memory of a task in MB, tasks).

    A task that had more memory than `memory_mb` before keeps it.
    """
    by_memory: dict[int, list[Task]] = {}
    for state in states:
        if state.word in (DONE, RUNNING, QUEUED):
            continue
        had_mb = state.memory_mb or 0
        needs_mb = max(memory_mb, had_mb * MORE_MEMORY if state.short_of_memory else had_mb)
        by_memory.setdefault(needs_mb, []).append(state.task)
    found = []
    for needs_mb, tasks in sorted(by_memory.items()):
        waiting = iter(tasks)
        while part := list(islice(waiting, largest)):
            found.append((needs_mb, part))
    return found


def write_jobs(job: Job, planned: Sequence[tuple[int, Sequence[Task]]], earlier: Sequence[Batch]) -> Path:
    """Write the folders of the arrays and what submits them; the path of the latter."""
    batches = new_batches(job.jobs_dir, planned, job.engine, earlier)
    for batch in batches:
        write_text(batch.folder / SCRIPT, participants_script(job, batch))
    write_text(job.jobs_dir / "group.sh", group_script(job, max(batch.memory_mb for batch in batches)))
    submit = job.jobs_dir / "submit.sh"
    write_text(submit, submit_script(job, batches))
    return submit
