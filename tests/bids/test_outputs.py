"""Names, sidecars and files of the derivatives."""

import json
import os

import nibabel as nib
import numpy as np
import pytest
from documents import facts

from qsmprep.bids import outputs


def test_names_follow_the_table():
    prefix = outputs.run_prefix("01", "2", {"acq": "hires", "run": "1"})
    assert prefix == "sub-01_ses-2_acq-hires_run-1"
    path = outputs.output_path("local_field", prefix).as_posix()
    assert path == "sub-01/ses-2/fmap/sub-01_ses-2_acq-hires_run-1_desc-local_fieldmap.nii.gz"
    assert outputs.output_path("chi", "sub-01").as_posix() == "sub-01/anat/sub-01_Chimap.nii.gz"
    assert outputs.output_path("chi", "sub-01", desc="l1-qsm").name == "sub-01_desc-l1qsm_Chimap.nii.gz"


def test_entities_that_a_fieldmap_must_not_have_still_tell_inputs_apart():
    plain = outputs.run_prefix("01", None, {"acq": "x"})
    norm = outputs.run_prefix("01", None, {"acq": "x", "rec": "norm"})
    assert plain != norm
    assert "rec-" not in norm


def test_sidecar_names_direct_parents_that_exist_and_every_parameter():
    steps = [
        {"stage": "inversion", "method": "fansi", "title": "FANSI", "parameters": [{"name": "alpha1", "value": 5e-4}]},
        {
            "stage": "reference",
            "facts": facts(region="csf", mean_before=0.03, mean_in_whole_brain_map=0.01, sd=0.05),
        },
    ]
    document = outputs.sidecar(
        "chi", "sub-01", raw_sources=("sub-01/anat/x.nii.gz",), steps=steps,
        available=frozenset({"local_field", "magnitude"}), software={"qsmprep": "1"},
    )  # fmt: skip
    assert document["Sources"] == [
        "bids::sub-01/fmap/sub-01_desc-local_fieldmap.nii.gz",
        "bids::sub-01/fmap/sub-01_magnitude.nii.gz",
    ]
    assert document["Units"] == "ppm"
    assert document["SkullStripped"] is True
    assert document["ReferenceRegionMeanBeforeReferencing"] == 0.03
    assert document["ReferenceRegionMean"] == 0.01
    assert document["ReferenceRegionStandardDeviation"] == 0.05
    assert document["ProcessingSteps"][0]["parameters"][0]["name"] == "alpha1"
    mask = outputs.sidecar("brain_mask", "sub-01", raw_sources=(), steps=[], available=frozenset(), software={})
    assert mask["Type"] == "Brain"
    assert "SkullStripped" not in mask


def test_images_are_written_whole_and_reproducibly(tmp_path):
    array, affine = np.random.default_rng(0).random((5, 6, 7)), np.diag([1, 2, 3, 1.0])
    first, second = tmp_path / "a" / "x.nii.gz", tmp_path / "y.nii.gz"
    outputs.write_image(first, array, affine)
    outputs.write_image(second, array, affine)
    assert first.read_bytes() == second.read_bytes()
    back = nib.load(first)
    assert back.get_data_dtype() == np.float32
    assert np.allclose(back.affine, affine)
    assert np.allclose(back.get_fdata(), array, atol=1e-6)


def test_an_error_while_writing_leaves_nothing_behind(tmp_path):
    target = tmp_path / "map.json"
    target.write_text("old", "utf-8")
    with pytest.raises(ValueError, match="JSON"):
        outputs.write_json(target, {"value": float("nan")})
    with pytest.raises(RuntimeError), outputs.whole_file(target) as stream:
        stream.write(b"half")
        raise RuntimeError
    assert target.read_text("utf-8") == "old"
    assert os.listdir(tmp_path) == ["map.json"]


def test_dataset_description_is_a_derivative_with_a_link_to_the_raw_data(tmp_path):
    document = outputs.dataset_description("1.0", raw=tmp_path / "raw", container=None)
    assert document["DatasetType"] == "derivative"
    assert "raw" in document["DatasetLinks"]
    assert isinstance(document["SourceDatasets"][0], dict)
    json.dumps(document)
