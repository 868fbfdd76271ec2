"""The node of referencing: the common reference regions in the whole-brain-referenced map, and what is missing."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from documents import codes, values

from qsmprep.interfaces.reference import Reference

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
STEPS = np.stack(np.meshgrid(*[np.arange(32)] * 3, indexing="ij"), -1)


def ball(centre, radius):
    return ((STEPS - np.array(centre)) ** 2).sum(-1) <= radius**2


BRAIN = ball((16, 16, 16), 12)
LABELS = np.where(BRAIN, 1, 0)
LABELS[ball((16, 16, 16), 4)] = 3
LABELS[ball((8, 16, 16), 2)] = 5
CHI = np.array([0, -0.02, 0, 0.05, 0, -0.06])[LABELS] + np.random.default_rng(0).normal(0, 0.01, LABELS.shape)
NAMES = {"1": "White matter", "3": "Lateral-Ventricle", "5": "internal capsule"}


def write(path, array):
    image = nib.Nifti1Image(array.astype(np.uint8 if array.dtype == bool else np.float32), AFFINE)
    nib.save(image, path)
    return str(path)


def referenced(tmp_path, *, rate=None, laid=False, **inputs):
    """Record and map of a run of the node."""
    step = Reference(
        chi=write(tmp_path / "in.nii", (CHI + 0.3) * BRAIN), mask=write(tmp_path / "m.nii", BRAIN), **inputs
    )
    if rate is not None:
        step.inputs.r2star = write(tmp_path / "r.nii", rate * BRAIN)
    if laid:
        labels = write(tmp_path / "l.nii", LABELS)
        step.inputs.trait_set(segmentations=[labels], labels=["seg"], region_names=[NAMES])
    found = step.run(cwd=str(tmp_path)).outputs
    return json.loads(Path(found.record).read_text("utf-8"))["record"], nib.load(found.chi).get_fdata()


def expected(region):
    return CHI[region].mean() - CHI[BRAIN].mean(), CHI[region].std(), np.count_nonzero(region)


def numbers(record, key):
    told = values(record)
    return tuple(told[f"reference_{key}_{name}"] for name in ("mean", "sd", "voxels"))


RATE = np.where(LABELS == 3, 1.0, 20.0)


def test_without_a_segmentation_brain_and_ventricles_are_measured_and_the_rest_is_said_to_be_missing(tmp_path):
    record, chi = referenced(tmp_path, rate=RATE)
    assert numbers(record, "whole_brain") == pytest.approx(expected(BRAIN), abs=1e-5)
    assert numbers(record, "csf")[0] == pytest.approx(expected(np.isin(LABELS, 3))[0], abs=0.01)
    assert values(record)["references_missing"] == ["white matter", "internal capsule"]
    (note,) = [note for note in record["notes"] if note["code"] == "references-missing"]
    assert "white matter, internal capsule" in note["text"] and "--segmentation-file" in note["text"]
    assert values(record)["mean_before"] == pytest.approx(CHI[BRAIN].mean() + 0.3, abs=1e-4)
    assert chi[BRAIN].mean() == pytest.approx(0, abs=1e-6)


def test_a_segmentation_gives_the_other_regions(tmp_path):
    record, _ = referenced(tmp_path, laid=True)
    for key, label in (("csf", 3), ("white_matter", 1), ("internal_capsule", 5)):
        assert numbers(record, key) == pytest.approx(expected(np.isin(LABELS, label)), abs=1e-5)
    assert values(record)["references_missing"] == []


def test_a_reference_beside_the_whole_brain_is_subtracted_and_told_in_the_whole_brain_referenced_map(tmp_path):
    record, chi = referenced(tmp_path, rate=RATE, options={"region": "csf,whole-brain"})
    told = values(record)
    assert record["method"] == "csf"
    assert told["mean_in_whole_brain_map"] == told["reference_csf_mean"]
    assert told["mean_before"] == pytest.approx(told["reference_csf_mean"] + CHI[BRAIN].mean() + 0.3, abs=1e-4)
    assert chi[BRAIN].mean() == pytest.approx(-told["reference_csf_mean"], abs=1e-5)


def test_a_label_is_a_reference_of_its_own_name_even_where_it_is_a_common_one(tmp_path):
    for name, key in (("Left-Thalamus", "left_thalamus"), ("CSF", "segmentation_csf")):
        given = {"segmentation": write(tmp_path / "given.nii", LABELS), "index": 5, "region_name": name}
        record, _ = referenced(tmp_path, rate=RATE, options={"region": "whole-brain,segmentation"}, **given)
        assert numbers(record, key) == pytest.approx(expected(np.isin(LABELS, 5)), abs=1e-5)
        assert record["method"] == "whole-brain"


def test_a_further_reference_that_is_not_found_is_a_warning_and_the_first_one_a_refusal(tmp_path):
    record, chi = referenced(tmp_path, rate=RATE + 30, options={"region": "whole-brain,csf"})
    assert "reference-not-found" in codes(record)
    assert "cerebrospinal fluid" in values(record)["references_missing"]
    assert chi[BRAIN].mean() == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="fewer than the 100"):
        referenced(tmp_path, rate=RATE + 30, options={"region": "csf,whole-brain"})


def test_a_joint_map_is_measured_in_the_whole_brain_alone(tmp_path):
    record, _ = referenced(tmp_path, joint=True)
    assert "reference_whole_brain_sd" in values(record) and "references_missing" not in values(record)
