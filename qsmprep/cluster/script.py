"""The scripts of jobs: the head of each scheduler, and a body that is the same for all (`qsmprep/data/cluster`)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined

from qsmprep.cluster.batches import Batch, study_name

HEADS = ("slurm", "pbs", "sge")
BODIES = ("participants", "group", "submit")
# Of the memory of a job, the share that the steps together may take by their estimates: qsmprep itself and the server
# from which its processes are forked need the rest.
SHARE_OF_STEPS = 0.9
LEAST_MEM_MB = 500
ON_THE_NODE = re.compile(r"\$(\w+)(/.*)?")


@dataclass(frozen=True)
class Job:
    """How every job of a study runs; memory apart, which a task may need more of.

    Attributes
    ----------
    engine : slurm, pbs or sge.
    bids_dir, output_dir, jobs_dir, here : dataset, results, scripts and logs, current folder of the jobs; absolute.
    work_dir : folder of the work folders, one a task; may begin with a variable of the node, as "$TMPDIR".
    arguments : further words for qsmprep.
    program : words that call qsmprep.
    cpus, gpus : of a task.
    container : image for apptainer; the program is then that of the image.
    binds : further paths that the container must see.
    per : participant or session.
    partition, account, time : as the scheduler calls them; empty for its own default.
    max_parallel : most tasks at one time; 0 for no limit.
    directives : further lines for the scheduler.
    clean_work : whether the work folder of a task that succeeded is removed.
    """

    engine: str
    bids_dir: Path
    output_dir: Path
    jobs_dir: Path
    here: Path
    work_dir: str
    arguments: tuple[str, ...] = ()
    program: tuple[str, ...] = ("qsmprep",)
    cpus: int = 4
    gpus: int = 0
    container: Path | None = None
    binds: tuple[Path, ...] = ()
    per: str = "participant"
    partition: str = ""
    account: str = ""
    time: str = ""
    max_parallel: int = 0
    directives: tuple[str, ...] = ()
    clean_work: bool = False


def participants_script(job: Job, batch: Batch) -> str:
    """The script of an array: one task a participant or session."""
    mem_mb = max(LEAST_MEM_MB, int(SHARE_OF_STEPS * batch.memory_mb))
    words = [
        f"{shlex.quote(str(job.bids_dir))} {shlex.quote(str(job.output_dir))} participant $selection",
        f'--work-dir "$work" --nprocs {job.cpus} --mem-mb {mem_mb} --skip-bids-validation',
        *([shlex.join(job.arguments)] if job.arguments else []),
    ]
    head = _head(job, batch.job_name, batch.memory_mb, batch.folder, tasks=len(batch.tasks))
    return head + _render(
        "participants",
        folder=batch.folder,
        per=job.per,
        here=job.here,
        work=_work_folder(job.work_dir),
        output_dir=job.output_dir,
        command=_command(job, words, '"$work"'),
        clean_work=job.clean_work,
    )


def group_script(job: Job, memory_mb: int) -> str:
    """The script of the job over all participants."""
    paths = shlex.join([str(job.bids_dir), str(job.output_dir)])
    # Of two sessions that end at the same time, the page of the participant may show one only.
    pages = [_command(job, [f"{paths} participant --reports-only"])] if job.per == "session" else []
    one = Job(**{**job.__dict__, "cpus": 1, "gpus": 0, "max_parallel": 0})
    head = _head(one, f"{study_name(job.jobs_dir)}-group", memory_mb, job.jobs_dir, tasks=0)
    return head + _render("group", here=job.here, commands=[*pages, _command(one, [f"{paths} group"])])


def submit_script(job: Job, batches: Sequence[Batch]) -> str:
    """The script that submits the arrays, and the group job behind them."""
    # A limit of tasks at one time is one of each array: several arrays then run one by one.
    return _render("submit", jobs_dir=job.jobs_dir, engine=job.engine, batches=[batch.folder.name for batch in batches],
                   tasks=sum(len(batch.tasks) for batch in batches), one_by_one=bool(job.max_parallel))  # fmt: skip


def _head(job: Job, name: str, memory_mb: int, folder: Path, *, tasks: int) -> str:
    return _render(job.engine, name=name, tasks=tasks, max_parallel=job.max_parallel, cpus=job.cpus, gpus=job.gpus,
                   memory_mb=memory_mb, time=job.time, partition=job.partition, account=job.account,
                   folder=_in_directive(folder, job.engine), directives=job.directives)  # fmt: skip


def _command(job: Job, words: Sequence[str], work: str = "") -> list[str]:
    """The lines of a call of qsmprep, inside the container where there is one."""
    if job.container is None:
        return [shlex.join(job.program), *(f"    {word}" for word in words)]
    readable = (job.bids_dir, *job.binds)
    binds = [f"    --bind {shlex.quote(f'{path}:{path}:ro')}" for path in dict.fromkeys(readable)]
    binds += [f"    --bind {place}" for place in (shlex.quote(str(job.output_dir)), work) if place]
    gpu = " --nv" if job.gpus else ""
    image = f"    {shlex.quote(str(job.container))} {shlex.join(job.program)}"
    return [f"apptainer exec --cleanenv{gpu}", *binds, image, *(f"    {word}" for word in words)]


def _work_folder(work_dir: str) -> str:
    """The folder of work folders as a word of the shell."""
    if found := ON_THE_NODE.fullmatch(work_dir):
        return f'"${found[1]}"{shlex.quote(found[2]) if found[2] else ""}'
    return shlex.quote(work_dir)


def _in_directive(folder: Path, engine: str) -> str:
    """A folder as the lines of a scheduler take it.

    Raises
    ------
    ValueError : they cannot name it.
    """
    text = str(folder)
    if re.search(r"[\"'\\\n]" if engine == "slurm" else r"[\"'\\\s:,$]", text):
        raise ValueError(f"--jobs-dir {text}: {engine} cannot name this folder in a script. Choose one of letters, "
                         "digits, - and _.")  # fmt: skip
    return text.replace("%", "%%") if engine == "slurm" else text


def _render(template: str, **facts: Any) -> str:
    environment = Environment(loader=DictLoader(_templates()), undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True, keep_trailing_newline=True, autoescape=False)  # fmt: skip
    environment.filters["quote"] = lambda path: shlex.quote(str(path))
    return environment.get_template(template).render(**facts)


def _templates() -> dict[str, str]:
    folder = files("qsmprep.data").joinpath("cluster")
    return {name: folder.joinpath(f"{name}.sh").read_text("utf-8") for name in (*HEADS, *BODIES)}
