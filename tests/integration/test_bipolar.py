"""Runs of the command line on a head with bipolar readout: found, corrected, told; and warned of before the run."""

import json

import numpy as np
import pytest
from documents import codes

from qsmprep.findings import fact_values
from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.options import SimulationOptions

WORDS = ("--pipeline", "fast", "--separation", "none", "--inversion", "tkd", "--plugin", "linear",
         "--skip-bids-validation")  # fmt: skip
TOLD = '"ReadoutPolarity": "bipolar", "EchoTime"'


@pytest.fixture(scope="module")
def bids(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("bipolar") / "bids", SimulationOptions(voxel_size="5", bipolar=True))


def told_bipolar(bids, echoes=5):
    """The sidecars of the dataset say that the readout was bipolar, and there are so many echoes."""
    for path in bids.rglob("*_MEGRE.json"):
        if "derivatives" not in path.parts:
            path.write_text(path.read_text("utf-8").replace('"EchoTime"', TOLD), "utf-8")
    for number in range(echoes + 1, 6):
        for path in (*bids.rglob(f"*_echo-{number}_*"),):
            path.unlink()
    return bids


def first_step(finished):
    record = json.loads((finished.out / "sub-01" / "figures" / "sub-01_record.json").read_text("utf-8"))
    return next(step for step in record["steps"] if step["stage"] == "input")


def field_error_hz(finished):
    mask = finished.image("desc-brain_mask") > 0
    error = (finished.image("desc-total_fieldmap", "fmap") - finished.truth("desc-total_fieldmap", "fmap"))[mask]
    return np.median(np.abs(error - np.median(error)))


def bipolar_phase(finished):
    return json.loads((finished.out / "sub-01" / "anat" / "sub-01_qc.json").read_text("utf-8"))["metrics"][
        "bipolar_phase"
    ]


@pytest.fixture(scope="module")
def runs(bids, run_qsmprep, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {how: run_qsmprep(bids, folder / how, *WORDS, "--bipolar", how) for how in ("auto", "mcpc-3d-s", "off")}


@pytest.mark.parametrize(("how", "corrected"), [("auto", True), ("mcpc-3d-s", True), ("off", False)])
def test_the_phase_shows_it_and_the_record_tells(runs, how, corrected):
    assert runs[how].status == 0, runs[how].stderr
    step = first_step(runs[how])
    facts = fact_values(step["facts"])
    assert facts["bipolar_range"] == pytest.approx(0.54, abs=0.05)
    assert facts["bipolar_corrected"] is corrected
    assert codes(step) == ["bipolar-readout"]


def test_corrected_it_leaves_nothing_in_the_field(runs):
    assert bipolar_phase(runs["off"]) > 0.4
    assert field_error_hz(runs["off"]) > 0.7
    for how in ("auto", "mcpc-3d-s"):
        assert bipolar_phase(runs[how]) < 0.01
        assert field_error_hz(runs[how]) < 0.1
    page = (runs["auto"].out / "sub-01.html").read_text("utf-8")
    assert "Bipolar readout" in page


def dry_run(bids, run_qsmprep, out, *words):
    return run_qsmprep(bids, out, "--dry-run", "--skip-bids-validation", *words)


def test_the_plan_warns_where_the_sidecar_tells(run_qsmprep, tmp_path):
    bids = told_bipolar(simulate(tmp_path / "bids", SimulationOptions(voxel_size="8", bipolar=True)))
    done = dry_run(bids, run_qsmprep, tmp_path / "out")
    assert done.status == 0, done.stderr
    assert "ReadoutPolarity" in done.stderr
    assert "is corrected where it shows" in done.stderr
    assert "stays (--bipolar off)" in dry_run(bids, run_qsmprep, tmp_path / "off", "--bipolar", "off").stderr


def test_two_echoes_are_warned_of_and_a_correction_refused(run_qsmprep, tmp_path):
    bids = told_bipolar(simulate(tmp_path / "bids", SimulationOptions(voxel_size="8", bipolar=True)), echoes=2)
    done = dry_run(bids, run_qsmprep, tmp_path / "out")
    assert done.status == 0, done.stderr
    assert "not corrected and becomes field" in done.stderr
    refused = dry_run(bids, run_qsmprep, tmp_path / "plane", "--bipolar", "plane")
    assert refused.status != 0
    assert "needs three or more echoes" in refused.stderr


def test_the_smooth_map_belongs_to_the_offset_removal(bids, run_qsmprep, tmp_path):
    done = dry_run(bids, run_qsmprep, tmp_path / "out", "--bipolar", "mcpc-3d-s", "--phase-offset", "none")
    assert done.status != 0
    assert "--bipolar plane" in done.stderr
