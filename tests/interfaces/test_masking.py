"""What the nodes of the masks say of a mask."""

import json
from pathlib import Path

import numpy as np
import pytest
from documents import codes as codes_of
from documents import values

from qsmprep.bids.grid import Grid
from qsmprep.interfaces.images import read_mask, write_volume
from qsmprep.interfaces.masking import ExtractBrain, add_volume
from qsmprep.interfaces.step import Record

GRID = Grid((60, 70, 80), np.diag([3.0, 3.0, 3.0, 1.0]))


def codes(mask):
    record = Record("mask", "bet", "BET")
    add_volume(record, mask, GRID, "brain")
    return {warning.code for warning in record.warnings}


def test_a_mask_that_holds_the_neck_is_warned_of():
    x, y, z = np.indices(GRID.shape) - np.array([30, 35, 50]).reshape(3, 1, 1, 1)
    brain = (x / 22) ** 2 + (y / 27) ** 2 + (z / 21) ** 2 < 1
    neck = (x**2 + y**2 < 12**2) & (z < 0) & (z > -40)
    assert not codes(brain)
    assert codes(brain | neck) == {"brain-shape"}


def warnings_of(mask, grid):
    record = Record("mask", "bet", "BET")
    add_volume(record, mask, grid, "brain")
    return {warning.code: str(warning) for warning in record.warnings}


def test_a_slab_is_told_from_a_brain_that_is_small_or_whole():
    x, y, z = np.indices(GRID.shape) - np.array([30, 35, 40]).reshape(3, 1, 1, 1)
    brain = (x / 22) ** 2 + (y / 27) ** 2 + (z / 21) ** 2 < 1
    told = warnings_of(brain[:, :, 30:50], Grid((60, 70, 20), GRID.affine))
    assert set(told) == {"brain-cut"}
    assert "(bottom, top), of which it holds 60 mm" in told["brain-cut"]
    flipped = Grid((60, 70, 50), np.diag([3.0, 3.0, -3.0, 1.0]))
    assert "(top)" in warnings_of(brain[:, :, 30:], flipped)["brain-cut"]
    tiny = Grid(GRID.shape, np.diag([0.25, 0.25, 0.25, 1.0]))
    told = warnings_of(brain, tiny)
    assert set(told) == {"small-brain"}
    assert "--mask-file" in told["small-brain"]


@pytest.mark.parametrize(
    ("answers", "method", "warned"),
    [
        ([["it leaks"], [], []], "net", {"mask-by-network"}),
        ([["it leaks"], ["it leaks too"], ["it leaks"]], "robust", {"brain-shape"}),
        ([[], []], "robust", set()),
    ],
)
def test_a_network_comes_in_where_a_mask_has_not_the_shape_of_a_brain(
    tiny_weights, tmp_path, monkeypatch, answers, method, warned
):
    x, y, z = np.indices(GRID.shape) - np.array([30, 35, 40]).reshape(3, 1, 1, 1)
    head = ((x / 22) ** 2 + (y / 27) ** 2 + (z / 21) ** 2 < 1).astype(np.float32)
    image = write_volume(tmp_path / "image.nii", head, GRID)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("qsmprep.interfaces.masking.doubts", lambda *facts: answers.pop(0))
    node = ExtractBrain(method="robust", image=image, second_network=str(tiny_weights / "masknet.safetensors"))
    found = node.run().outputs
    record = json.loads(Path(found.record).read_text("utf-8"))["record"]
    assert record["method"] == method
    assert set(codes_of(record)) & {"mask-by-network", "brain-shape"} == warned
    noted = {note["code"] for note in record["notes"]}
    assert ("mask-network-doubted" in noted) == ("brain-shape" in warned)
    assert read_mask(found.mask).any()
    assert not answers


def test_the_node_of_a_mask_network_tells_of_it_and_warns_of_no_values(tiny_weights, tmp_path, monkeypatch):
    x, y, z = np.indices(GRID.shape) - np.array([30, 35, 40]).reshape(3, 1, 1, 1)
    head = ((x / 22) ** 2 + (y / 27) ** 2 + (z / 21) ** 2 < 1).astype(np.float32)
    image = write_volume(tmp_path / "image.nii", head, GRID)
    monkeypatch.chdir(tmp_path)
    node = ExtractBrain(method="net", image=image, network=str(tiny_weights / "masknet.safetensors"))
    found = node.run().outputs
    record = json.loads(Path(found.record).read_text("utf-8"))["record"]
    assert read_mask(found.mask).any()
    assert values(record)["network"] == "masknet"
    assert "mask-network" in {note["code"] for note in record["notes"]}
    assert "network" not in codes_of(record)
