"""Real scans through the command line."""

import json
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qsmprep.unwrap.jumps import residual_jumps


@pytest.fixture(scope="module")
def invivo(real_data, tmp_path_factory, run_qsmprep):
    bids = real_data / "invivo-siemens"
    if not bids.is_dir():
        pytest.skip(f"{bids} does not exist")
    return run_qsmprep(bids, tmp_path_factory.mktemp("invivo") / "out")


def volume(done, name, folder="anat"):
    path = done.out / "sub-01" / folder / f"sub-01_acq-epi_{name}.nii.gz"
    return np.asarray(nib.load(path).dataobj)


def test_it_runs_with_one_command(invivo):
    assert invivo.status == 0, invivo.stderr
    assert "partial Fourier" in invivo.stderr


def test_the_brain_mask_agrees_with_the_reference(invivo, real_data):
    mask = volume(invivo, "desc-brain_mask") > 0
    reference = nib.load(real_data / "invivo-siemens-reference" / "sub-01_desc-bet_mask.nii.gz").get_fdata() > 0
    assert 2 * (mask & reference).sum() / (mask.sum() + reference.sum()) >= 0.93


def test_hardly_a_phase_wrap_is_left(invivo):
    """The field aliases at +-25.5 Hz. What is counted is next to air, where the field may truly bend that much."""
    mask, field = volume(invivo, "desc-qsm_mask"), volume(invivo, "desc-total_fieldmap", "fmap")
    jumps, pairs = residual_jumps(field, mask, period_hz=1 / 0.01958)
    assert jumps < 2e-4 * pairs


def test_deep_grey_matter_is_paramagnetic(invivo):
    """The brightest deep voxels of a head are iron-rich: the sign test of the report must pass."""
    assert "as expected of iron" in (invivo.out / "sub-01.html").read_text("utf-8")


def test_phase_of_a_misleading_slope_unwraps(real_data, tmp_path, run_qsmprep):
    folder = real_data / "gre-patch"
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist")
    anat = tmp_path / "bids" / "sub-01" / "anat"
    anat.mkdir(parents=True)
    (tmp_path / "bids" / "dataset_description.json").write_text('{"Name": "patch", "BIDSVersion": "1.10.0"}', "utf-8")
    for part, source in (("mag", "Mag.nii"), ("phase", "Phase.nii")):
        image = nib.load(folder / source)
        for echo, time in enumerate((0.004, 0.008, 0.012), start=1):
            stem = anat / f"sub-01_echo-{echo}_part-{part}_MEGRE"
            stored = nib.Nifti1Image(image.dataobj.get_unscaled()[..., echo - 1], image.affine).to_bytes()
            slope = struct.pack("<2f", image.dataobj.slope, image.dataobj.inter)
            Path(f"{stem}.nii").write_bytes(stored[:112] + slope + stored[120:])  # scl_slope and scl_inter
            document = {"EchoTime": time, "MagneticFieldStrength": 7, "MRAcquisitionType": "3D"}
            document |= {"Units": "arbitrary"} if part == "phase" else {}
            stem.with_suffix(".json").write_text(json.dumps(document), "utf-8")
    done = run_qsmprep(
        tmp_path / "bids",
        tmp_path / "out",
        "--pipeline",
        "fast",
        "--mask",
        "robust",
        "--v-sharp-max-radius",
        "4",
        "--mcpc-3d-s-sigma-mm",
        "1.4",
        "--skip-bids-validation",
    )
    assert done.status == 0, done.stderr
    field, mask = done.image("desc-total_fieldmap", "fmap"), done.image("desc-bfr_mask") > 0
    for axis in range(3):
        both = np.take(mask, range(1, mask.shape[axis]), axis) & np.take(mask, range(mask.shape[axis] - 1), axis)
        steps = np.abs(np.diff(field, axis=axis))[both]
        assert (steps > 0.5 / 0.004).mean() < 1e-4  # a wrap left at the first echo is a step of 250 Hz
