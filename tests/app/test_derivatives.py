"""A derivative that was given and is of no use is refused, with what was looked for and what lies there."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from qsmprep.app.derivatives import check_derivatives
from qsmprep.app.request import Request
from qsmprep.bids.derivatives import derivative_candidates, find_derivative
from qsmprep.bids.scans import Echo, GreRun


@pytest.fixture
def run(tmp_path):
    image = tmp_path / "bids" / "sub-01" / "anat" / "sub-01_run-1_echo-1_part-mag_MEGRE.nii.gz"
    return GreRun("01", None, {"run": "1"}, (Echo(1, 0.005, image),), {}, 3, None, "")


@pytest.fixture
def request_with(tmp_path):
    """Maker of a request with one derivative that holds files of these names."""

    def make(*names, called="mine", **others):
        folder = tmp_path / "derivative"
        for name in names:
            path = folder / "sub-01" / "anat" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)).to_bytes())
        folder.mkdir(exist_ok=True)
        return Request(
            tmp_path / "bids", tmp_path / "out", tmp_path / "work", derivatives=((called, folder),), **others
        )

    return make


@pytest.mark.parametrize(
    "names",
    [
        ("sub-01_mask.nii.gz",),
        ("sub-01_run-2_desc-brain_mask.nii.gz",),
        ("sub-01_desc-brain_mask.nii.gz.bak",),
        ("sub-01_run-2_desc-brain_mask.nii.gz", "sub-01_dseg.nii.gz"),
        (),
    ],
)
def test_a_derivative_of_which_nothing_fits_is_refused_with_what_lies_there(run, request_with, names):
    with pytest.raises(ValueError) as refused:
        check_derivatives(run, request_with(*names))
    message = str(refused.value)
    assert "sub-01_desc-brain_mask.nii.gz" in message and "--mask-file" in message and "sub-01_run-1" in message
    for name in names:
        assert name in message or not name.endswith(".nii.gz")


@pytest.mark.parametrize(
    "names",
    [
        ("sub-01_desc-brain_mask.nii.gz",),
        ("sub-01_run-01_desc-brain_mask.nii.gz",),
        ("sub-01_dseg.nii.gz",),
        ("sub-01_dseg.nii.gz", "sub-01_space-MNI152_desc-brain_mask.nii.gz", "sub-01_label-GM_desc-ribbon_mask.nii.gz"),
        ("sub-01_desc-brain_mask.nii.gz", "sub-01_run-2_desc-brain_mask.nii.gz"),
    ],
)
def test_a_derivative_may_hold_masks_alone_or_segmentations_alone(run, request_with, names):
    check_derivatives(run, request_with(*names))


def test_one_named_after_a_program_for_segmentations_costs_regional_values_and_no_map(run, request_with):
    check_derivatives(run, request_with(called="freesurfer"))


def test_a_mask_for_another_run_is_no_matter_where_a_mask_was_given(run, request_with, tmp_path):
    names = ("sub-01_run-2_desc-brain_mask.nii.gz", "sub-01_dseg.nii.gz")
    check_derivatives(run, request_with(*names, mask_file=tmp_path / "mask.nii.gz"))


def test_numbers_of_names_compare_as_numbers(run, request_with):
    ((_, folder),) = request_with("sub-01_run-01_desc-brain_mask.nii.gz").derivatives
    assert find_derivative(folder, run, suffix="mask", desc="brain").name == "sub-01_run-01_desc-brain_mask.nii.gz"


def test_no_more_than_twenty_candidates_are_listed(run, request_with):
    ((_, folder),) = request_with(*(f"sub-01_acq-a{n}_mask.nii.gz" for n in range(25))).derivatives
    assert len(derivative_candidates(folder, run, "mask")) == 20
