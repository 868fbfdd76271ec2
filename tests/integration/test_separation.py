"""Spin echoes beside gradient echoes: R2, R2' and both sources through the command line."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from documents import codes, values

from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.options import SimulationOptions


def step(done, stage, name="desc-paramagnetic_Chimap"):
    sidecar = json.loads((done.out / "sub-01" / "anat" / f"sub-01_{name}.json").read_text("utf-8"))
    return next(record for record in sidecar["ProcessingSteps"] if record["stage"] == stage)


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A head at 3 mm, whose spin echo scan is another one: 2 x 2 x 4 mm, the slab tilted, the head turned in it."""
    folder = tmp_path_factory.mktemp("spin-echo")
    bids = simulate(folder / "bids", SimulationOptions(voxel_size="3"))
    options = SimulationOptions(voxel_size="2,2,4", tilt_x=15.0, head_tilt_y=8.0, mese=True, mese_b1="1.1,0.8", seed=7)
    other = simulate(folder / "other", options)
    for path in (other / "sub-01" / "anat").glob("*MESE*"):
        shutil.copy(path, bids / "sub-01" / "anat" / path.name)
    return bids


@pytest.fixture(scope="module")
def done(head, tmp_path_factory, run_qsmprep):
    done = run_qsmprep(head, tmp_path_factory.mktemp("separated") / "out", "--pipeline", "accurate")
    assert done.status == 0, done.stderr
    return done


def test_r2_of_another_grid_and_position_lies_over_the_gradient_echoes(done):
    found, truth = done.image("R2map"), done.truth("R2map")
    deep = (done.truth("desc-tissue_dseg") == 8) & (found > 0)
    assert deep.sum() > 5000
    assert np.median(found[deep]) == pytest.approx(np.median(truth[deep]), rel=0.03)
    facts = values(step(done, "r2-registration", "R2map"))
    assert facts["turn"] == pytest.approx(17, abs=1)  # 15 with the slab and 8 in it
    assert facts["covered_share"] > 95
    text = (done.out / "sub-01" / "anat" / "sub-01_from-MEGRE_to-MESE_mode-image_xfm.txt").read_text("utf-8")
    assert text.startswith("#Insight Transform File V1.0")


def test_both_sources_are_told_apart(done):
    labels = done.truth("desc-tissue_dseg")
    para, dia = done.image("desc-paramagnetic_Chimap"), done.image("desc-diamagnetic_Chimap")
    assert min(para.min(), dia.min()) >= 0
    for index, kind, found in ((2, "para", para), (8, "dia", dia)):
        region = (labels == index) & (found > 0)
        truth = done.truth(f"desc-{kind}magnetic_Chimap")[region].mean()
        assert found[region].mean() == pytest.approx(truth, rel=0.2)
    facts = values(step(done, "separation"))
    assert facts["total_slope"] == pytest.approx(1, abs=0.1)
    assert json.loads((done.out / "sub-01" / "anat" / "sub-01_desc-diamagnetic_Chimap.json").read_text("utf-8"))[
        "RelaxometricConstant"
    ] == {"paramagnetic": 114.0, "diamagnetic": 114.0}


def test_the_report_shows_the_sources_and_cites_them(done):
    page = (done.out / "sub-01.html").read_text("utf-8")
    assert "Source separation" in page
    assert "echo-1_MESE" in page
    order = [
        page.index(heading) for heading in ("spin echoes: R2", "Registration of the spin", "Reversible", "Source sep")
    ]
    assert order == sorted(order)
    assert "approximation" not in page
    assert "shin2021" in (done.out / "logs" / "CITATION.bib").read_text("utf-8")


def test_gradient_echoes_alone_are_an_approximation_and_say_so(head, tmp_path, run_qsmprep):
    found = run_qsmprep(
        head, tmp_path / "out", "--pipeline", "fast", "--r2", "none", "--r2prime-fallback", "constant-r2"
    )
    assert found.status == 0, found.stderr
    assert not list((tmp_path / "out").rglob("*_R2map.nii.gz"))
    record = step(found, "r2prime")
    assert record["method"] == "constant-r2"
    assert "r2prime-approximated" in codes(record)
    assert "approximation" in (tmp_path / "out" / "sub-01.html").read_text("utf-8")


def test_a_spin_echo_that_is_missing_is_told_and_the_others_used(head, tmp_path, run_qsmprep):
    bids = tmp_path / "bids"
    shutil.copytree(head, bids)
    for path in (bids / "sub-01" / "anat").glob("*echo-3_MESE*"):
        path.unlink()
    found = run_qsmprep(bids, tmp_path / "out", "--pipeline", "fast", "--separation", "none")
    assert found.status == 0, found.stderr
    record = step(found, "r2", "R2map")
    assert "spin-echo-missing" in codes(record, "notes")
    assert np.median(found.image("R2map")[found.truth("desc-tissue_dseg") == 8]) == pytest.approx(14.3, rel=0.05)


def test_what_cannot_be_done_is_refused_by_name(head, small_head, tmp_path, run_qsmprep):
    none = run_qsmprep(small_head, tmp_path / "a", "--r2", "epg", "--dry-run")
    assert none.status != 0
    assert "no spin echo scan" in none.stderr
    negative = run_qsmprep(small_head, tmp_path / "b", "--relaxometric-para", "-5")
    assert negative.status == 2
    assert "allowed is [1, 2000]" in negative.stderr
    unknown = run_qsmprep(small_head, tmp_path / "c", "--separation", "magic")
    assert unknown.status == 2
    assert "chisep-medi" in unknown.stderr


def test_a_spin_echo_scan_that_cannot_be_read_is_left_out_with_a_note(head, tmp_path, run_qsmprep):
    bids = tmp_path / "bids"
    shutil.copytree(head, bids)
    path = bids / "sub-01" / "anat" / "sub-01_echo-2_MESE.nii.gz"
    image = nib.load(path)
    data = np.asarray(image.dataobj)[..., :-2]
    nib.save(nib.Nifti1Image(data, image.affine), path)
    found = run_qsmprep(bids, tmp_path / "out", "--dry-run")
    assert found.status == 0, found.stderr
    assert "is not used" in found.stdout
