"""Maps in the space of a template, through the command line."""

import json

import nibabel as nib
import numpy as np
import pytest

from qsmprep.bids.group import read_study
from qsmprep.bids.templateflow import VARIABLE
from qsmprep.cli.run import main
from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.options import SimulationOptions

SPACE = "MNI152NLin2009aSym"
WORDS = ("--pipeline", "sloppy", "--relaxometry", "none", "--no-roi", "--skip-bids-validation", "--mask", "net")


@pytest.fixture(scope="module")
def bids(tmp_path_factory):
    """A coarse head of the anatomy that the template has."""
    return simulate(tmp_path_factory.mktemp("spaces") / "bids", SimulationOptions(anatomy="icbm152", voxel_size="6"))


def test_the_map_is_written_in_the_template_and_told_of(bids, tmp_path, run_qsmprep):
    done = run_qsmprep(bids, tmp_path / "out", *WORDS, "--output-spaces", "native", f"{SPACE}:res-2")
    assert done.status == 0, done.stderr
    out = tmp_path / "out"
    stem = f"space-{SPACE}_res-2"
    chi = nib.load(out / "sub-01" / "anat" / f"sub-01_{stem}_Chimap.nii.gz")
    assert chi.shape == (99, 117, 95)
    assert int(chi.header["sform_code"]) == 4
    brain = done.image(f"{stem}_desc-brain_mask") > 0
    place = nib.affines.apply_affine(chi.affine, np.argwhere(brain)).mean(0)
    assert place == pytest.approx([0, -20, 8], abs=8)  # where the template's brain lies
    assert not chi.get_fdata()[~brain].any()
    record = json.loads((out / "sub-01" / "figures" / "sub-01_record.json").read_text())
    steps = [step for step in record["steps"] if step["stage"] == "output-space"]
    assert [step["method"] for step in steps] == [SPACE, f"{SPACE}:res-2"]
    assert (out / "sub-01" / "figures" / steps[0]["figures"][0]["file"]).is_file()
    assert stem in (out / "sub-01.html").read_text()
    assert f"nonlinear registration to {SPACE}" in (out / "logs" / "CITATION.md").read_text()
    (settings,) = out.glob("logs/*/qsmprep.toml")
    assert f'"{SPACE}:res-2"' in settings.read_text()
    entities = json.loads((out / "prov" / "prov-sub01" / "prov-sub01_act.json").read_text())
    assert any("resampling to" in activity["Label"] for activity in entities["Activities"])
    study = read_study(out, bids)
    assert [run.prefix for run in study.runs] == ["sub-01"]  # the map in the template is no run of its own


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("MNI152Nlin2009cAsym", "did you mean MNI152NLin2009cAsym?"),
        ("fsaverage", "is a surface"),
        ("MNI152NLin2009cAsym", "Mount or copy TemplateFlow's folder"),
    ],
)
def test_what_cannot_be_written_is_told_before_anything_runs(bids, tmp_path, monkeypatch, capsys, word, told):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nothing"))
    words = [str(bids), str(tmp_path / "out"), "participant", "-w", str(tmp_path / "work"), "--output-spaces", word]
    try:
        status = main(words)
    except SystemExit as stop:  # of the parser
        status = stop.code
    assert status == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_dry_run_tells_how_it_would_be_registered(bids, tmp_path, capsys):
    words = [str(bids), str(tmp_path / "out"), "participant", "-w", str(tmp_path / "work"), *WORDS, "--dry-run"]
    assert main([*words, "--output-spaces", SPACE]) == 0
    told = capsys.readouterr().out
    assert f"nonlinear registration to {SPACE} by magnitude and susceptibility" in told
    assert f"Maps in {SPACE}: the package's own template" in told
