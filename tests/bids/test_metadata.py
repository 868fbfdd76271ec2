"""What the sidecars of a run say alike, and which keys of them are read."""

from __future__ import annotations

import json

import pytest

from qsmprep.bids.checks import check_run, check_spin_echo
from qsmprep.bids.metadata import KEYS, same
from qsmprep.bids.problem import errors
from qsmprep.bids.query import find_runs
from qsmprep.report import acquisition


def the_run(dataset):
    (run,) = find_runs(dataset.folder).runs
    return run


@pytest.mark.parametrize(
    ("key", "one", "other", "taken"),
    [
        ("Manufacturer", "GE", "GE MEDICAL SYSTEMS", "GE MEDICAL SYSTEMS"),
        ("Manufacturer", "SIEMENS", "Siemens Healthineers", "Siemens Healthineers"),
        ("Manufacturer", "Philips", "philips medical systems", "philips medical systems"),
        ("ImagingFrequency", 123.252, 123.253, 123.252),
        ("ImagingFrequency", 123.25, 123.252312, 123.252312),
        ("ImagingFrequency", 123, 123.252312, 123.252312),
        ("MagneticFieldStrength", 3, 2.89362, 2.89362),
        ("MRAcquisitionType", "3D", " 3d ", " 3d "),
        ("FlipAngle", 15, 15.2, 15.2),
    ],
)
def test_values_that_differ_in_spelling_or_rounding_are_one_and_the_more_precise_is_taken(
    dataset, key, one, other, taken
):
    for first, second in ((one, other), (other, one)):
        dataset.remove("sub-01")
        dataset.add_run()
        dataset.edit("part-mag", **{key: first})
        dataset.edit("part-phase", **{key: second})
        run = the_run(dataset)
        assert run.metadata[key] == taken or taken == one == first or taken == one == second
        assert run.problems == ()


def test_the_maker_and_the_frequency_reach_the_run_although_the_sidecars_spell_them_differently(dataset):
    dataset.add_run()
    dataset.edit("sub-01", Manufacturer="GE MEDICAL SYSTEMS", ImagingFrequency=123.252)
    dataset.edit("echo-2", Manufacturer="GE", ImagingFrequency=123.2523)
    run = the_run(dataset)
    assert (run.manufacturer, run.imaging_frequency_mhz) == ("GE MEDICAL SYSTEMS", 123.2523)


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("Manufacturer", "GE", "Siemens"),
        ("ImagingFrequency", 123.25, 127.73),
        ("ImagingFrequency", 123.252, 123.28),
        ("MagneticFieldStrength", 3, 1.5),
        ("MagneticFieldStrength", 3, 7),
        ("MagneticFieldStrength", 3, "3T"),
    ],
)
def test_what_decides_the_map_must_not_differ(dataset, key, one, other):
    dataset.add_run()
    dataset.edit("sub-01", **{key: one})
    dataset.edit("echo-2_part-phase", **{key: other})
    (problem,) = errors(check_run(the_run(dataset)))
    assert f"{key} is" in str(problem) and repr(one) in str(problem) and repr(other) in str(problem)
    assert "sub-01_echo-2_part-phase_MEGRE.nii.gz" in str(problem)


def test_other_keys_that_differ_are_one_warning_and_those_of_one_image_none(dataset):
    dataset.add_run()
    dataset.edit("echo-1", PartialFourier=0.75, FlipAngle=15, ImageType=["M"], SeriesNumber=3, ConversionSoftware="a")
    dataset.edit("echo-2", PartialFourier=1, FlipAngle=20, ImageType=["P"], SeriesNumber=4, ConversionSoftware="b")
    run = the_run(dataset)
    (problem,) = run.problems
    assert problem.severity == "warning"
    assert "PartialFourier is 0.75" in str(problem) and "FlipAngle is 15" in str(problem)
    assert "ImageType" not in str(problem) and "SeriesNumber" not in str(problem)
    assert not {"PartialFourier", "FlipAngle", "ImageType"} & run.metadata.keys()


def test_spin_echoes_must_agree_on_what_tells_their_slice_profile(dataset):
    dataset.add_run()
    dataset.add_run(suffix="MESE", parts=("",))
    for path in dataset.find("MESE"):  # of this suffix the names have an echo too
        path.unlink()
    for echo in (1, 2):
        name = f"sub-01/anat/sub-01_echo-{echo}_MESE"
        dataset.write_image(f"{name}.nii.gz", dataset.values("", (6, 7, 5)))
        dataset.write_json(f"{name}.json", {"EchoTime": 0.01 * echo, "MRAcquisitionType": f"{echo + 1}D"})
    (scan,) = find_runs(dataset.folder).spin_echoes
    (problem,) = errors(check_spin_echo(scan))
    assert "MRAcquisitionType is '2D' in sub-01_echo-1_MESE.nii.gz" in str(problem)


@pytest.mark.parametrize("nothing", [None, "", " ", "n/a"])
def test_a_value_that_says_nothing_contradicts_none(dataset, nothing):
    dataset.add_run()
    for path in dataset.find("echo-2", ".json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"Manufacturer": nothing}))
    run = the_run(dataset)
    assert run.manufacturer == "Siemens" and run.problems == ()


@pytest.mark.parametrize("value", [{}, [], True, "3T", float("nan"), 1e400])
def test_values_of_any_type_compare(value):
    assert same("FlipAngle", value, value)
    assert not same("FlipAngle", value, 17)


def test_every_key_of_the_acquisition_table_is_kept():
    items = {key for item in (*acquisition.ITEMS, *acquisition.FURTHER) for key in item.keys}
    together = {key for forms in acquisition.JOINED.values() for key in forms}
    assert items | together | {"ScanOptions"} <= KEYS
