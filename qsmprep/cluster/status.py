"""Where each task stands, from the queue, the files that its jobs left, and the run records in the output folder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qsmprep.bids.reading import read_json_object
from qsmprep.cluster.batches import Batch, read_word
from qsmprep.cluster.scheduler import QUEUED, RUNNING, ended_states
from qsmprep.cluster.tasks import Task

DONE, FAILED, KILLED, MISSING = "done", "failed", "killed", "missing"
# What says in a log that memory was short: Slurm (by watching, by control groups), PBS, SGE, qsmprep's pool.
SHORT_OF_MEMORY = re.compile(
    r"exceeded (job )?memory limit|oom[-_ ]?kill|out of memory|\b(mem|vmem)\b.* exceeded limit|"
    r"most likely by the kernel or the cluster for want of memory|MemoryError|Cannot allocate memory",
    re.IGNORECASE,
)
SHORT_OF_TIME = re.compile(r"DUE TO TIME LIMIT|walltime .* exceeded limit", re.IGNORECASE)
CANCELLED = re.compile(r"CANCELLED AT", re.IGNORECASE)
KILLED_STATUS = 137
LOG_END_BYTES = 2**16


@dataclass(frozen=True)
class State:
    """Where a task stands.

    Attributes
    ----------
    task : which.
    word : done, failed, killed, running, queued or missing.
    message : why it failed.
    memory_mb : memory of its latest job; None if it had none.
    short_of_memory : whether that was the cause.
    jobs : how many it has had.
    log : of its latest job that began.
    """

    task: Task
    word: str
    message: str = ""
    memory_mb: int | None = None
    short_of_memory: bool = False
    jobs: int = 0
    log: Path | None = None


def survey(
    output_dir: Path, tasks: Sequence[Task], batches: Sequence[Batch], queue: Mapping[tuple[str, int], str] | None
) -> list[State]:
    """The state of each task. Without a queue (None), what has not ended is taken to be queued or running."""
    names = {task.name for task in tasks}
    places: dict[str, list[tuple[Batch, int]]] = {name: [] for name in names}
    for batch in batches:
        if batch.was_submitted:
            for index, name in enumerate(batch.tasks, 1):
                if name in names:
                    places[name].append((batch, index))
    states = [_state(output_dir, task, places[task.name], queue) for task in tasks]
    return list(_with_accounts(states))


def _state(
    output_dir: Path, task: Task, places: Sequence[tuple[Batch, int]], queue: Mapping[tuple[str, int], str] | None
) -> State:
    if not places:
        return _by_records(output_dir, State(task, MISSING))
    batch, index = places[-1]
    begun, ended, log = (batch.folder / f"{index}.{kind}" for kind in ("begun", "ended", "log"))
    state = State(task, MISSING, memory_mb=batch.memory_mb, jobs=len(places), log=log if begun.exists() else None)
    status = read_word(ended)
    if queue is None and status is None:
        return replace(state, word=RUNNING if begun.exists() else QUEUED)
    if queue is not None and (word := queue.get((batch.job_name, index))) and status is None:
        return replace(state, word=word)
    if status == "0":
        return _by_records(output_dir, state)
    text = _end_of(log)
    if status is None:
        if not begun.exists():
            return replace(state, message=f"job {batch.job} ended before this task began: cancelled?")
        return _killed(state, text)
    by_record = _by_records(output_dir, state)
    message = by_record.message if by_record.word == FAILED else _last_complaint(text)
    short = status == str(KILLED_STATUS) or bool(SHORT_OF_MEMORY.search(f"{message}\n{text}"))
    message = message or f"ended with exit status {status}"
    return replace(state, word=FAILED, message=message, short_of_memory=short)


def _killed(state: State, log: str) -> State:
    """Of a task whose job began, did not end by itself, and is gone."""
    short = bool(SHORT_OF_MEMORY.search(log))
    if short:
        why = f"needed more than its {state.memory_mb} MB of memory"
    elif SHORT_OF_TIME.search(log):
        why = "needed more than its time"
    elif CANCELLED.search(log):
        why = "cancelled"
    else:
        why = "the cluster does not say why; its node may have failed"
    return replace(state, word=KILLED, message=why, short_of_memory=short)


def _with_accounts(states: Iterable[State]) -> Iterator[State]:
    """The states, with what the accounts of the cluster say of those that were killed without a word."""
    states = list(states)
    silent = {state.task: job for state in states if state.word in (KILLED, FAILED) and not state.short_of_memory
              if state.log is not None and (job := read_word(state.log.with_suffix(".begun")))}  # fmt: skip
    accounts = ended_states(silent.values())
    for state in states:
        told = accounts.get(silent.get(state.task, ""), "")
        if told == "OUT_OF_MEMORY":
            why = f"needed more than its {state.memory_mb} MB of memory"
            state = replace(state, message=why if state.word == KILLED else state.message, short_of_memory=True)
        elif told in ("TIMEOUT", "NODE_FAIL", "PREEMPTED") and state.word == KILLED:
            state = replace(state, message=told.lower().replace("_", " "))
        yield state


def _by_records(output_dir: Path, state: State) -> State:
    """What the run records of a task say: done where all are of success, missing where there is none."""
    errors: list[str] = []
    found = 0
    for path in _records(output_dir, state.task):
        found += 1
        try:
            record = read_json_object(path)
            told = [f"{error['step']}: {error['message']}".removeprefix(": ") for error in record["errors"]]
            failed = record["status"] != "ok"
        except (KeyError, TypeError, ValueError) as error:
            failed, told = True, [f"{path}: the record cannot be read ({type(error).__name__})"]
        errors += (told or ["failed without a message"]) if failed else []
    if not found:
        return replace(state, word=MISSING)
    first = errors[0].strip().splitlines()[0] if errors else ""
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return replace(state, word=FAILED, message=first + more) if errors else replace(state, word=DONE)


def _records(output_dir: Path, task: Task) -> list[Path]:
    folder = output_dir / f"sub-{task.subject}"
    if task.session:
        return sorted((folder / f"ses-{task.session}").glob("figures/*_record.json"))
    return [path for pattern in ("", "ses-*/") for path in sorted(folder.glob(f"{pattern}figures/*_record.json"))]


def _end_of(log: Path) -> str:
    try:
        with open(log, "rb") as stream:
            stream.seek(max(0, log.stat().st_size - LOG_END_BYTES))
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _last_complaint(log: str) -> str:
    """The first error in a log, else its last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    complaints = [line for line in lines if line.startswith(("Error:", "qsmprep:"))]
    return complaints[0].removeprefix("Error: ") if complaints else lines[-1] if lines else ""
