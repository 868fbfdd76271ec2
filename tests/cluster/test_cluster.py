"""Scripts of a cluster's jobs, what is submitted again, and where each task stands; the scheduler is a stub."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qsmprep.cli.tools import main
from qsmprep.cluster.batches import Batch, new_batches, read_batches
from qsmprep.cluster.planning import chunks
from qsmprep.cluster.scheduler import ended_states, queue
from qsmprep.cluster.script import Job, group_script, participants_script, submit_script
from qsmprep.cluster.status import State, survey
from qsmprep.cluster.tasks import Task, find_tasks

PATHS = {"bids_dir": Path("/data/bids"), "output_dir": Path("/data/out"), "jobs_dir": Path("/data/out/logs/cluster"),
         "here": Path("/home/me"), "work_dir": "/scratch/work"}  # fmt: skip
HEADS = {
    "slurm": ["#SBATCH --job-name=qsmprep-8b7b8a-002", "#SBATCH --array=1-3%2",
              "#SBATCH --nodes=1 --ntasks=1 --cpus-per-task=2", "#SBATCH --mem=4000M", "#SBATCH --time=2:00:00",
              "#SBATCH --partition=main", "#SBATCH --account=lab", "#SBATCH --gres=gpu:1",
              '#SBATCH --output="/data/out/logs/cluster/batch-002/%a.log"', "#SBATCH --qos=long"],
    "pbs": ["#PBS -N qsmprep-8b7b8a-002", "#PBS -J 1-3%2", "#PBS -l select=1:ncpus=2:mem=4000mb:ngpus=1",
            "#PBS -l walltime=2:00:00", "#PBS -q main", "#PBS -A lab",
            "#PBS -V -j oe -o /data/out/logs/cluster/batch-002/^array_index^.log", "#PBS --qos=long"],
    "sge": ["#$ -N qsmprep-8b7b8a-002", "#$ -t 1-3 -tc 2", "#$ -pe smp 2", "#$ -l h_vmem=2000M", "#$ -l h_rt=2:00:00",
            "#$ -q main", "#$ -P lab", "#$ -l gpu=1",
            "#$ -S /bin/bash -V -j y -o /data/out/logs/cluster/batch-002/$TASK_ID.log", "#$ --qos=long"],
}  # fmt: skip


def sound(script):
    """A script that bash can read."""
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return script


def batch(number=2, tasks=3, engine="slurm", memory_mb=4000, jobs_dir=PATHS["jobs_dir"]):
    return Batch(
        jobs_dir / f"batch-{number:03d}", engine, memory_mb, tuple(f"sub-{i:02d}" for i in range(1, tasks + 1))
    )


@pytest.mark.parametrize("engine", HEADS)
def test_the_head_of_a_script_asks_the_scheduler_for_what_was_given(engine):
    job = Job(engine=engine, **PATHS, cpus=2, gpus=1, time="2:00:00", partition="main", account="lab", max_parallel=2,
              directives=("--qos=long",))  # fmt: skip
    lines = sound(participants_script(job, batch(engine=engine))).splitlines()
    assert lines[0] == "#!/bin/bash"
    assert lines[1 : len(HEADS[engine]) + 1] == HEADS[engine] and not lines[len(HEADS[engine]) + 1]
    bare = sound(participants_script(Job(engine=engine, **PATHS, cpus=1), batch(engine=engine, tasks=1)))
    assert not any(word in bare for word in ("time", "gpu", "gres", "%2", "-tc", " -q", "-J 1-1"))
    group = sound(group_script(job, 4000))
    assert "group.log" in group and "gpu" not in group and "array" not in group and " -t " not in group
    assert group.rstrip().endswith("/data/bids /data/out group")
    submit = sound(submit_script(job, [batch(1), batch(2)]))
    assert "for batch in batch-001 batch-002" in submit and "3 tasks" not in submit and "6 tasks" in submit


def test_a_task_hands_the_memory_and_cores_of_its_job_on(tmp_path):
    job = Job(engine="slurm", **PATHS, cpus=3, arguments=("--pipeline", "fast", "--roi", "a b"))
    text = participants_script(job, batch())
    assert '--work-dir "$work" --nprocs 3 --mem-mb 3600 --skip-bids-validation' in text
    assert "/data/bids /data/out participant $selection" in text and "--pipeline fast --roi 'a b'" in text
    assert "work=/scratch/work/$name" in text and "rm -rf" not in text
    node = Job(engine="slurm", **{**PATHS, "work_dir": "$TMPDIR/my work"}, clean_work=True)
    text = sound(participants_script(node, batch(memory_mb=300)))
    assert "work=\"$TMPDIR\"'/my work'/$name" in text and '[ $status -eq 0 ] && rm -rf "$work"' in text
    assert "--mem-mb 500" in text  # the least that qsmprep takes


def test_a_container_sees_the_dataset_read_only_and_nothing_of_the_environment():
    job = Job(engine="slurm", **PATHS, gpus=1, container=Path("/images/q.sif"), binds=(Path("/lic/a.toml"),))
    text = sound(participants_script(job, batch()))
    command = text[text.index("apptainer") :].replace("\\\n", " ").split()
    assert command[:4] == ["apptainer", "exec", "--cleanenv", "--nv"]
    binds = [command[i + 1] for i, word in enumerate(command) if word == "--bind"]
    assert binds == ["/data/bids:/data/bids:ro", "/lic/a.toml:/lic/a.toml:ro", "/data/out", '"$work"']
    assert command[command.index("/images/q.sif") + 1] == "qsmprep"
    session = group_script(Job(engine="slurm", **PATHS, per="session"), 4000)
    assert session.index("participant --reports-only") < session.index("/data/out group")


def test_a_folder_that_a_scheduler_cannot_name_is_refused():
    for engine, name in (("slurm", 'a"b'), ("pbs", "a b"), ("sge", "a:b")):
        job = Job(engine=engine, **PATHS)
        with pytest.raises(ValueError, match="--jobs-dir"):
            participants_script(job, batch(jobs_dir=Path("/data") / name))
    assert '--output="/my data/50%%/' in participants_script(
        Job("slurm", **PATHS), batch(jobs_dir=Path("/my data/50%"))
    )


def head(bids, subject, session=None, suffix="MEGRE"):
    folder = bids / f"sub-{subject}" / (f"ses-{session}" if session else "") / "anat"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"sub-{subject}_echo-1_part-mag_{suffix}.nii.gz").touch()


def test_tasks_are_those_with_images(tmp_path):
    head(tmp_path, "01")
    head(tmp_path, "02", "a")
    head(tmp_path, "02", "b")
    head(tmp_path, "03", suffix="T1w")
    (tmp_path / "sub-04").mkdir()
    named = {"per": "participant", "datatypes": ("anat",)}
    assert find_tasks(tmp_path, **named) == [Task("01"), Task("02")]
    assert find_tasks(tmp_path, **named, participant_labels=["sub-02"]) == [Task("02")]
    by_session = find_tasks(tmp_path, per="session", datatypes=("anat",))
    assert by_session == [Task("01"), Task("02", "a"), Task("02", "b")]
    with pytest.raises(ValueError, match="no gradient echo images of sub-03"):
        find_tasks(tmp_path, **named, participant_labels=["03", "01"])


def test_what_is_not_done_is_submitted_again_with_more_memory_where_that_was_the_cause():
    words = ("done", "running", "queued", "failed", "killed", "missing", "killed")
    states = [State(Task(str(i)), word, memory_mb=4000, short_of_memory=i == 4) for i, word in enumerate(words)]
    states.append(State(Task("new"), "missing"))
    assert chunks(states, 2000) == [
        (2000, [Task("new")]),
        (4000, [Task("3"), Task("5"), Task("6")]),
        (8000, [Task("4")]),
    ]
    assert chunks(states, 9000) == [(9000, [Task("3"), Task("4"), Task("5"), Task("6"), Task("new")])]
    assert [len(tasks) for _, tasks in chunks([State(Task(str(i)), "missing") for i in range(7)], 1, largest=3)] == [
        3,
        3,
        1,
    ]


def test_batches_that_were_never_submitted_are_replaced(tmp_path):
    first = new_batches(tmp_path, [(1000, [Task("1")]), (2000, [Task("2")])], "slurm", [])
    (first[0].folder / "job").write_text("7\n")
    second = new_batches(tmp_path, [(3000, [Task("2"), Task("3")])], "slurm", read_batches(tmp_path))
    assert [found.folder.name for found in read_batches(tmp_path)] == ["batch-001", "batch-002"]
    assert read_batches(tmp_path)[1] == second[0] and second[0].tasks == ("sub-2", "sub-3")
    assert (second[0].folder / "tasks.txt").read_text().splitlines()[1] == "sub-3 --participant-label 3"
    (second[0].folder / "batch.json").write_text("{}")
    with pytest.raises(ValueError, match="batch-002"):
        read_batches(tmp_path)


def record(out, subject, *messages):
    folder = out / f"sub-{subject}" / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    errors = [{"step": "phase", "message": message} for message in messages]
    document = {"status": "failed" if errors else "ok", "errors": errors}
    (folder / f"sub-{subject}_record.json").write_text(json.dumps(document))


def program(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


def test_each_task_stands_where_queue_files_and_records_say(tmp_path, monkeypatch):
    out, stubs = tmp_path / "out", tmp_path / "stubs"
    monkeypatch.setenv("PATH", str(stubs), prepend=os.pathsep)
    names = ("ok", "bad", "oom", "silent", "run", "wait", "gone", "late", "hidden", "vanished", "unread", "time")
    (own,) = new_batches(tmp_path / "jobs", [(4000, [Task(name) for name in names])], "slurm", [])
    (own.folder / "job").write_text("12")
    index = {name: number for number, name in enumerate(names, 1)}

    def left(name, *, status=None, log=""):
        (own.folder / f"{index[name]}.begun").write_text(f"12_{index[name]} on node1")
        (own.folder / f"{index[name]}.log").write_text(log)
        if status is not None:
            (own.folder / f"{index[name]}.ended").write_text(f"{status}\n")

    left("ok", status=0)
    record(out, "ok")
    left("bad", status=1)
    record(out, "bad", "x.nii is cut short.\nFetch it.", "more")
    left("oom", log="slurmstepd: error: Exceeded job memory limit\n")
    record(out, "oom")  # of an earlier command
    left("silent")
    left("run")
    killed = (
        "Error: sub-late: inversion: killed, most likely by the kernel or the cluster for want of memory: give more.\n"
    )
    left("late", status=1, log=killed + "last line\n")
    left("hidden")
    left("vanished", status=0)
    left("unread", status=1, log="qsmprep: no such thing.\n")
    left("time", log="*** JOB 12 CANCELLED AT 2030 DUE TO TIME LIMIT ***")
    record(out, "before")
    squeue = [
        f"{own.job_name}|{index['run']}|RUNNING",
        f"{own.job_name}|{index['wait']}|PENDING",
        f"{own.job_name}|N/A|RUNNING",
    ]
    program(
        stubs, "squeue", f'[[ "$*" == *--name={own.job_name}* ]] || exit 3\nprintf "%s\\n" "{chr(10).join(squeue)}"'
    )
    program(stubs, "sacct", f'echo "12_{index["hidden"]}|FAILED"; echo "12_{index["hidden"]}.batch|OUT_OF_MEMORY"')

    tasks = [Task(name) for name in (*names, "before", "never")]
    found = {state.task.subject: state for state in survey(out, tasks, [own], queue([own]))}
    assert {name: state.word for name, state in found.items()} == {
        "ok": "done", "bad": "failed", "oom": "killed", "silent": "killed", "run": "running", "wait": "queued",
        "gone": "missing", "late": "failed", "hidden": "killed", "vanished": "missing", "unread": "failed",
        "time": "killed", "before": "done", "never": "missing",
    }  # fmt: skip
    assert {name for name, state in found.items() if state.short_of_memory} == {"oom", "late", "hidden"}
    assert found["bad"].message == "phase: x.nii is cut short. (and 1 more)"
    assert found["late"].message == killed.strip().removeprefix("Error: ")
    assert found["oom"].message == found["hidden"].message == "needed more than its 4000 MB of memory"
    assert found["unread"].message == "qsmprep: no such thing."
    assert "time" in found["time"].message and "cancelled" in found["gone"].message
    assert found["ok"].jobs == 1 and found["never"].jobs == 0
    program(stubs, "sacct", "echo Slurm accounting storage is disabled >&2; exit 1")
    assert ended_states(["12_1"]) == {}
    unknown = {state.task.subject: state.word for state in survey(out, tasks, [own], None)}
    assert unknown["silent"] == "running" and unknown["wait"] == "queued" and unknown["ok"] == "done"


def test_of_pbs_and_sge_whole_arrays_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "stubs"), prepend=os.pathsep)
    program(tmp_path / "stubs", "qstat", '[[ "$*" == "5[]" || "$*" == "-j 6" ]]')
    chosen = [(1000, [Task("1"), Task("2")])]
    for engine, job, lives in (("pbs", "5[]", True), ("sge", "6", True), ("pbs", "7[]", False)):
        (own,) = new_batches(tmp_path / engine / job, chosen, engine, [])
        (own.folder / "job").write_text(job)
        (own.folder / "1.begun").touch()
        expected = {(own.job_name, 1): "running", (own.job_name, 2): "queued"}
        assert queue([own]) == (expected if lives else {})


SBATCH = """
while [[ $1 == --* ]]; do [ "$1" = --parsable ] || echo "$1" >>"{log}"; shift; done
echo "$1" >>"{log}"
number=$(grep -c sh$ "{log}")
last=$(sed -n 's/^#SBATCH --array=1-\\([0-9]*\\).*/\\1/p' "$1")
output=$(sed -n 's/^#SBATCH --output="\\(.*\\)"/\\1/p' "$1")
for index in $(seq "${{last:-0}}"); do
    SLURM_ARRAY_JOB_ID=$number SLURM_ARRAY_TASK_ID=$index bash "$1" >"${{output/\\%a/$index}}" 2>&1
done
[ -n "$last" ] || bash "$1" >"$output" 2>&1
echo "$number;main"
"""
QSMPREP = """
[ "$3" = group ] && { ls "$2" | grep -c ^sub-; exit; }
label=$5
folder=$2/sub-$label/figures
mkdir -p "$folder"
if [ "$label" = 02 ] && [ ! -e mended ]; then
    echo '{"status": "failed", "errors": [{"step": "", "message": "an echo is cut short"}]}' >"$folder/r_record.json"
    exit 1
fi
[ "$label" = 03 ] && [[ "$*" == *--mem-mb\\ 900* ]] && kill -9 $PPID
echo '{"status": "ok", "errors": []}' >"$folder/r_record.json"
"""


def test_a_study_is_submitted_looked_at_mended_and_submitted_again(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    program(tmp_path / "bin", "sbatch", SBATCH.format(log=tmp_path / "submitted"))
    program(tmp_path / "bin", "squeue", "")
    program(tmp_path / "bin", "sacct", "echo '1_3.batch|OUT_OF_MEMORY'")
    program(tmp_path / "bin", "qsmprep", QSMPREP)
    for label in ("01", "02", "03"):
        head(tmp_path / "bids", label)
    (tmp_path / "study.toml").write_text('pipeline = "fast"\n')

    def cluster(*words, further=()):
        status = main(
            ["cluster", str(tmp_path / "bids"), str(tmp_path / "out"), *words, *(["--", *further] if further else [])]
        )
        told = capfd.readouterr()
        return status, told.out + told.err

    start = ("--engine", "slurm", "--mem", "1000M", "--cpus", "2", "--skip-bids-validation")
    status, told = cluster(*start, further=["--config-file", "study.toml"])
    script = (tmp_path / "out/logs/cluster/batch-001/participants.sh").read_text()
    assert status == 0 and "Nothing is submitted yet" in told and not (tmp_path / "submitted").exists()
    assert f"--config-file {tmp_path / 'study.toml'}" in script
    assert cluster(*start, "--submit", further=["--pipeline", "fast"])[0] == 0
    jobs = (tmp_path / "submitted").read_text().splitlines()
    assert jobs == ["batch-001/participants.sh", "--dependency=afterany:1", "group.sh"]

    status, told = cluster("--status")
    assert status == 1
    rows = {line.split()[0]: line for line in told.splitlines() if line.startswith("sub-")}
    assert rows["sub-01"].split() == ["sub-01", "done", "1", "1000"]
    assert (
        "failed " in rows["sub-02"] and "an echo is cut short" in rows["sub-02"] and "batch-001/2.log" in rows["sub-02"]
    )
    assert "killed " in rows["sub-03"] and "1000 MB of memory" in rows["sub-03"]
    assert "3 tasks: 1 done, 1 failed, 1 killed" in told

    (tmp_path / "mended").touch()
    status, told = cluster(*start, "--submit")
    assert status == 0 and "1000 MB: sub-02" in told and "2000 MB: sub-03" in told
    assert (tmp_path / "submitted").read_text().splitlines()[-2:] == ["--dependency=afterany:3:4", "group.sh"]
    assert (tmp_path / "out/logs/cluster/group.log").read_text().strip() == "3"
    status, told = cluster("--status")
    assert status == 0 and "3 tasks: 3 done" in told
    assert "Nothing to submit" in cluster(*start, "--submit")[1]

    program(tmp_path / "bin", "squeue", "echo Unable to contact slurm controller >&2; exit 1")
    status, told = cluster("--status")
    assert status == 0 and "Unable to contact" in told
    assert cluster(*start)[0] == 1


def test_a_scheduler_that_takes_no_job_is_told_and_nothing_counts_as_submitted(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    program(tmp_path / "bin", "sbatch", "echo sbatch: error: invalid partition >&2; exit 1")
    head(tmp_path / "bids", "01")
    words = ["cluster", str(tmp_path / "bids"), str(tmp_path / "out"), "--engine", "slurm", "--skip-bids-validation"]
    assert main([*words, "--submit"]) == 1
    assert "sbatch did not take the jobs" in capfd.readouterr().err
    assert not read_batches(tmp_path / "out/logs/cluster")[0].was_submitted


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--engine", "slurm", "--", "--nprocs", "3"], "give --cpus"),
        (["--engine", "slurm", "--", "--participant_label=01"], "before the --"),
        (["--engine", "slurm", "--", "--pipelin", "fast"], "unknown flag --pipelin"),
        (["--engine", "slurm", "--mem", "16"], "no memory"),
        (["--engine", "slurm", "--work-dir", "$(rm)"], "variable of the node"),
        (["--engine", "slurm", "--container", "none.sif"], "no such file"),
        (["--engine", "slurm", "--participant-label", "9"], "sub-9"),
        ([], "--engine slurm, pbs or sge is missing"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(tmp_path, capsys, words, told):
    head(tmp_path / "bids", "01")
    try:
        status = main(["cluster", str(tmp_path / "bids"), str(tmp_path / "out"), *words])
    except SystemExit as left:
        status = left.code
    assert status == 2 and told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
