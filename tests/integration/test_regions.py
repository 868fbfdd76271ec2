"""Regional values through the real command line: of the simulated head in its own labels, laid in several ways."""

import csv
import json
import math
import shutil
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from documents import values

FREESURFER = {1: 50, 2: 52, 3: 51, 7: 49, 8: 2, 9: 3, 10: 4}  # tissue of the simulated head -> number of FreeSurfer
MAPS = {"chi": "Chimap", "chi_para": "desc-paramagnetic_Chimap", "chi_dia": "desc-diamagnetic_Chimap",
        "r2star": "R2starmap"}  # fmt: skip
CORNER, ABSENT = 98, 99


def moved():
    """The head as it lay for the T1w image: nodded by 4 degrees and shifted by some mm."""
    c, s = np.cos(np.deg2rad(4)), np.sin(np.deg2rad(4))
    return np.array([[1, 0, 0, 2.0], [0, c, -s, -3.0], [0, s, c, 4.0], [0, 0, 0, 1]])


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


@pytest.fixture(scope="module")
def bids(tmp_path_factory):
    """A small head with its labels as: a BIDS segmentation, one on a finer grid, and FreeSurfer's of a T1w image."""
    bids = tmp_path_factory.mktemp("regions") / "bids"
    program = "import sys; from qsmprep.cli.tools import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "simulate", str(bids), "--voxel-size", "5"]
    subprocess.run(command, check=True, capture_output=True)
    truth = bids / "derivatives" / "truth" / "sub-01" / "anat"
    image = nib.load(truth / "sub-01_desc-tissue_dseg.nii.gz")
    labels, affine = np.asarray(image.dataobj).astype(np.int16), image.affine
    mine = labels.copy()
    mine[:2, :2, :2] = CORNER  # air, outside every mask
    save(nib.Nifti1Image(mine, affine), bids.parent / "mine" / "sub-01" / "anat" / "sub-01_desc-mine_dseg.nii.gz")
    table = (truth / "sub-01_desc-tissue_dseg.tsv").read_text() + f"{CORNER}\tcorner\n{ABSENT}\tabsent\n"
    (bids.parent / "mine" / "sub-01" / "anat" / "sub-01_desc-mine_dseg.tsv").write_text(table)
    fine = affine @ np.diag([0.5, 0.5, 0.5, 1])
    fine[:3, 3] = (affine @ [-0.25, -0.25, -0.25, 1])[:3]
    twice = labels.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    name = "sub-01_echo-1_part-mag_MEGRE_synthseg.nii.gz"
    save(nib.Nifti1Image(twice, fine), bids.parent / "fine" / "sub-01" / name)
    rate, density = (np.asarray(nib.load(truth / f"sub-01_{name}.nii.gz").dataobj) for name in ("R1map", "PDmap"))
    t1w = (1000 * density * (1 - np.exp(-1.2 * np.nan_to_num(rate)))).astype(np.float32)
    save(nib.Nifti1Image(t1w, moved() @ affine), bids / "sub-01" / "anat" / "sub-01_acq-mprage_T1w.nii.gz")
    aseg = np.zeros(labels.shape, np.int32)
    for tissue, number in FREESURFER.items():
        aseg[labels == tissue] = number
    save(nib.MGHImage(aseg, moved() @ affine), bids.parent / "fs" / "sub-01" / "mri" / "aseg.mgz")
    save(nib.MGHImage(aseg, affine), bids.parent / "fs" / "sub-02" / "mri" / "aseg.mgz")
    return bids


@pytest.fixture(scope="module")
def done(bids, run_qsmprep):
    folder = bids.parent
    derivatives = [f"mine={folder / 'mine'}", f"fine={folder / 'fine'}", f"freesurfer={folder / 'fs'}"]
    done = run_qsmprep(bids, folder / "out", "--pipeline", "fast", "--derivatives", *derivatives)
    assert done.status == 0, done.stderr
    return done


def rows(done):
    path = done.out / "sub-01" / "anat" / "sub-01_desc-roi_stats.tsv"
    with path.open(newline="") as stream:
        found = list(csv.DictReader(stream, delimiter="\t"))
    return {(row["segmentation"], row["name"], row["map"]): row for row in found}, found


def test_values_are_those_calculated_independently_from_the_written_maps(done):
    table, _ = rows(done)
    labels, mask = done.truth("desc-tissue_dseg"), done.image("desc-qsm_mask")
    names = {1: "caudate", 2: "globus_pallidus", 3: "putamen", 7: "thalamus", 8: "white_matter", 10: "ventricle"}
    for column, file in MAPS.items():
        image = done.image(file)
        for index, name in names.items():
            own = [float(v) for v, k, m in zip(image.flat, labels.flat, mask.flat, strict=True) if k == index and m]
            row = table["mine-mine", name, column]
            assert int(row["index"]) == index
            assert int(row["n"]) == len(own) > 0
            assert int(row["n_region"]) == np.count_nonzero(labels == index)
            assert float(row["excluded_share"]) == pytest.approx(1 - len(own) / np.count_nonzero(labels == index))
            mean = math.fsum(own) / len(own)
            assert float(row["mean"]) == pytest.approx(mean, rel=1e-7, abs=1e-12)
            spread = math.sqrt(math.fsum((v - mean) ** 2 for v in own) / len(own))
            assert float(row["sd"]) == pytest.approx(spread, rel=1e-7)
            for percent, cell in ((5, "p5"), (25, "p25"), (50, "median"), (75, "p75"), (95, "p95")):
                assert float(row[cell]) == pytest.approx(np.percentile(np.float64(own), percent), rel=1e-7, abs=1e-12)


def test_regions_outside_the_mask_and_absent_ones_have_no_number(done):
    table, _ = rows(done)
    for name, size, share in (("corner", "8", "1"), ("absent", "0", "n/a")):
        for column in MAPS:
            row = table["mine-mine", name, column]
            assert (row["n"], row["n_region"], row["excluded_share"]) == ("0", size, share)
            assert {row[cell] for cell in ("mean", "sd", "median", "p5", "p25", "p75", "p95")} == {"n/a"}


def test_a_finer_grid_of_the_same_scanner_gives_the_same_values(done):
    table, found = rows(done)
    label = "fine-echo-1-part-mag-MEGRE-synthseg"
    own = [row for row in found if row["segmentation"] == label]
    assert own
    for row in own:
        same = next(r for r in found if r["segmentation"] == "mine-mine" and r["map"] == row["map"]
                    and r["index"] == row["index"])  # fmt: skip
        assert {k: v for k, v in row.items() if k not in ("segmentation", "name")} == {
            k: v for k, v in same.items() if k not in ("segmentation", "name")
        }
    assert table


def test_labels_of_a_t1w_image_come_over_by_its_registration(done):
    table, _ = rows(done)
    for tissue, name, fs in (("thalamus", "thalamus", "Right-Thalamus"), ("white_matter", "white_matter",
                             "Left-Cerebral-White-Matter")):  # fmt: skip
        row, truth = table["freesurfer-aseg", fs, "chi"], table["mine-mine", tissue, "chi"]
        assert int(row["n"]) == pytest.approx(int(truth["n"]), rel=0.1), name
        assert float(row["mean"]) == pytest.approx(float(truth["mean"]), abs=0.003)
    laid = done.image("desc-freesurferaseg_dseg")
    truth = done.truth("desc-tissue_dseg")
    both = np.isin(truth, list(FREESURFER)) & (done.image("desc-qsm_mask") > 0)
    expected = np.vectorize(lambda tissue: FREESURFER.get(tissue, 0))(truth)
    assert np.mean(laid[both] == expected[both]) > 0.97


def test_reference_regions_are_there_and_say_where_they_come_from(done):
    table, _ = rows(done)
    brain = table["reference", "whole_brain", "chi"]
    assert int(brain["n"]) == np.count_nonzero(done.image("desc-qsm_mask"))
    assert int(brain["n_region"]) == np.count_nonzero(done.image("desc-brain_mask"))
    assert abs(float(brain["mean"])) < 1e-6
    capsule = table["reference", "internal_capsule", "chi"]
    assert (capsule["n"], capsule["mean"]) == ("0", "n/a")
    columns = json.loads((done.out / "sub-01" / "anat" / "sub-01_desc-roi_stats.json").read_text("utf-8"))
    assert list(columns) == list(rows(done)[1][0])
    assert "white_matter of mine-mine" in columns["name"]["Levels"]["white_matter"]
    assert "no segmentation has it" in columns["name"]["Levels"]["internal_capsule"]


def test_how_each_came_onto_the_grid_is_in_sidecars_and_record(done):
    anat = done.out / "sub-01" / "anat"
    origins = json.loads((anat / "sub-01_desc-roi_stats.json").read_text("utf-8"))["segmentation"]["Levels"]
    assert "already" in origins["mine-mine"]
    assert "scanner's coordinates" in origins["fine-echo-1-part-mag-MEGRE-synthseg"]
    assert "rigid registration of sub-01_acq-mprage_T1w.nii.gz" in origins["freesurfer-aseg"]
    sidecar = json.loads((anat / "sub-01_desc-freesurferaseg_dseg.json").read_text("utf-8"))
    assert "rigid registration" in sidecar["Description"]
    record = json.loads((done.out / "sub-01" / "figures" / "sub-01_record.json").read_text("utf-8"))
    steps = {(step["stage"], step["method"]): step for step in record["steps"]}
    assert "aseg.mgz" in steps["segmentation", "freesurfer-aseg"]["title"]
    turn = values(steps["t1w-registration", "rigid"])["turn"]
    assert turn == pytest.approx(4, abs=1)
    assert values(steps["regions", "statistics"])["regions_of_mine_mine"] > 10


def test_erosion_and_the_switches(done, bids, tmp_path, run_qsmprep):
    words = ("--pipeline", "fast", "--derivatives", f"mine={bids.parent / 'mine'}")
    work = tmp_path / "work"
    shutil.copytree(done.work, work)
    off = run_qsmprep(bids, tmp_path / "off", *words, "--no-roi", "--dry-run")
    assert "Regional values" not in off.stdout
    planned = run_qsmprep(bids, tmp_path / "off", *words, "--dry-run")
    assert "Regional values in mine-mine: sub-01_desc-mine_dseg.nii.gz" in planned.stdout
    missing = run_qsmprep(bids, tmp_path / "off", "--dry-run", "--derivatives", f"freesurfer={bids}")
    assert f"{bids}: no segmentation of sub-01" in missing.stderr
    if "ants" not in sys.modules:
        atlas = run_qsmprep(bids, tmp_path / "off", "--dry-run", "--atlas", "a.nii", "b.tsv", "c.nii")
        assert atlas.status == 2
        assert "pip install qsmprep[atlas]" in atlas.stderr
