import json

import numpy as np
import pytest

from qsmprep.report.acquisition import (
    ITEMS,
    describe_acquisition,
    look_up,
    missing_essentials,
    unlisted,
)

HERE = {"affine": np.eye(4), "shape": (10, 20, 30), "echo_times_s": (0.005, 0.010)}


def entry(key, metadata=None, **changes):
    return describe_acquisition(metadata or {}, **{**HERE, **changes})[key]


def text(key, metadata=None, **changes):
    return entry(key, metadata, **changes)["text"]


def test_every_item_has_a_value_or_is_not_available():
    described = describe_acquisition({}, **HERE)
    assert set(described) == {item.key for item in ITEMS}
    for found in described.values():
        assert (found["value"] is None) == (found["source"] == "not available") == (not found["text"])


def test_units_and_sources():
    repetition = {"value": 33, "unit": "ms", "text": "33 ms", "source": "sidecar RepetitionTime"}
    assert entry("repetition_time", {"RepetitionTime": 0.033}) == repetition
    assert text("field_strength", {"MagneticFieldStrength": 2.89}) == "2.89 T"
    assert entry("voxel_size")["source"] == "affine"


def test_numbers_are_numbers():
    described = describe_acquisition({"PartialFourier": "0.75", "MagneticFieldStrength": "3T"}, **HERE)
    assert look_up(described, "field_strength").number == 3
    assert look_up(described, "voxel_size").numbers == (1, 1, 1)
    assert look_up(described, "echoes").numbers == (5, 10)
    assert look_up(described, "partial_fourier").number_of("PartialFourier") == 0.75
    assert look_up(described, "vendor").number is None
    json.dumps(describe_acquisition({"FlipAngle": float("nan"), "EchoTime": 1}, **HERE), allow_nan=False)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ((0.02,), "1 echo, TE = 20 ms"),
        ((0.004, 0.008, 0.012), "3 echoes, TE1:ΔTE:TEmax = 4:4:12 ms"),
        ((0.004, 0.008, 0.013), "3 echoes, TE = 4, 8, 13 ms"),
    ],
)
def test_echo_times(times, words):
    assert text("echoes", echo_times_s=times) == words
    assert entry("echoes", echo_times_s=times)["value"] == [1000 * time for time in times]


def test_orientation_is_told_from_the_affine():
    assert text("slab_orientation") == "pure axial, slab normal 0.0 degrees from B0"
    turn = np.radians(20)
    tilted = np.eye(4)
    tilted[1:3, 1:3] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    assert text("slab_orientation", affine=tilted) == "oblique axial, slab normal 20.0 degrees from B0"
    sagittal = np.zeros((4, 4))
    sagittal[[1, 2, 0, 3], [0, 1, 2, 3]] = [-1.2, 1.2, 2.0, 1]
    assert text("slab_orientation", affine=sagittal) == "pure sagittal, slab normal 90.0 degrees from B0"
    assert text("voxel_size", affine=sagittal) == "1.2 x 1.2 x 2 mm"


def test_flow_compensation_is_never_denied_by_silence():
    assert text("flow_compensation", {"ScanOptions": "PFP\\FC"}) == "on"
    assert entry("flow_compensation", {"ScanOptions": "PFP"})["value"] is None


def test_essential_items_that_are_missing_are_named():
    missing = missing_essentials(describe_acquisition({"MagneticFieldStrength": 3}, **HERE))
    assert "Field strength" not in missing and "Echoes" not in missing
    assert "Vendor" in missing and "Partial Fourier" not in missing


def test_items_are_found_by_their_key_and_the_rest_is_kept():
    acquisition = {
        "field_strength": {"value": 3, "source": "option"},
        "station": {"value": "MR1", "text": "MR1"},
        "shim": {"value": 1, "source": "sidecar"},
    }
    found = look_up(acquisition, "field_strength")
    assert (found.value, found.text, found.source) == (3, "3", "option")
    names = [(name, rest.text) for name, rest in unlisted(acquisition).values()]
    assert names == [("Station", "MR1"), ("shim", "1")]
    assert not look_up({"vendor": {"value": None, "source": "not available"}}, "vendor").available
