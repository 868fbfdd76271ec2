"""The node that lays the package's template: what it writes, and what it withholds."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from documents import codes, values

from qsmprep.analysis.brain_template import NAMES, LaidTemplate
from qsmprep.interfaces import template
from qsmprep.interfaces.regions import MeasureRegions
from qsmprep.interfaces.template import OUTLINES, LayTemplate

SHAPE = (20, 24, 20)
AFFINE = np.diag([8.0, 8.0, 8.0, 1.0])
BRAIN = np.zeros(SHAPE, bool)
BRAIN[2:-2, 2:-2, 2:-2] = True


def write(path, array):
    image = nib.Nifti1Image(array.astype(np.uint8 if array.dtype == bool else np.float32), AFFINE)
    image.set_sform(AFFINE, 1)
    nib.save(image, path)
    return str(path)


@pytest.fixture
def lay(tmp_path, monkeypatch):
    """Run the node with a registration that ends as given."""
    random = np.random.default_rng(0)
    files = {name: write(tmp_path / f"{name}.nii", random.random(SHAPE)) for name in ("magnitude", "chi")}
    files["mask"] = write(tmp_path / "mask.nii", BRAIN)

    def run(result):
        def registration(*_, **__):
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setattr(template, "lay_brain_template", registration)
        outputs = LayTemplate(**files).run(cwd=str(tmp_path)).outputs
        return outputs, json.loads(Path(outputs.record).read_text("utf-8"))["record"], files

    return run


def laid(correlation, **of_regions):
    labels = np.zeros(SHAPE, np.uint8)
    for number in NAMES:
        labels[number % 16 + 2, 4 + number // 16 : 8, 5:9] = number
    each = {number: of_regions.get(name, 0.8) for number, name in NAMES.items()}
    return LaidTemplate(labels, correlation, each)


def labels_of(outputs):
    return set(np.unique(np.asarray(nib.load(outputs.labels).dataobj)).astype(int)) - {0}


def test_regions_that_fit_are_kept_and_others_named(lay):
    outputs, record, _ = lay(laid(0.8, left_red_nucleus=0.1, white_matter=0.1))
    assert labels_of(outputs) == {number for number, name in NAMES.items() if name != "left_red_nucleus"}
    (note,) = record["notes"]
    assert note["code"] == "template-regions-withheld"
    assert "left_red_nucleus" in note["text"]
    assert values(record)["correlation"] == 0.8
    assert values(record)["labels_on_grid"] == len(NAMES) - 1
    outlined = np.asarray(nib.load(outputs.midbrain_and_cerebellum).dataobj)
    assert outlined.any()


def test_a_poor_registration_gives_no_region_but_its_picture(lay):
    outputs, record, _ = lay(laid(0.2))
    assert not labels_of(outputs)
    assert codes(record) == ["template-correlation"]
    assert all(np.asarray(nib.load(getattr(outputs, group)).dataobj).any() for group in OUTLINES)


@pytest.mark.parametrize("error", [ValueError("no whole brain."), RuntimeError("inside ITK")])
def test_what_fails_costs_the_template_alone(lay, error):
    outputs, record, _ = lay(error)
    assert not labels_of(outputs)
    assert codes(record) == ["template-not-registered"]
    assert str(error) in record["warnings"][0]["text"]
    frame = np.asarray(nib.load(outputs.frame).dataobj) > 0
    assert (frame == BRAIN).all()


def test_the_table_tells_placement_errors_and_references_of_the_template_alone(lay, tmp_path):
    outputs, _, files = lay(laid(0.9))
    text = {str(number): name for number, name in NAMES.items()}
    step = MeasureRegions(
        chi=files["chi"], mask=files["mask"], brain_mask=files["mask"], segmentations=[outputs.labels],
        labels=["template"], region_names=[text], origins=["x"], registered="template",
    )  # fmt: skip
    (tmp_path / "m").mkdir()
    found = step.run(cwd=str(tmp_path / "m")).outputs
    lines = [line.split("\t") for line in Path(found.table).read_text("utf-8").splitlines()]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    assert all(float(row["placement_error"]) > 0 for row in rows if row["segmentation"] == "template")
    assert all(row["placement_error"] == "n/a" for row in rows if row["segmentation"] == "reference")
    reference = {row["name"]: int(row["n"]) for row in rows if row["segmentation"] == "reference"}
    assert reference["white_matter"] > 0
    assert reference["internal_capsule"] > 0
    assert reference["csf"] == 0  # fluid is found by its decay, or not at all
