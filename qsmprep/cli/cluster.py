"""`qsmprep-tools cluster`: one job a participant on a cluster, and where they stand."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qsmprep.app.request import Request
from qsmprep.app.validation import start_validation, validation_findings
from qsmprep.app.work_folder import check_work_dir
from qsmprep.cli.habits import UNITS_MB
from qsmprep.cli.parser import parse
from qsmprep.cli.paths import file_path, folder_path
from qsmprep.cli.program import Parser, add_command
from qsmprep.cluster.tasks import PER, find_tasks
from qsmprep.settings import Settings

if TYPE_CHECKING:
    from qsmprep.cluster.batches import Batch
    from qsmprep.cluster.status import State

WORDS = ("done", "running", "queued", "failed", "killed", "missing")
# What each job is given by this command.
OWN_FLAGS = {
    "--participant-label": "give it before the --",
    "--session-label": "take --per session, or --bids-filter-file",
    "--work-dir": "give it before the --",
    "-w": "give --work-dir before the --",
    **dict.fromkeys(("--nprocs", "--nthreads", "--n-cpus"), "give --cpus before the --"),
    **dict.fromkeys(("--mem-mb", "--mem"), "give --mem before the --"),
    "--dry-run": "run qsmprep itself with it, on one participant",
    "--reports-only": "run qsmprep itself with it",
    "--boilerplate-only": "run qsmprep itself with it",
}
LONGEST_MESSAGE = 160
LEAST_MB = 100


def add_cluster(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the subcommand."""
    text = "run a study on a cluster, one job a participant; called again, it submits what failed or is missing"
    parser = add_command(commands, "cluster", text, epilog="What stands after -- is handed to qsmprep as it is.")
    add = parser.add_argument
    add("bids_dir", metavar="BIDS_DIR", type=folder_path, help="folder of the BIDS dataset")
    add("out", metavar="OUT", type=folder_path, help="folder of the results, which every node can write")
    add("--engine", choices=("slurm", "pbs", "sge"), help="scheduler; PBS and SGE are untried")
    add("--status", action="store_true", help="show where each participant stands, and do nothing")
    add("--submit", action="store_true", help="submit (default: print the command that does)")
    add("--per", choices=PER, default="participant",
        help="what a job works on (default: participant)")  # fmt: skip
    add("--participant-label", nargs="+", default=(), metavar="ID", help="only these, with or without sub-")
    add("--cpus", type=_count, default=4, metavar="N", help="processor cores of a job (default: 4)")
    add("--mem", type=_memory_mb, default=16384, metavar="SIZE", help="memory of a job, as 16G or 8000M (default: 16G)")
    add("--gpus", type=_count, default=0, metavar="N", help="number of GPUs of a job (default: 0)")
    add("--time", default="", metavar="LIMIT", help="time limit of a job (default: the cluster's)")
    add("--partition", default="", metavar="NAME", help="partition or queue (default: the cluster's)")
    add("--account", default="", metavar="NAME", help="account or project (default: the cluster's)")
    add("--max-parallel", type=_count, default=0, metavar="N", help="most jobs at one time (default: no limit)")
    add("--directive", action="append", default=[], metavar="TEXT",
        help="further line for the scheduler, as '--qos=long'; may be repeated")  # fmt: skip
    add("--container", type=file_path, metavar="SIF", help="image that apptainer runs (default: this installation)")
    add("-w", "--work-dir", metavar="PATH",
        help="each job works in a folder of its own below; may begin with a variable of the node, as '$TMPDIR' "
             "(default: work beside OUT)")  # fmt: skip
    add("--clean-work", action="store_true", help="remove the work folder of a job that succeeded")
    add("--jobs-dir", type=folder_path, metavar="PATH", help="scripts and logs (default: OUT/logs/cluster)")
    add("--skip-bids-validation", action="store_true", help="do not run bids-validator-deno before the first jobs")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Plan and perhaps submit, or show the status: then 0 if all is done, else 1."""
    from qsmprep.cluster.batches import read_batches
    from qsmprep.cluster.planning import chunks
    from qsmprep.cluster.scheduler import SilentError, queue
    from qsmprep.cluster.status import survey

    request, settings = _checked(arguments)
    jobs_dir = arguments.jobs_dir or request.output_dir / "logs" / "cluster"
    tasks = find_tasks(request.bids_dir, per=arguments.per, datatypes=settings.steps["input"].datatypes(),
                       participant_labels=arguments.participant_label)  # fmt: skip
    batches = read_batches(jobs_dir)
    try:
        waiting = queue(batches)
    except SilentError as error:
        if not arguments.status:
            raise
        waiting = None
        print(f"Warning: {error} What has not ended is shown as queued or running.", file=sys.stderr)
    states = survey(request.output_dir, tasks, batches, waiting)
    if arguments.status:
        _show(states)
        return int(any(state.word != "done" for state in states))
    if arguments.engine is None:
        raise ValueError("--engine slurm, pbs or sge is missing.")
    planned = chunks(states, arguments.mem)
    if not planned:
        _show_counts(states)
        print("Nothing to submit: every task is done, queued or running.")
        return 0
    if not arguments.skip_bids_validation and not batches:
        _validate(request.bids_dir)
    return _write_and_submit(arguments, jobs_dir, planned, batches)


def _write_and_submit(
    arguments: argparse.Namespace, jobs_dir: Path, planned: Sequence[tuple[int, Sequence]], batches: Sequence[Batch]
) -> int:
    from qsmprep.cluster.planning import write_jobs
    from qsmprep.cluster.scheduler import SUBMITTERS
    from qsmprep.cluster.script import Job

    further, paths = _absolute(arguments.further)
    own = Path(sys.executable).parent / "qsmprep"
    here = (str(own),) if own.is_file() else (sys.executable, "-m", "qsmprep.cli.run")
    job = Job(
        engine=arguments.engine,
        bids_dir=arguments.bids_dir,
        output_dir=arguments.out,
        jobs_dir=jobs_dir,
        here=Path.cwd(),
        work_dir=_work_dir(arguments),
        arguments=further,
        program=("qsmprep",) if arguments.container else here,
        cpus=max(arguments.cpus, 1),
        gpus=arguments.gpus,
        container=arguments.container,
        binds=paths,
        per=arguments.per,
        partition=arguments.partition,
        account=arguments.account,
        time=arguments.time,
        max_parallel=arguments.max_parallel,
        directives=tuple(arguments.directive),
        clean_work=arguments.clean_work,
    )
    submit = write_jobs(job, planned, batches)
    for memory_mb, tasks in planned:
        print(f"{len(tasks)} tasks of {job.cpus} cores and {memory_mb} MB: {tasks[0].name} to {tasks[-1].name}")
    if not arguments.submit:
        print(f"Nothing is submitted yet. Look at the scripts in {jobs_dir}, then: bash {submit}")
        return 0
    try:
        done = subprocess.run(["bash", str(submit)], check=False, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise OSError(f"bash is missing here; it runs {submit}.") from None
    if done.returncode:
        raise OSError(f"{SUBMITTERS[job.engine]} did not take the jobs (see above). Correct what it says, and run the "
                      "same command again: nothing is submitted twice.")  # fmt: skip
    return 0


def _checked(arguments: argparse.Namespace) -> tuple[Request, Settings]:
    """What a job is going to be asked, checked as qsmprep checks it."""
    from qsmprep.bids.checks import check_output_dir

    if not arguments.bids_dir.is_dir():
        raise ValueError(f"{arguments.bids_dir}: no such folder. Give the folder of the BIDS dataset.")
    for word in arguments.further:
        flag = word.partition("=")[0].replace("_", "-") if word.startswith("-") else ""
        if flag in OWN_FLAGS:
            raise ValueError(f"{flag} belongs not to what is handed to each job: {OWN_FLAGS[flag]}.")
    for problem in check_output_dir(arguments.bids_dir, arguments.out):
        raise ValueError(str(problem))
    if arguments.container and not arguments.container.is_file():
        raise ValueError(f"--container {arguments.container}: no such file. Give an image that apptainer runs.")
    work_dir = _work_dir(arguments)
    own = [] if work_dir.startswith("$") else ["--work-dir", work_dir]
    request, settings = parse([str(arguments.bids_dir), str(arguments.out), "participant", *own, *arguments.further])
    if own and not arguments.status:
        check_work_dir(request)
    return request, settings


def _work_dir(arguments: argparse.Namespace) -> str:
    """The folder of the work folders; one that begins with a variable as it was given."""
    if arguments.work_dir is None:
        return str(arguments.out.parent / "work")
    if arguments.work_dir.startswith("$"):
        if not re.fullmatch(r"\$\w+(/[^'\"\s]*)?", arguments.work_dir):
            raise ValueError(f"--work-dir {arguments.work_dir}: give a path, or a variable of the node as '$TMPDIR'.")
        return arguments.work_dir
    return str(folder_path(arguments.work_dir))


def _absolute(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[Path, ...]]:
    """The words with paths from the root, as a job may begin in another folder; and these paths."""
    made, paths = [], []
    for word in words:
        before, equals, path = word.rpartition("=")
        if (equals or re.search(r"[./]", path)) and path and Path(path).exists():
            paths.append(file_path(path))
            made.append(f"{before}{equals}{paths[-1]}")
        else:
            made.append(word)
    return tuple(made), tuple(paths)


def _validate(bids_dir: Path) -> None:
    """Run the BIDS validator once, as the jobs do not."""
    validator = start_validation(bids_dir)
    for warning in validation_findings(validator) if validator is not None else ():
        print(f"Warning: {warning}", file=sys.stderr)


def _show(states: Sequence[State]) -> None:
    """The table: a line a task, and how many there are of each state."""
    wide = max(len(state.task.name) for state in states)
    print(f"{'task':{wide}}  {'state':7}  jobs  memory_mb  message")
    for state in states:
        memory = "" if state.memory_mb is None else str(state.memory_mb)
        message = state.message if len(state.message) <= LONGEST_MESSAGE else f"{state.message[:LONGEST_MESSAGE]}..."
        log = f" [{state.log}]" if state.log and state.word in ("failed", "killed") else ""
        print(f"{state.task.name:{wide}}  {state.word:7}  {state.jobs:4}  {memory:>9}  {message}{log}".rstrip())
    _show_counts(states)


def _show_counts(states: Sequence[State]) -> None:
    number = Counter(state.word for state in states)
    print(f"{len(states)} tasks: {', '.join(f'{number[word]} {word}' for word in WORDS if number[word])}")


def _count(word: str) -> int:
    if not word.isdecimal():
        raise argparse.ArgumentTypeError(f"{word!r} is no whole number")
    return int(word)


def _memory_mb(word: str) -> int:
    """`16G`, `8000M` or `8000` in MB."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)B?", word.upper())
    if not found or (mb := int(float(found[1]) * UNITS_MB[found[2] or "M"])) < LEAST_MB:
        raise argparse.ArgumentTypeError(f"{word!r} is no memory of at least {LEAST_MB} MB; give it as 16G or 8000M")
    return mb
