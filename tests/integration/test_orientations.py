"""Several orientations of one head through the real command line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.options import SimulationOptions

WORDS = ("--skip-bids-validation", "--inversion", "tkd", "--relaxometry", "none")
OWN = """
[network]
name = "own"
task = "inversion"
inputs = ["tissue-field", "tkd"]
outputs = ["chi"]
[network.architecture]
family = "unet"
width = 4
levels = 2
norm = "none"
shortcut = true
[data]
heads = 0
shapes = 0.0
patch = 32
[training]
steps = 30
learning_rate = 5e-3
warm_up = 5
average = 0.8
precision = "float32"
relative = true
validate_every = 10
validation_patches = 2
"""
SOURCES = ("--skip-bids-validation", "--inversion", "tkd", "--background", "iharperella", "--separation", "closed-form")


@pytest.fixture(scope="module")
def joined(tmp_path_factory, run_qsmprep):
    folder = tmp_path_factory.mktemp("orientations")
    options = SimulationOptions(voxel_size="4", orientations="0,0;20,0;0,25", echo_times="0.005,0.012,0.019")
    return run_qsmprep(simulate(folder / "bids", options), folder / "out", *WORDS, "--multi-orientation", "cosmos")


def truth(joined, name):
    import nibabel as nib

    folder = joined.bids / "derivatives" / "truth" / "sub-01" / "anat"
    return np.asarray(nib.load(folder / f"sub-01_run-1_{name}.nii.gz").dataobj)


def nrmse(chi, true, mask):
    x, t = chi[mask] - chi[mask].mean(), true[mask] - true[mask].mean()
    return np.linalg.norm(x - t) / np.linalg.norm(t)


def test_it_succeeds_and_cosmos_is_nearer_to_the_truth_than_one_orientation(joined):
    assert joined.status == 0, joined.stderr
    mask = (joined.image("desc-cosmos_mask") > 0) & (truth(joined, "desc-brain_mask") > 0)
    assert mask.sum() > 0.6 * (truth(joined, "desc-brain_mask") > 0).sum()
    together = nrmse(joined.image("desc-cosmos_Chimap"), truth(joined, "Chimap"), mask)
    alone = nrmse(joined.image("run-1_Chimap"), truth(joined, "Chimap"), mask)
    assert together < 0.8 * alone


def test_the_sidecar_tells_how_the_orientations_lie_and_what_the_map_was_made_from(joined):
    document = json.loads((joined.out / "sub-01" / "anat" / "sub-01_desc-cosmos_Chimap.json").read_text("utf-8"))
    assert document["Orientations"] == ["sub-01_run-1", "sub-01_run-2", "sub-01_run-3"]
    directions = np.array(document["B0Directions"])
    turns = np.degrees(np.arccos(directions[:, 2]))
    assert np.allclose(turns, [0, 20, 25], atol=1)
    assert np.array(document["RegistrationMatrices"]).shape == (3, 4, 4)
    for source in document["Sources"]:
        assert (joined.out / source.removeprefix("bids::")).is_file()
    assert document["Units"] == "ppm"


def test_sources_are_told_apart_from_all_orientations(joined, tmp_path, run_qsmprep):
    # What both runs have in common is taken from the work folder.
    words = (*SOURCES, "--multi-orientation", "chisep-cosmos")
    done = run_qsmprep(joined.bids, tmp_path / "out", *words, work=joined.work)
    assert done.status == 0, done.stderr
    labels = truth(joined, "desc-tissue_dseg")
    for kind, index in (("para", 2), ("dia", 8)):
        found = done.image(f"desc-{kind}magnetic_Chimap")
        region = (labels == index) & (found > 0)
        true = truth(joined, f"desc-{kind}magnetic_Chimap")[region].mean()
        assert found.min() >= 0
        assert found[region].mean() == pytest.approx(true, rel=0.5)
    document = json.loads((done.out / "sub-01" / "anat" / "sub-01_desc-diamagnetic_Chimap.json").read_text("utf-8"))
    assert document["EstimationAlgorithm"] == "chi-separation COSMOS"
    assert "approximation" in document["R2Prime"]


def test_sources_of_several_orientations_need_relaxation(joined, tmp_path, run_qsmprep):
    done = run_qsmprep(joined.bids, tmp_path / "out", *WORDS, "--multi-orientation", "chisep-cosmos", "--dry-run")
    assert done.status != 0
    assert "needs R2'" in done.stderr


def test_the_report_shows_the_joint_map(joined):
    page = (joined.out / "sub-01.html").read_text("utf-8")
    assert "Several orientations: COSMOS" in page
    assert (joined.out / "sub-01" / "figures" / "sub-01_desc-cosmos_Chimap.png").is_file()


def test_a_join_that_fails_is_shown_as_missing_with_its_crash_text(joined, tmp_path, run_qsmprep):
    words = (*WORDS, "--multi-orientation", "cosmos", "--cosmos-max-condition", "1.01")
    done = run_qsmprep(joined.bids, tmp_path / "out", *words, work=joined.work)
    assert done.status == 1
    page = " ".join((done.out / "sub-01.html").read_text("utf-8").split())
    assert page.count("Not made: ") == 1 and "Not made: several orientations: cosmos" in page
    assert "Crash text of cosmos join" in page and "condition" in page
    assert done.image("run-1_Chimap").any()


def test_the_bids_validator_finds_no_error(joined):
    validator = Path(sys.executable).with_name("bids-validator-deno")
    found = shutil.which("bids-validator-deno") or (str(validator) if validator.exists() else None)
    if found is None:
        pytest.skip("bids-validator-deno is not installed")
    done = subprocess.run([found, "--json", str(joined.out)], capture_output=True, text=True, check=False)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert not [issue for issue in issues if issue["severity"] == "error"]


def test_too_few_orientations_are_told_before_anything_runs(joined, tmp_path, run_qsmprep):
    done = run_qsmprep(joined.bids, tmp_path / "out", *WORDS, "--multi-orientation", "sti")
    assert done.status == 2
    assert "sub-01: --multi-orientation sti needs 6 or more orientations; there are 3" in done.stderr
    assert not (tmp_path / "out" / "sub-01").exists()


def test_plan_and_methods_text_name_the_joint_map(joined, tmp_path, run_qsmprep):
    words = (*WORDS, "--multi-orientation", "cosmos")
    planned = run_qsmprep(joined.bids, tmp_path / "dry", *words, "--dry-run")
    assert planned.status == 0
    assert "sub-01_orientations:\n  registration: rigid" in planned.stdout and "  cosmos: COSMOS" in planned.stdout
    assert run_qsmprep(joined.bids, tmp_path / "out", *words, "--boilerplate-only").status == 0
    assert "COSMOS" in (tmp_path / "out" / "logs" / "CITATION.md").read_text("utf-8")


def test_a_network_learns_from_the_joint_map_and_inverts_a_scan(joined, tmp_path, run_qsmprep):
    from qsmprep.cli.tools import main

    recipe = tmp_path / "own.toml"
    recipe.write_text(OWN, "utf-8")
    out = tmp_path / "trained"
    words = ["train", str(recipe), "--out", str(out), "--labels", str(joined.out), "--device", "cpu", "--threads", "1"]
    assert main([*words, "--quiet"]) == 0
    card = json.loads((out / "own.json").read_text("utf-8"))
    assert card["spec"]["domain"]["voxel_size_mm"] == 4.0
    assert card["labels"]["participants"] == ["01"] and card["labels"]["orientations"] == {"01": 3}
    assert len(card["labels"]["sha256"]) == 7 and "COSMOS" in card["statement"]
    losses = [float(line.split("\t")[1]) for line in (out / "own.tsv").read_text("utf-8").splitlines()[1:]]
    assert losses[-1] < 0.9 * losses[0]
    flags = ("--inversion", "qsmnet", "--qsmnet-weights", str(out / "own.safetensors"))
    words = ("--skip-bids-validation", "--relaxometry", "none", *flags)
    # What both runs have in common is taken from the work folder.
    done = run_qsmprep(joined.bids, tmp_path / "out", *words, work=joined.work)
    assert done.status == 0, done.stderr
    mask = (done.image("run-1_desc-qsm_mask") > 0) & (truth(joined, "desc-brain_mask") > 0)
    found, true = done.image("run-1_Chimap")[mask], truth(joined, "Chimap")[mask]
    assert np.corrcoef(found, true)[0, 1] > 0.5


def test_labels_are_refused_where_there_are_none(joined, tmp_path, capsys):
    from qsmprep.cli.tools import main

    recipe = tmp_path / "own.toml"
    recipe.write_text(OWN, "utf-8")
    words = ["train", str(recipe), "--out", str(tmp_path / "out"), "--quiet", "--device", "cpu"]
    assert main([*words, "--labels", str(joined.bids)]) == 2
    assert "--multi-orientation cosmos" in capsys.readouterr().err
    assert main([*words, "--validation-participants", "01"]) == 2
    assert "--labels" in capsys.readouterr().err
