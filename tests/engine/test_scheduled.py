"""A graph whose nodes are jobs of a scheduler, here stub programs that run a job at once."""

import json
import os

import pytest

from qsmprep.app.plugin_file import read_plugin_file
from qsmprep.cli.run import main
from qsmprep.engine import scheduled as module
from qsmprep.engine.graph import NodesFailed

SBATCH = """#!/bin/bash
echo "$*" >>"{folder}/submitted"
for word in "$@"; do script=$word; done
[[ {refuse} && $script == *refused* ]] && {{ echo "sbatch: error: Invalid qos" >&2; exit 1; }}
number=$(wc -l <"{folder}/submitted")
bash "$script" >"$script.log" 2>&1
echo "Submitted batch job $number"
"""
SQUEUE = "#!/bin/bash\necho 'slurm_load_jobs error: Invalid job id specified' >&2\nexit 1\n"


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Stub programs of Slurm on the PATH; the plugin polls often."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH.format(folder=folder, refuse="1 == 1")), ("squeue", SQUEUE)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(__file__), prepend=os.pathsep)
    monkeypatch.delenv("LOGNAME", raising=False)
    monkeypatch.setattr(module, "POLL_S", 0.05)
    return folder


def plugin(**args):
    return module.scheduled("SLURM", {"retry_timeout": 0, **args})


def test_nodes_are_jobs_with_the_cores_and_memory_that_they_need(lab, slurm):
    first, second = lab.nap("first"), lab.nap("second")
    own = plugin(sbatch_args="--qos=long")
    lab.workflow(first, second, chains=[(first, second)]).run(plugin=own)
    assert set(lab.spans()) == {"first", "second"} and not own.failures
    assert [timing.node for timing in own.timings] == ["graph.first", "graph.second"]
    lines = (slurm / "submitted").read_text().splitlines()
    assert len(lines) == 2
    assert all("--qos=long" in line and "--cpus-per-task=1" in line and "--mem=" in line for line in lines)
    again = plugin()
    lab.workflow(first, second, chains=[(first, second)]).run(plugin=again)
    assert all(timing.cached for timing in again.timings) and len(again.timings) == 2
    assert len((slurm / "submitted").read_text().splitlines()) == 2
    said = plugin(sbatch_args="--mem=9G -c 3")
    assert said._needs(first) == ""


def test_a_failure_is_told_in_its_own_words_and_what_depends_on_it_is_left_out(lab, slurm):
    failing, after = lab.complain("failing", "Volume x.nii has no voxel."), lab.nap("after")
    own = plugin()
    with pytest.raises(NodesFailed, match="1 of the graph's nodes failed; 1 nodes"):
        lab.workflow(failing, after, chains=[(failing, after)]).run(plugin=own)
    (failure,) = own.failures
    assert failure.message == "ValueError: Volume x.nii has no voxel."
    assert own.not_run == ["graph.after"] and not lab.spans()


def test_a_job_that_is_killed_and_one_that_is_not_taken_fail(lab, slurm, monkeypatch):
    own = plugin(raise_on_failure=False)
    flow = lab.workflow(lab.kill_itself("dying"), lab.nap("refused"))
    flow.config["execution"]["job_finished_timeout"] = 0.2
    flow.run(plugin=own)
    told = {failure.node: failure.message for failure in own.failures}
    assert "ended without a result" in told["graph.dying"]
    assert "did not take the job" in told["graph.refused"] and "graph.refused.sh says why" in told["graph.refused"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"plugin": "SLURMGraph"}', "before any step has run.*Take SLURM, which"),
        ("plugin: SGEGraph", "Take SGE, which"),
        ("plugin: MultiProc", "--plugin pool"),
        ("plugin: Condor", "not one of SLURM, SGE"),
        ("plugin: [", "neither YAML nor JSON"),
        ("[1]", "names no plugin"),
        ("plugin: SLURM\nplugin_args: all", "names and values"),
        ("plugin: SLURM\nargs: {}", "args is not known"),
        ("plugin: LSF", "bsub is not here"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_refused_with_the_reason(tmp_path, slurm, text, told):
    path = tmp_path / "plugin.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"(?s)plugin\.yml.*{told}"):
        read_plugin_file(path)


def test_a_plugin_is_read_from_yaml_and_json(tmp_path, slurm):
    path = tmp_path / "plugin"
    for text in (
        json.dumps({"plugin": "SLURM", "plugin_args": {"sbatch_args": "-p x"}}),
        "plugin: SLURMPlugin\nplugin_args:\n  sbatch_args: -p x\n",
    ):
        path.write_text(text)
        assert read_plugin_file(path) == ("SLURM", {"sbatch_args": "-p x"})


def test_qsmprep_refuses_such_a_plugin_before_it_reads_anything(tmp_path, slurm, capsys):
    (tmp_path / "bids").mkdir()
    path = tmp_path / "plugin.json"
    path.write_text('{"plugin": "SLURMGraph"}')
    words = [str(tmp_path / "bids"), str(tmp_path / "out"), "participant", "--work-dir", str(tmp_path / "work")]
    assert main([*words, "--use-plugin", str(path)]) == 2
    assert "SLURMGraph" in capsys.readouterr().err and not (tmp_path / "out").exists()
