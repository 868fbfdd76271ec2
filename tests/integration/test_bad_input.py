"""Bad input: one clear message that names the file and the remedy; other participants still run."""

import gzip
import json
import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.options import SimulationOptions


def images(anat: Path, part: str, echo: int = 2) -> Path:
    return next(anat.glob(f"*_echo-{echo}_part-{part}_MEGRE.nii.gz"))


def edit(anat: Path, change, pattern: str = "*.json") -> None:
    for path in anat.glob(pattern):
        document = json.loads(path.read_text("utf-8"))
        change(document)
        path.write_text(json.dumps(document), "utf-8")


def rewrite(path: Path, change) -> None:
    image = nib.load(path)
    data, affine = change(np.asarray(image.dataobj).copy(), image.affine.copy())
    nib.Nifti1Image(data, affine).to_filename(path)


def missing_echo(anat):
    for path in anat.glob("*_echo-2_*"):
        path.unlink()


def missing_phase_of_one_echo(anat):
    for path in anat.glob("*_echo-2_part-phase_*"):
        path.unlink()


def other_shape(anat):
    rewrite(images(anat, "phase"), lambda data, affine: (data[:-1], affine))


def other_affine(anat):
    rewrite(images(anat, "mag"), lambda data, affine: (data, affine @ np.diag([1, 1, 1.2, 1])))


def phase_only(anat):
    for path in anat.glob("*part-mag*"):
        path.unlink()


def magnitude_only(anat):
    for path in anat.glob("*part-phase*"):
        path.unlink()


def arbitrary_units(anat):
    for path in anat.glob("*part-phase*.nii.gz"):
        rewrite(path, lambda data, affine: ((data * 0.31 + 0.2).astype(np.float32), affine))
    edit(anat, lambda document: document.update(Units="arbitrary"), "*part-phase*.json")


def no_echo_time(anat):
    edit(anat, lambda document: document.pop("EchoTime"))


def milliseconds(anat):
    edit(anat, lambda document: document.update(EchoTime=document["EchoTime"] * 1000))


def same_echo_time(anat):
    edit(anat, lambda document: document.update(EchoTime=0.005))


def no_field_strength(anat):
    edit(anat, lambda document: [document.pop(key) for key in ("MagneticFieldStrength", "ImagingFrequency")])


def not_finite(anat):
    def spoil(data, affine):
        data = data.astype(np.float32)
        data[3, 4, 5:9], data[2, 2, 2] = np.nan, np.inf
        return data, affine

    rewrite(images(anat, "mag"), spoil)


def truncated(anat):
    path = images(anat, "phase")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def not_an_image(anat):
    images(anat, "mag").write_bytes(gzip.compress(b"nothing of the kind"))


BAD = {
    "noecho": (missing_echo, "echo"),
    "nophase": (missing_phase_of_one_echo, "phase"),
    "shape": (other_shape, "echo-2_part-phase"),
    "affine": (other_affine, "echo-2_part-mag"),
    "phaseonly": (phase_only, "magnitude"),
    "magonly": (magnitude_only, "phase"),
    "units": (arbitrary_units, "part-phase"),
    "note": (no_echo_time, "EchoTime"),
    "ms": (milliseconds, "millisecond"),
    "coils": (same_echo_time, "coil"),
    "nofield": (no_field_strength, "--field-strength"),
    "nan": (not_finite, "echo-2_part-mag"),
    "cut": (truncated, "echo-2_part-phase"),
    "text": (not_an_image, "echo-2_part-mag"),
}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, run_qsmprep, merge_subjects):
    folder = tmp_path_factory.mktemp("bad")
    source = simulate(folder / "source", SimulationOptions(voxel_size="5", echo_times="0.005,0.011,0.017"))
    bids = merge_subjects(folder / "bids", dict.fromkeys([*BAD, "good"], source))
    for label, (spoil, _) in BAD.items():
        spoil(bids / f"sub-{label}" / "anat")
    return run_qsmprep(bids, folder / "out", "--pipeline", "fast", "--separation", "none", "--skip-bids-validation")


def test_the_exit_status_is_1_and_the_good_participant_is_processed(outcome):
    assert outcome.status == 1
    assert (outcome.out / "sub-good" / "anat" / "sub-good_Chimap.nii.gz").is_file()
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize("label", BAD)
def test_each_bad_participant_gets_a_message_that_names_file_and_remedy(outcome, label):
    lines = [line for line in outcome.stderr.splitlines() if line.startswith("Error:") and f"sub-{label}" in line]
    assert lines, outcome.stderr
    assert any(BAD[label][1] in line for line in lines), lines
    assert not list((outcome.out / f"sub-{label}").rglob("*Chimap*"))


@pytest.mark.parametrize("label", BAD)
def test_each_bad_participant_gets_a_report_that_says_why(outcome, label):
    page = (outcome.out / f"sub-{label}.html").read_text("utf-8")
    assert BAD[label][1] in page
    assert "failed" in page


def usage_error(done, needle):
    assert done.status in (1, 2)
    assert needle in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_an_empty_dataset_is_refused(tmp_path, run_qsmprep):
    (tmp_path / "bids").mkdir()
    usage_error(run_qsmprep(tmp_path / "bids", tmp_path / "out"), "bids")


def test_a_dataset_that_does_not_exist_is_refused(tmp_path, run_qsmprep):
    usage_error(run_qsmprep(tmp_path / "nowhere", tmp_path / "out"), "no such folder")


def test_a_wrong_label_is_refused_with_those_there_are(small_head, tmp_path, run_qsmprep):
    usage_error(run_qsmprep(small_head, tmp_path / "out", "--participant-label", "07"), "01")


def test_a_label_that_leaves_its_folder_is_refused(small_head, tmp_path, run_qsmprep):
    usage_error(run_qsmprep(small_head, tmp_path / "out", "--participant-label", "../01"), "letters and digits")
    assert not (tmp_path / "out").exists()


def test_output_inside_the_input_is_refused(tmp_path, small_head, run_qsmprep):
    bids = tmp_path / "bids"
    shutil.copytree(small_head, bids)
    usage_error(run_qsmprep(bids, bids / "out", work=tmp_path / "work"), "inside the raw dataset")
    usage_error(run_qsmprep(bids, bids, work=tmp_path / "work"), "dataset itself")
    usage_error(run_qsmprep(bids, tmp_path / "out", work=bids / "work"), "--work-dir")


def test_an_unwritable_output_is_refused(small_head, tmp_path, run_qsmprep):
    blocked = tmp_path / "file"
    blocked.write_text("a file, where a folder should be", "utf-8")
    usage_error(run_qsmprep(small_head, blocked / "out"), "written")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_output_is_refused(small_head, tmp_path, run_qsmprep):
    (tmp_path / "locked").mkdir(mode=0o555)
    usage_error(run_qsmprep(small_head, tmp_path / "locked" / "out"), "written")


def test_a_mask_of_another_grid_is_refused(small_head, tmp_path, run_qsmprep):
    nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)).to_filename(tmp_path / "mask.nii.gz")
    done = run_qsmprep(small_head, tmp_path / "out", "--mask-file", str(tmp_path / "mask.nii.gz"))
    assert done.status == 1
    assert "mask.nii.gz" in done.stderr


def test_an_echo_that_does_not_exist_is_refused(small_head, tmp_path, run_qsmprep):
    done = run_qsmprep(small_head, tmp_path / "out", "--echoes", "1,9")
    assert done.status == 1
    assert "echo 9" in done.stderr
