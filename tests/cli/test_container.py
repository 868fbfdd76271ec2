"""`qsmprep-tools docker`: every folder of a command line is mounted, and only results may be written."""

import os
import shlex
from pathlib import Path

import pytest

from qsmprep.cli.tools import main


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A working folder with a dataset whose name must be quoted, files, and a link to a folder elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QSMPREP_WEIGHTS", raising=False)
    monkeypatch.delenv("TEMPLATEFLOW_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in ("my bids", "elsewhere/masks"):
        Path(folder).mkdir(parents=True)
    Path("linked").symlink_to("elsewhere/masks")
    for name in ("mask.nii", "net.safetensors", "net.json", "run.toml"):
        Path(name).write_text("")
    return tmp_path


def shown(capsys, *words):
    """The lines of the command that is shown, each as words; the first makes folders."""
    assert main(["docker", *words]) == 0
    lines = capsys.readouterr().out.replace(" \\\n", "\n").splitlines()
    return [shlex.split(line.removesuffix(" &&")) for line in lines]


def mounts(lines):
    return dict(line[1].removeprefix("type=bind,source=").split(",target=") for line in lines if line[0] == "--mount")


ALL = ["my bids", "out", "participant", "--mask-file", "mask.nii", "--config-file", "run.toml", "--derivatives",
       "fs=linked", "--inversion", "qsmnet", "--qsmnet-weights", "net.safetensors", "--session-label", "1"]  # fmt: skip


def test_every_path_is_mounted_under_its_own_name_and_only_results_may_be_written(study, capsys):
    lines = shown(capsys, *ALL)
    place = str(study)
    assert lines[0] == ["mkdir", "-p", f"{place}/out", f"{place}/work"]
    assert lines[1][:3] == ["docker", "run", "--rm"]
    assert lines[1][lines[1].index("--user") + 1] == f"{os.getuid()}:{os.getgid()}"
    assert lines[1][lines[1].index("--workdir") + 1] == place
    found = mounts(lines)
    read = ("my bids", "mask.nii", "run.toml", "net.safetensors", "net.json")
    assert {f"{place}/{name}": f"{place}/{name},readonly" for name in read}.items() <= found.items()
    assert found[f"{place}/elsewhere/masks"] == f"{place}/linked,readonly"
    assert found[f"{place}/out"] == f"{place}/out" and found[f"{place}/work"] == f"{place}/work"
    assert len(found) == 8
    assert lines[-1] == ["qsmprep", *ALL]


def test_apptainer_takes_no_environment_and_no_home_from_outside(study, capsys, monkeypatch):
    monkeypatch.setenv("QSMPREP_WEIGHTS", "linked")
    lines = shown(capsys, "--engine", "apptainer", "my bids", "out", "participant", "-w", "scratch", "--device", "cuda")
    assert {"--cleanenv", "--no-home", "--nv"} <= set(lines[1])
    assert ["--bind", f"{study}/my bids:{study}/my bids:ro"] in lines
    assert ["--bind", f"{study}/scratch:{study}/scratch"] in lines
    assert ["--bind", f"{study}/linked:{study}/linked:ro"] in lines
    assert ["--env", f"QSMPREP_WEIGHTS={study}/linked"] in lines
    assert lines[-1][0] == "qsmprep.sif"


def test_a_folder_is_mounted_before_what_lies_in_it(study, capsys):
    targets = [
        line[1].partition(",target=")[2] for line in shown(capsys, ".", "./out", "group") if line[0] == "--mount"
    ]
    assert targets == [f"{study},readonly", f"{study}/out", f"{study}/work"]


def test_run_makes_the_folders_and_gives_the_status_of_the_run(study, monkeypatch):
    (study / "bin").mkdir()
    program = study / "bin" / "podman"
    program.write_text('#!/bin/sh\necho "$@" > called; exit 7\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{study}/bin:{os.environ['PATH']}")
    assert main(["docker", "--engine", "podman", "--run", "my bids", "out", "participant"]) == 7
    assert (study / "out").is_dir() and "--userns keep-id" in (study / "called").read_text()


def test_mistakes_are_told_before_anything_is_started(study, capsys, monkeypatch):
    with pytest.raises(SystemExit) as caught:
        main(["docker", "my bids", "out", "participant", "--fansi-alpha", "1"])
    assert caught.value.code == 2 and "--fansi-alpha1" in capsys.readouterr().err
    Path("a,b").mkdir()
    assert main(["docker", "a,b", "out", "participant"]) == 2
    assert "rename it" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(study))
    assert main(["docker", "--run", "my bids", "out", "participant"]) == 1
    assert "no program docker here" in capsys.readouterr().err


def test_templates_are_mounted_where_maps_are_wanted_in_one(study, capsys):
    templates = study / ".cache" / "templateflow"
    templates.mkdir(parents=True)
    words = ["my bids", "out", "participant", "--output-spaces", "MNI152NLin2009cAsym"]
    lines = shown(capsys, *words)
    assert str(templates) in mounts(lines)
    assert ["--env", f"TEMPLATEFLOW_HOME={templates}"] in [line[:2] for line in lines]
    assert str(templates) not in mounts(shown(capsys, *words[:3]))
