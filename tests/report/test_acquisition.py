import numpy as np
import pytest

from qsmprep.report.acquisition import ITEMS, describe_acquisition, look_up, missing_essentials, unlisted

HERE = {"affine": np.eye(4), "shape": (10, 20, 30), "echo_times_s": (0.005, 0.010)}


def value(name, metadata=None, **changes):
    return describe_acquisition(metadata or {}, **{**HERE, **changes})[name]


def test_every_item_has_a_value_or_is_not_available():
    described = describe_acquisition({}, **HERE)
    assert set(described) == {item.name for item in ITEMS}
    for entry in described.values():
        assert (entry["value"] is None) == (entry["source"] == "not available")


def test_units_and_sources():
    assert value("Repetition time", {"RepetitionTime": 0.033}) == {"value": "33 ms", "source": "sidecar RepetitionTime"}
    assert value("Field strength", {"MagneticFieldStrength": 2.89})["value"] == "2.89 T"
    assert value("Voxel size")["source"] == "affine"


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ((0.02,), "1 echo, TE = 20 ms"),
        ((0.004, 0.008, 0.012), "3 echoes, TE1:ΔTE:TEmax = 4:4:12 ms"),
        ((0.004, 0.008, 0.013), "3 echoes, TE = 4, 8, 13 ms"),
    ],
)
def test_echo_times(times, words):
    assert value("Echoes", echo_times_s=times)["value"] == words


def test_orientation_is_told_from_the_affine():
    assert value("Orientation of the slab")["value"] == "pure axial, slab normal 0.0 degrees from B0"
    turn = np.radians(20)
    tilted = np.eye(4)
    tilted[1:3, 1:3] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    assert value("Orientation of the slab", affine=tilted)["value"] == "oblique axial, slab normal 20.0 degrees from B0"
    sagittal = np.zeros((4, 4))
    sagittal[[1, 2, 0, 3], [0, 1, 2, 3]] = [-1.2, 1.2, 2.0, 1]
    assert (
        value("Orientation of the slab", affine=sagittal)["value"] == "pure sagittal, slab normal 90.0 degrees from B0"
    )
    assert value("Voxel size", affine=sagittal)["value"] == "1.2 x 1.2 x 2 mm"


def test_flow_compensation_is_never_denied_by_silence():
    assert value("Flow compensation", {"ScanOptions": "PFP\\FC"})["value"] == "on"
    assert value("Flow compensation", {"ScanOptions": "PFP"})["value"] is None


def test_essential_items_that_are_missing_are_named():
    missing = missing_essentials(describe_acquisition({"MagneticFieldStrength": 3}, **HERE))
    assert "Field strength" not in missing and "Echoes" not in missing
    assert "Vendor" in missing and "Partial Fourier" not in missing


def test_items_are_found_by_sidecar_key_and_the_rest_is_kept():
    acquisition = {
        "magnetic_field_strength": {"value": 3, "source": "option"},
        "Shim": {"value": 1, "source": "sidecar"},
    }
    assert look_up(acquisition, ITEMS[0]) == {"value": 3, "source": "option"}
    assert list(unlisted(acquisition)) == ["Shim"]
    assert look_up({"Vendor": {"value": "not available", "source": "not available"}}, ITEMS[1])["value"] is None
