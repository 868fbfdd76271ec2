"""Nodes of regional values: an atlas by a stand-in for ANTs, a T1w image moved, regions that are always measured."""

import csv
import json
import sys
import types
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from documents import codes, values

from qsmprep.interfaces.regions import MeasureRegions, SaveRegions, SaveSegmentation
from qsmprep.interfaces.segmentation import LayAtlas, LaySegmentation, RegisterT1w

AFFINE = np.diag([-4.0, 4.0, 4.0, 1.0])
AFFINE[:3, 3] = 62, -62, -62
SHAPE = (32, 32, 32)
STEPS = np.stack(np.meshgrid(*[np.arange(32)] * 3, indexing="ij"), -1)


def ball(centre, radius):
    return ((STEPS - np.array(centre)) ** 2).sum(-1) <= radius**2


BRAIN = ball((16, 16, 16), 12)


def write(path, array, affine=AFFINE):
    image = nib.Nifti1Image(array.astype(np.uint8 if array.dtype == bool else np.float32), affine)
    image.set_sform(affine, 1)
    nib.save(image, path)
    return str(path)


def head(rng):
    labels = np.where(BRAIN, 1, 0)
    labels[BRAIN & ~ball((16, 16, 16), 9)] = 2
    labels[ball((13, 17, 17), 3)], labels[ball((19, 15, 15), 3)] = 3, 4
    labels[BRAIN & (STEPS[..., 1] > 20) & (STEPS[..., 2] < 12)] = 5
    return labels, (np.array([0, 60, 90, 30, 120, 75])[labels] + rng.normal(0, 2, SHAPE)) * BRAIN


def run(step, folder):
    return step.run(cwd=str(folder)).outputs


def record(outputs):
    return json.loads(Path(outputs.record).read_text("utf-8"))["record"]


class FakeImage:
    """A volume with its geometry, as ANTs holds it."""

    def __init__(self, data, origin, spacing, direction):
        self.data, self.origin, self.spacing, self.direction = data, origin, spacing, direction

    def numpy(self):
        return self.data


@pytest.fixture
def ants(monkeypatch):
    """A module in place of ANTs that moves nothing and writes down what it was asked."""
    module, asked = types.ModuleType("ants"), {}
    module.config = types.SimpleNamespace(set_ants_deterministic=lambda on, seed_value: asked.update(seed=seed_value))
    module.from_numpy = lambda data, origin, spacing, direction: FakeImage(data, origin, spacing, direction)

    def registration(*, fixed, moving, type_of_transform, outprefix):
        asked.update(fixed=fixed, moving=moving, kind=type_of_transform)
        return {"fwdtransforms": ["a"], "warpedmovout": moving}

    def apply_transforms(*, fixed, moving, transformlist, interpolator):
        asked.update(interpolator=interpolator, transforms=transformlist)
        return moving

    module.registration, module.apply_transforms = registration, apply_transforms
    monkeypatch.setitem(sys.modules, "ants", module)
    return asked


def test_an_atlas_goes_to_a_mixture_of_anatomy_and_susceptibility(ants, tmp_path):
    labels, image = head(np.random.default_rng(0))
    chi = np.where(labels == 4, 0.1, 0.0)
    inputs = {
        "in_file": write(tmp_path / "atlas.nii", labels),
        "template": write(tmp_path / "template.nii", image),
        "label": "atlas-x",
        "magnitude": write(tmp_path / "magnitude.nii", image + 7),
        "chi": write(tmp_path / "chi.nii", chi),
        "mask": write(tmp_path / "mask.nii", BRAIN),
    }
    outputs = run(LayAtlas(**inputs), tmp_path)
    fixed = ants["fixed"]
    top = np.percentile((image + 7)[BRAIN], 99)
    inside = labels == 4
    expected = np.clip((image + 7)[inside] / top, 0, 1.5) * 255 - 40
    assert fixed.data[inside] == pytest.approx(expected, rel=1e-4)
    assert not fixed.data[~BRAIN].any()
    assert (ants["kind"], ants["interpolator"], ants["transforms"], ants["seed"]) == (
        "SyN",
        "nearestNeighbor",
        ["a"],
        1,
    )
    # ITK's world runs to the left and back: first voxel at (-62, 62, -62), axes 4 mm, first axis towards the left.
    assert fixed.origin == [-62, 62, -62]
    assert fixed.spacing == [4, 4, 4]
    assert (fixed.direction == np.diag([1, -1, 1])).all()
    assert (np.asarray(nib.load(outputs.labels).dataobj) == labels).all()
    assert "magnitude and susceptibility" in outputs.origin
    assert record(outputs)["citations"] == ["avants2008"]
    t1w = write(tmp_path / "t1w.nii", image)
    assert "T1w image and susceptibility" in run(LayAtlas(**inputs, t1w=t1w), tmp_path).origin


def moved(degrees, shift):
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.eye(4)
    matrix[:3, :3] = [[1, 0, 0], [0, c, -s], [0, s, c]]
    matrix[:3, 3] = shift
    return matrix


def test_labels_of_a_t1w_image_follow_the_head_that_moved(tmp_path):
    labels, magnitude = head(np.random.default_rng(1))
    t1w = (np.array([0, 110, 70, 20, 90, 110])[labels]) * BRAIN
    motion = moved(5, (3.0, -4.0, 2.0))
    files = {
        "t1w": write(tmp_path / "t1w.nii", t1w, motion @ AFFINE),
        "magnitude": write(tmp_path / "magnitude.nii", magnitude),
    }
    for name in ("r", "s", "t"):
        (tmp_path / name).mkdir()
    found = run(RegisterT1w(**files, mask=write(tmp_path / "mask.nii", BRAIN)), tmp_path / "r")
    assert values(record(found))["turn"] == pytest.approx(5, abs=1)
    given = write(tmp_path / "aseg.nii", labels, motion @ AFFINE)
    lay = {"in_file": given, "label": "fs-aseg", "magnitude": files["magnitude"]}
    laid = run(LaySegmentation(**lay, placement="t1w", transform=found.transform), tmp_path / "s")
    followed = np.asarray(nib.load(laid.labels).dataobj)
    assert "rigid registration of t1w.nii to the magnitude" in laid.origin
    left = np.asarray(nib.load(run(LaySegmentation(**lay, placement="scanner"), tmp_path / "t").labels).dataobj)
    agree = {name: np.mean(image[BRAIN] == labels[BRAIN]) for name, image in (("t1w", followed), ("scanner", left))}
    assert agree["t1w"] > 0.95
    assert agree["scanner"] < 0.9


def test_as_asked_the_scanners_coordinates_are_taken(tmp_path):
    _, magnitude = head(np.random.default_rng(2))
    image = write(tmp_path / "m.nii", magnitude)
    found = run(RegisterT1w(t1w=image, magnitude=image, mask=write(tmp_path / "b.nii", BRAIN), rigid=False), tmp_path)
    assert json.loads(Path(found.transform).read_text("utf-8")) == np.eye(4).tolist()
    assert record(found)["method"] == "scanner"


def test_a_t1w_image_that_cannot_be_registered_costs_a_warning_not_the_table(tmp_path):
    labels, magnitude = head(np.random.default_rng(6))
    files = {"magnitude": write(tmp_path / "m.nii", magnitude), "t1w": write(tmp_path / "t.nii", np.zeros(SHAPE))}
    found = run(RegisterT1w(**files, mask=write(tmp_path / "b.nii", BRAIN)), tmp_path)
    (warning,) = record(found)["warnings"]
    assert warning["code"] == "t1w-not-registered" and "no contrast" in warning["text"]
    (tmp_path / "s").mkdir()
    step = LaySegmentation(in_file=write(tmp_path / "l.nii", labels), label="x", placement="t1w",
                           magnitude=files["magnitude"], transform=found.transform)  # fmt: skip
    assert "could not be registered" in run(step, tmp_path / "s").origin


def test_a_segmentation_beside_the_head_is_a_warning(tmp_path):
    labels, magnitude = head(np.random.default_rng(3))
    far = moved(0, (500, 0, 0)) @ AFFINE
    step = LaySegmentation(in_file=write(tmp_path / "l.nii", labels, far), label="x", placement="scanner",
                           magnitude=write(tmp_path / "m.nii", magnitude))  # fmt: skip
    assert codes(record(run(step, tmp_path))) == ["segmentation-beside-images"]


def measured(tmp_path, **inputs):
    labels, _ = head(np.random.default_rng(4))
    chi = np.random.default_rng(5).normal(0, 0.05, SHAPE)
    mask = ball((16, 16, 16), 10)
    rate = np.where(labels == 3, 1.0, 20.0)
    step = MeasureRegions(
        chi=write(tmp_path / "chi.nii", chi * mask), mask=write(tmp_path / "mask4.nii", mask),
        brain_mask=write(tmp_path / "mask1.nii", BRAIN), r2star=write(tmp_path / "r2star.nii", rate * BRAIN), **inputs,
    )  # fmt: skip
    found = run(step, tmp_path)
    rows = list(csv.DictReader(Path(found.table).read_text("utf-8").splitlines(), delimiter="\t"))
    return found, {(row["segmentation"], row["name"], row["map"]): row for row in rows}, labels, mask


def test_without_a_segmentation_the_brain_and_its_ventricles_are_measured(tmp_path):
    found, rows, labels, mask = measured(tmp_path)
    brain, csf = rows["reference", "whole_brain", "chi"], rows["reference", "csf", "r2star"]
    assert (int(brain["n"]), int(brain["n_region"])) == (mask.sum(), BRAIN.sum())
    assert float(csf["median"]) == 1
    assert 0 < int(csf["n"]) <= (labels == 3).sum()
    for name in ("white_matter", "internal_capsule"):
        row = rows["reference", name, "chi"]
        assert (row["n"], row["n_region"], row["mean"], row["excluded_share"]) == ("0", "0", "n/a", "n/a")
    document = json.loads(Path(found.columns).read_text("utf-8"))
    assert "n is 0" in document["name"]["Levels"]["white_matter"]
    assert "R2* below 5" in document["name"]["Levels"]["csf"]
    assert {key for _, _, key in rows} == {"chi", "r2star"}


def test_sources_are_measured_where_they_are_valid(tmp_path):
    sources = ball((16, 16, 16), 8)
    para = write(tmp_path / "para.nii", np.where(sources, 0.03, 0.0))
    _, rows, _, mask = measured(tmp_path, para=para, dia=para, sources_mask=write(tmp_path / "s.nii", sources))
    row = rows["reference", "whole_brain", "chi_para"]
    assert int(row["n"]) == (sources & mask).sum()
    assert float(row["mean"]) == pytest.approx(np.float32(0.03), rel=1e-9)


def test_reference_regions_come_from_the_segmentation_and_are_eroded_with_it(tmp_path):
    labels, _ = head(np.random.default_rng(4))
    inputs = {
        "segmentations": [write(tmp_path / "l.nii", labels)],
        "labels": ["seg"],
        "region_names": [{"1": "White matter", "2": "grey", "3": "Lateral-Ventricle", "9": "nowhere"}],
        "origins": ["l.nii, on the grid"],
    }
    found, rows, labels, mask = measured(tmp_path, **inputs)
    assert int(rows["reference", "csf", "chi"]["n"]) == ((labels == 3) & mask).sum()
    assert int(rows["reference", "white_matter", "chi"]["n_region"]) == (labels == 1).sum()
    assert rows["seg", "nowhere", "chi"]["n_region"] == "0"
    assert any("nowhere" in note["text"] for note in record(found)["notes"])
    _, eroded, _, _ = measured(tmp_path, **inputs, options={"erosion": 1})
    assert 0 < int(eroded["reference", "csf", "chi"]["n"]) < int(rows["reference", "csf", "chi"]["n"])
    assert eroded["reference", "whole_brain", "chi"] == rows["reference", "whole_brain", "chi"]


def test_what_is_written_bears_bids_names(tmp_path):
    found, *_ = measured(tmp_path)
    save = SaveRegions(table=found.table, columns=found.columns, output_dir=str(tmp_path / "out"), prefix="sub-1_ses-2")
    path = tmp_path / "out" / "sub-1" / "ses-2" / "anat" / "sub-1_ses-2_desc-roi_stats.tsv"
    assert run(save, tmp_path).out_file == str(path)
    assert path.with_suffix(".json").is_file()
    labels = write(tmp_path / "l.nii", np.where(BRAIN, 70000, 0))
    step = SaveSegmentation(labels=labels, origin="x.mgz, moved", label="fs-a.b+c", region_names={"70000": "all"},
                            reference="sub-1/a.nii", output_dir=str(tmp_path / "out"), prefix="sub-1")  # fmt: skip
    image = tmp_path / "out" / "sub-1" / "anat" / "sub-1_desc-fsabc_dseg.nii.gz"
    assert run(step, tmp_path).out_file == str(image)
    assert nib.load(image).get_data_dtype() == np.int32
    assert image.with_name("sub-1_desc-fsabc_dseg.tsv").read_text() == "index\tname\n70000\tall\n"
