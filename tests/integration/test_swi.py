"""Susceptibility-weighted images through the command line."""

import json

import numpy as np
import pytest

from qsmprep.cli.parser import parse
from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.options import SimulationOptions

WORDS = ("--pipeline", "fast", "--separation", "none", "--no-roi", "--skip-bids-validation", "--mask", "robust")


@pytest.fixture(scope="module")
def done(tmp_path_factory, run_qsmprep):
    """Of data whose phase the vendor stores with the other sign."""
    folder = tmp_path_factory.mktemp("swi")
    bids = simulate(folder / "bids", SimulationOptions(voxel_size="4", vendor="ge"))
    done = run_qsmprep(bids, folder / "out", *WORDS, "--swi", "--minip-thickness", "12")
    assert done.status == 0, done.stderr
    return done


def test_paramagnetic_tissue_is_dark_whatever_the_sign_of_the_vendor(done):
    swi, magnitude = done.image("swi"), done.image("magnitude", "fmap")
    chi, inside = done.truth("Chimap"), done.image("desc-bfr_mask") > 0
    relative = swi / np.maximum(magnitude, 1e-6)
    usual = np.median(relative[inside & (np.abs(chi) < 0.02)])
    assert np.median(relative[inside & (chi > 0.1)]) < 0.7 * usual
    smwi = done.image("smwi") / np.maximum(magnitude, 1e-6)
    assert np.median(smwi[inside & (chi > 0.1)]) < 0.7 * np.median(smwi[inside & (np.abs(chi) < 0.02)])


def test_the_projection_is_nowhere_brighter_than_the_image(done):
    swi, lowest, brain = done.image("swi"), done.image("minIP"), done.image("desc-brain_mask") > 0
    assert (lowest <= swi + 1e-6)[brain].all() and (lowest[~brain] == 0).all()
    assert lowest[brain].mean() < 0.95 * swi[brain].mean()


def test_sidecar_and_report_tell_how_they_were_made(done):
    document = json.loads((done.out / "sub-01" / "anat" / "sub-01_swi.json").read_text("utf-8"))
    assert any("desc-local_fieldmap" in source for source in document["Sources"])
    step = next(step for step in document["ProcessingSteps"] if step["stage"] == "swi")
    assert step["method"] == "clear-swi"
    assert {fact["key"]: fact["value"] for fact in step["facts"]}["slab"] == pytest.approx(12)
    page = (done.out / "sub-01.html").read_text("utf-8")
    for words in ("Minimum of the susceptibility-weighted image", "Eckstein et al., 2021", "Gho et al., 2014"):
        assert words in page


def test_the_flag_alone_means_clear_swi_and_there_is_none_without_it():
    for words, method in (((), "none"), (("--swi",), "clear-swi"), (("--swi", "haacke-swi"), "haacke-swi")):
        assert parse(["data", "out", "participant", *words])[1].method("swi") == method
