"""The nodes of a template's space: what they write, with which headers and words, and what of a failed registration."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from documents import codes, values

from qsmprep.analysis.brain_registration import Deformation
from qsmprep.analysis.template_space import BY_MAPS, InTemplate
from qsmprep.interfaces import spaces
from qsmprep.interfaces.spaces import LayMaps, RegisterSpace, SaveInSpace, SaveSpaceTransforms

SHAPE = (30, 36, 30)
AFFINE = np.diag([-6.0, 6.0, 6.0, 1.0])  # stored from right to left
AFFINE[:3, 3] = 90, -110, -90
TEMPLATE_AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
TEMPLATE_AFFINE[:3, 3] = -96, -132, -78
SHIFT_MM = (6.0, -12.0, 0.0)  # from the template to the head
MARKED = (8, 20, 15)  # a voxel on the patient's right


def write(path: Path, array: np.ndarray, affine: np.ndarray) -> str:
    image = nib.Nifti1Image(array.astype(np.uint8 if array.dtype == bool else np.float32), affine)
    image.set_sform(affine, 1)
    nib.save(image, path)
    return str(path)


@pytest.fixture
def images(tmp_path) -> dict[str, str]:
    """Maps of a head with one bright place on its right, and its masks."""
    brain = np.zeros(SHAPE, bool)
    brain[3:-3, 3:-3, 3:-3] = True
    chi = np.where(brain, 0.01, 0)
    chi[MARKED] = 1.0
    paths = {"chi": write(tmp_path / "chi.nii", chi, AFFINE),
             "magnitude": write(tmp_path / "magnitude.nii", 100 * brain + 1.0, AFFINE)}  # fmt: skip
    for name in ("brain_mask", "qsm_mask"):
        paths[name] = write(tmp_path / f"{name}.nii", brain, AFFINE)
    return paths


def register(images, folder, monkeypatch, result):
    """Run the registration with a result or an error that is given."""
    template = write(folder / "tpl-X_res-01_T1w.nii", np.pad(np.ones((40, 50, 40)), 4), TEMPLATE_AFFINE)

    def registration(*_, **__):
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(spaces, "lay_in_template", registration)
    monkeypatch.setattr(spaces, "space_of_t1w", lambda *_, **__: spaces.own_space(spaces.load_brain_template()))
    monkeypatch.setattr(spaces, "FIELD_MM", 6.0)
    monkeypatch.chdir(folder)
    node = RegisterSpace(space="MNI152NLin2009cAsym", template=template, source="tpl-X_res-01_T1w.nii",
                         citations=["fonov2011"], magnitude=images["magnitude"], chi=images["chi"],
                         mask=images["brain_mask"])  # fmt: skip
    outputs = node.run().outputs
    return outputs, json.loads(Path(outputs.record).read_text())["record"], template


def moved(**facts) -> InTemplate:
    """A registration that moves by `SHIFT_MM`."""
    world = np.eye(4)
    world[:3, 3] = SHIFT_MM
    found = Deformation(np.zeros((3, 30, 40, 30), np.float32), TEMPLATE_AFFINE, world, 0.7)
    told = {"overlap": 0.96, "nuclei_correlation": 0.8, "smallest_jacobian": 0.5, **facts}
    return InTemplate(found, BY_MAPS, **told)


def test_maps_are_written_in_the_template_each_on_its_side(images, tmp_path, monkeypatch):
    registered, record, template = register(images, tmp_path, monkeypatch, moved())
    assert not record["warnings"]
    assert values(record)["overlap"] == pytest.approx(0.96)
    assert values(record)["inverse_error"] < 0.01
    keys = ["chi", "magnitude", "brain_mask"]
    (tmp_path / "laid").mkdir()
    monkeypatch.chdir(tmp_path / "laid")
    laid = LayMaps(space="MNI152NLin2009cAsym", resolution="2", template=template, transform=registered.transform,
                   keys=keys, **images).run().outputs  # fmt: skip
    out = tmp_path / "out"
    common = {"space": "MNI152NLin2009cAsym", "output_dir": str(out), "prefix": "sub-01", "software": {"qsmprep": "1"}}
    SaveInSpace(files=laid.files, keys=keys, resolution="2", reference="https://x", **common).run()
    SaveSpaceTransforms(transform=registered.transform, inverse=registered.inverse, **common).run()
    stem = out / "sub-01" / "anat" / "sub-01_space-MNI152NLin2009cAsym_res-2"
    image = nib.load(f"{stem}_Chimap.nii.gz")
    assert image.shape == (95, 115, 95)
    assert np.diag(image.affine) == pytest.approx([2, 2, 2, 1])
    assert [int(image.header[code]) for code in ("sform_code", "qform_code")] == [4, 4]
    brightest = np.unravel_index(image.get_fdata().argmax(), image.shape)
    wanted = AFFINE @ [*MARKED, 1] - [*SHIFT_MM, 0]
    assert wanted[0] > 0  # the right
    assert image.affine @ [*brightest, 1] == pytest.approx(wanted, abs=2)
    sidecar = json.loads(Path(f"{stem}_Chimap.json").read_text())
    assert sidecar["SpatialReference"] == "https://x"
    assert sidecar["Resolution"] == "Cubic voxels of 2 mm."
    assert sidecar["Sources"] == [
        "bids::sub-01/anat/sub-01_Chimap.nii.gz",
        "bids::sub-01/anat/sub-01_from-native_to-MNI152NLin2009cAsym_mode-image_xfm.nii.gz",
    ]
    assert [step["stage"] for step in sidecar["ProcessingSteps"]] == ["output-space"] * 2
    mask = nib.load(f"{stem}_desc-brain_mask.nii.gz")
    assert mask.get_data_dtype() == np.uint8
    assert set(np.unique(mask.get_fdata())) == {0, 1}
    transform = nib.load(out / "sub-01/anat/sub-01_from-native_to-MNI152NLin2009cAsym_mode-image_xfm.nii.gz")
    assert transform.shape[3:] == (1, 3)
    assert transform.header.get_intent()[0] == "vector"
    assert np.asarray(transform.dataobj)[5, 5, 5, 0] == pytest.approx(np.array(SHIFT_MM) * (-1, -1, 1))  # LPS
    inverse = nib.load(out / "sub-01/anat/sub-01_from-MNI152NLin2009cAsym_to-native_mode-image_xfm.nii.gz")
    assert np.asarray(inverse.dataobj)[5, 5, 5, 0] == pytest.approx(-np.array(SHIFT_MM) * (-1, -1, 1))


def test_voxels_of_the_scan_keep_their_volume(images, tmp_path, monkeypatch):
    registered, _, template = register(images, tmp_path, monkeypatch, moved())
    laid = LayMaps(space="X", template=template, transform=registered.transform, keys=["chi"], **images).run().outputs
    assert np.linalg.norm(nib.load(laid.files[0]).affine[:3, 0]) == pytest.approx(6)


def test_a_doubtful_registration_is_told(images, tmp_path, monkeypatch):
    found = moved(overlap=0.7, nuclei_correlation=0.1, smallest_jacobian=-0.2)
    registered, record, _ = register(images, tmp_path, monkeypatch, found)
    assert codes(record, "warnings") == ["space-registration-doubtful"]
    text = record["warnings"][0]["text"]
    assert all(words in text for words in ("only 0.70", "only 0.10", "folds", "maps are written"))
    assert Path(registered.transform).is_file()


def test_a_failed_registration_costs_the_template_alone(images, tmp_path, monkeypatch):
    _, record, template = register(images, tmp_path, monkeypatch, ValueError("It holds no whole brain."))
    assert codes(record, "warnings") == ["space-registration-failed"]
    assert "no whole brain" in record["warnings"][0]["text"]
    assert "failed" in record["title"]  # the methods text tells no other
    (tmp_path / "laid").mkdir()
    monkeypatch.chdir(tmp_path / "laid")
    laid = LayMaps(space="X", template=template, keys=["chi"], **images).run().outputs
    assert laid.files == []
    common = {"space": "X", "output_dir": str(tmp_path / "out"), "prefix": "sub-01", "software": {}}
    assert SaveInSpace(files=laid.files, keys=["chi"], reference="x", **common).run().outputs.out_files == []
    assert SaveSpaceTransforms(**common).run().outputs.out_files == []
    assert not (tmp_path / "out").exists()
