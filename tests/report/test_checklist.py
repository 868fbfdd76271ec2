"""The consensus checklist: nothing is met without a value that was found."""

import pytest
from documents import facts, warning

from qsmprep.report.checklist import CANNOT_KNOW, MET, NOT_MET, RECOMMENDATIONS, SECTIONS, checklist, counted
from qsmprep.report.record import parse_run


def status(record, name, **more):
    return next(item.status for item in checklist(parse_run(record), **more) if item.id == name)


def test_nothing_known_means_nothing_met():
    items = checklist(parse_run({"run": "sub-01"}))
    assert counted(items) == {MET: 0, NOT_MET: 0, CANNOT_KNOW: len(RECOMMENDATIONS)}


def test_every_section_of_the_paper_has_recommendations_in_order(record):
    items = checklist(parse_run(record))
    assert list(dict.fromkeys(item.section for item in items)) == list(SECTIONS.values())
    assert [item.id for item in items] == sorted(item.id for item in items)
    assert items[0].id == "2.a" and len({item.id for item in items}) == len(items)
    assert all(item.value != "nothing tells" for item in items if item.status != CANNOT_KNOW)


def test_values_decide(record):
    assert status(record, "2.a") == MET
    assert status(record, "2.c") == MET
    assert status(record, "2.f") == NOT_MET, "slices of 1.2 mm"
    assert status(record, "2.i") == CANNOT_KNOW, "no sidecar tells of partial Fourier"
    assert status(record, "8.c") == NOT_MET
    assert status(record, "8.c", regions=4) == MET


@pytest.mark.parametrize(
    ("item", "value", "name", "expected"),
    [
        ("readout_polarity", "monopolar", "2.b", MET),
        ("readout_polarity", "Bipolar", "2.b", NOT_MET),
        ("readout_polarity", "bottom-up", "2.b", CANNOT_KNOW),
        ("sequence_type", {"MRAcquisitionType": "2D", "ScanningSequence": "GR"}, "2.a", NOT_MET),
        ("sequence_type", {"ScanningSequence": "GR"}, "2.a", CANNOT_KNOW),
        ("echoes", [4, 12], "2.c", NOT_MET),
        ("echoes", [25], "2.d", NOT_MET),
        ("partial_fourier", {"PartialFourier": 0.75}, "2.i", NOT_MET),
        ("partial_fourier", {"PartialFourier": 1}, "2.i", MET),
        ("voxel_size", [0.8, 0.8, 0.8], "2.f", MET),
        ("field_of_view", [220, 200, 60], "2.g", NOT_MET),
    ],
)
def test_acquisition_items_are_read(record, item, value, name, expected):
    record["acquisition"][item] = {"value": value, "source": "sidecar X"}
    assert status(record, name) == expected


def test_the_last_echo_is_held_against_the_measured_t2star(record):
    assert status(record, "2.e") == CANNOT_KNOW
    fit = {"stage": "relaxometry", "method": "arlo", "title": "ARLO", "facts": facts(median_r2star=80.0)}
    record["steps"].append(fit)
    assert status(record, "2.e") == MET
    fit["facts"] = facts(median_r2star=20.0)
    assert status(record, "2.e") == NOT_MET


@pytest.mark.parametrize(
    ("stage", "method", "name", "expected"),
    [
        ("unwrapping", "laplacian", "4.a", NOT_MET),
        ("unwrapping", "romeo", "4.a", MET),
        ("background", "lbv", "6.a", NOT_MET),
        ("inversion", "tkd", "7.a", NOT_MET),
        ("inversion", "fansi", "7.a", MET),
        ("mask", "robust", "5.a", NOT_MET),
        ("reference", "none", "8.a", NOT_MET),
    ],
)
def test_methods_decide(record, stage, method, name, expected):
    for step in record["steps"]:
        if step["stage"] == stage:
            step["method"] = method
    assert status(record, name) == expected


def test_filtered_phase_is_told_by_the_run(record):
    assert status(record, "3.a") == MET
    record["steps"][0]["warnings"] = [warning("phase-filtered", "The phase looks as SWI phase does.")]
    assert status(record, "3.a") == NOT_MET


@pytest.mark.parametrize(("filled", "expected"), [(True, MET), (False, NOT_MET), (None, CANNOT_KNOW)])
def test_holes_are_filled_where_the_step_says_so(record, filled, expected):
    joined = {
        "stage": "background-mask",
        "method": "joined",
        "title": "joining masks",
        "facts": facts(holes_filled=filled),
    }
    record["steps"].append(joined)
    assert status(record, "5.c") == expected
