"""The consensus checklist: the paper's 32 recommendations, none met or not met without a value that was found."""

from dataclasses import replace

import numpy as np
import pytest
from documents import facts, note, warning

from qsmprep.report.acquisition import describe_acquisition
from qsmprep.report.checklist import ADVICE, RECOMMENDATIONS, SECTIONS, advice, checklist, counted
from qsmprep.report.evidence import CANNOT_KNOW, MET, NO_CASE, NOT_MET
from qsmprep.report.quality import QualityLine, ShownFlag, ShownQuality
from qsmprep.report.record import Picture, parse_run
from qsmprep.report.regional import RegionRow, RegionTable

IDS = [
    "2.a", "2.b", "2.c", "2.d", "2.e", "2.f", "2.g", "3.a", "3.b", "3.c", "4.a", "4.b", "4.c",
    "5.a (mask 1)", "5.a (mask 2)", "5.b", "5.c", "5.d", "6.a", "6.b", "6.c", "7.a", "7.b",
    "8.a", "8.b", "8.c", "8.d", "8.e", "8.f", "8.g", "9.a", "9.b",
]  # fmt: skip

# The protocols that the paper suggests: its table in the supporting information.
PROTOCOLS = {
    1.5: dict(tr=50, first=5, spacing=10, angle=23, matrix=(140, 176, 114), edge=1.2, acceleration=2),
    3.0: dict(tr=33, first=5, spacing=6, angle=15, matrix=(176, 256, 144), edge=1.0, acceleration=2),
    7.0: dict(tr=25, first=4, spacing=4, angle=10, matrix=(234, 296, 190), edge=0.75, acceleration=3),
}


def item(record, name, **more):
    return next(found for found in checklist(parse_run(record), **more) if found.id == name)


def status(record, name, **more):
    return item(record, name, **more).status


def advised(record, text, **more):
    return next(found for found in advice(parse_run(record), **more) if text in found.text)


def measured(name, value, within):
    return ShownQuality("check", (), (QualityLine(name, name, str(value), "", "", "limit", within),))


def acquired(field, **changes):
    """The acquisition of a suggested protocol, every key told."""
    p = {**PROTOCOLS[field], **changes}
    metadata = {
        "MagneticFieldStrength": field, "Manufacturer": "Siemens", "MRAcquisitionType": "3D",
        "ScanningSequence": "GR", "SequenceVariant": "SP", "RepetitionTime": p["tr"] / 1000, "FlipAngle": p["angle"],
        "ReadoutPolarity": "monopolar", "ParallelReductionFactorInPlane": p["acceleration"],
        "ReceiveCoilName": "Head_32", "BaseResolution": p["matrix"][1], "AcquisitionMatrixPE": p["matrix"][0],
        "ConversionSoftware": "dcm2niix", "ConversionSoftwareVersion": "v1.0.20250505",
        "CoilCombinationMethod": "Adaptive Combine",
    }  # fmt: skip
    times = [(p["first"] + p["spacing"] * k) / 1000 for k in range(5)]
    affine = np.diag([p["edge"]] * 3 + [1.0])
    return describe_acquisition({**metadata, **changes}, affine=affine, shape=p["matrix"], echo_times_s=times)


def test_the_recommendations_are_those_of_the_paper_in_its_order():
    assert [name for name, _, _ in RECOMMENDATIONS] == IDS
    assert len(set(IDS)) == 32
    assert all(found.id == "" and found.source for found in advice(parse_run({"run": "sub-01"})))
    assert not any(source[0].isdigit() for source, _, _ in ADVICE), "what is no recommendation has no letter"


def test_nothing_known_means_nothing_met():
    for items in (checklist(parse_run({"run": "sub-01"})), advice(parse_run({"run": "sub-01"}))):
        assert counted(items) == {MET: 0, NOT_MET: 0, CANNOT_KNOW: len(items), NO_CASE: 0}


def test_every_section_of_the_paper_is_there_in_order(record):
    items = checklist(parse_run(record))
    assert list(dict.fromkeys(found.section for found in items)) == list(SECTIONS.values())
    assert all(found.value != "nothing tells" for found in items if found.status != CANNOT_KNOW)


@pytest.mark.parametrize("field", PROTOCOLS)
def test_the_suggested_protocols_pass(record, field):
    record["acquisition"] = acquired(field)
    found = {name: status(record, name) for name in IDS[:10]}
    assert found.pop("2.e") == (MET if field == 3 else NO_CASE)
    assert found.pop("3.b") == CANNOT_KNOW
    assert set(found.values()) == {MET}, found


@pytest.mark.parametrize(
    ("changes", "name", "expected"),
    [
        ({"spacing": 3}, "2.a", NOT_MET),  # the last echo at 17 ms
        ({"spacing": 12}, "2.a", MET),  # there is no upper limit
        ({"ReadoutPolarity": "bipolar"}, "2.a", NOT_MET),
        ({"ReadoutPolarity": None}, "2.a", CANNOT_KNOW),
        ({"MRAcquisitionType": "2D"}, "2.a", NOT_MET),
        ({"SequenceVariant": "NONE"}, "2.a", CANNOT_KNOW),
        ({"SequenceVariant": "NONE", "SpoilingState": False}, "2.a", NOT_MET),
        ({"tr": 60}, "2.b", NOT_MET),
        ({"angle": 25}, "2.c", NOT_MET),
        ({"FlipAngle": None}, "2.c", CANNOT_KNOW),
        ({"matrix": (176, 256, 60)}, "2.d", NOT_MET),
        ({"edge": 1.2}, "2.e", NOT_MET),
        ({"BaseResolution": 192, "AcquisitionMatrixPE": 132}, "2.e", NOT_MET),  # interpolated
        ({"BaseResolution": None, "AcquisitionMatrixPE": None}, "2.e", CANNOT_KNOW),
        ({"acceleration": 1}, "2.f", NOT_MET),
        ({"acceleration": None}, "2.f", CANNOT_KNOW),
        ({"ReceiveCoilName": "Head_8"}, "2.g", NOT_MET),
        ({"ReceiveCoilName": "HeadMatrix"}, "2.g", CANNOT_KNOW),
        ({"CoilCombinationMethod": "Sum of Squares"}, "3.a", NOT_MET),
        ({"CoilCombinationMethod": None}, "3.a", CANNOT_KNOW),
        ({"ConversionSoftware": "dicm2nii"}, "3.c", NOT_MET),
        ({"ConversionSoftware": None, "ConversionSoftwareVersion": None}, "3.c", CANNOT_KNOW),
    ],
)
def test_what_departs_from_the_protocol_is_told(record, changes, name, expected):
    record["acquisition"] = acquired(3.0, **changes)
    assert status(record, name) == expected


def test_the_phase_tells_of_a_bipolar_readout(record):
    record["acquisition"] = acquired(3.0, ReadoutPolarity=None)
    record["steps"][0]["facts"] = facts(bipolar_range=0.02, bipolar_found=False, bipolar_corrected=False)
    assert status(record, "2.a") == MET
    record["steps"][0]["facts"] = facts(bipolar_range=0.3, bipolar_found=False, bipolar_corrected=False)
    assert status(record, "2.a") == MET, "in noise the range is large by chance"
    record["steps"][0]["facts"] = facts(bipolar_range=1.2, bipolar_found=True, bipolar_corrected=True)
    assert status(record, "2.a") == NOT_MET
    assert "bipolar readout: 1.20 rad between odd and even echoes (corrected)" in item(record, "2.a").value


def test_open_fringes_show_a_failed_combination_of_the_coils(record):
    record["acquisition"] = acquired(3.0)
    assert status(record, "3.a", quality=measured("open_fringes_input", 12, False)) == NOT_MET
    record["steps"][0]["facts"] = facts(open_fringe_lines=3)
    assert status(record, "3.a") == NOT_MET


def test_coils_that_were_combined_here_are_no_case_of_the_vendors_combination(record):
    combined = {**record["steps"][0], "stage": "coil-combination", "method": "aspire", "title": "ASPIRE",
                "facts": facts(coils=32)}  # fmt: skip
    record["steps"].insert(0, combined)
    assert status(record, "3.a") == NO_CASE
    assert "32 single coils, combined here by ASPIRE" in item(record, "3.a").value


@pytest.mark.parametrize(
    ("stage", "method", "name", "expected"),
    [
        ("unwrapping", "laplacian", "4.a", NOT_MET),
        ("unwrapping", "romeo", "4.a", MET),
        ("background", "lbv", "6.a", NOT_MET),
        ("background", "pdf", "6.a", NO_CASE),
        ("background", "pdf", "6.b", MET),
        ("background", "v-sharp", "6.b", NO_CASE),
        ("inversion", "tkd", "7.a", NOT_MET),
        ("inversion", "fansi", "7.a", MET),
        ("mask", "robust", "5.a (mask 1)", NOT_MET),
        ("mask", "imported", "5.a (mask 1)", CANNOT_KNOW),
        ("reference", "none", "8.c", NOT_MET),
    ],
)
def test_methods_decide(record, stage, method, name, expected):
    for step in record["steps"]:
        if step["stage"] == stage:
            step["method"] = method
    assert status(record, name) == expected


def step_of(record, stage):
    found = next((step for step in record["steps"] if step["stage"] == stage), None)
    if found is None:
        found = {"stage": stage, "method": "x", "title": stage, "parameters": [], "facts": [], "notes": []}
        record["steps"].append(found)
    return found


@pytest.mark.parametrize(
    ("offset", "method", "unwrapping", "expected"),
    [
        (True, "weighted", "romeo", MET),
        (False, "weighted", "romeo", NOT_MET),
        (True, "weighted", "laplacian", NOT_MET),
        (False, "nonlinear-fit", "romeo", MET),
    ],
)
def test_echoes_are_combined_in_one_of_the_two_ways(record, offset, method, unwrapping, expected):
    step_of(record, "echo-combination")["method"] = method
    step_of(record, "unwrapping")["method"] = unwrapping
    record["steps"] = [step for step in record["steps"] if step["stage"] != "phase-offset"]
    if offset:
        step_of(record, "phase-offset")
    assert status(record, "4.c") == expected


def parameter(name, value, default=True):
    return {"name": name, "value": value, "unit": "", "default": default, "help": "", "acts": True}


def test_a_penalty_is_a_default_or_tuned(record):
    record["acquisition"] = acquired(3.0)
    step = step_of(record, "inversion")
    step["method"], step["parameters"] = "fansi", [parameter("alpha1", 5e-4), parameter("kernel", "discrete", False)]
    assert status(record, "7.b") == MET
    step["parameters"][0] = parameter("alpha1", 2e-4, False)
    assert status(record, "7.b") == NOT_MET and "alpha1 = 0.0002" in item(record, "7.b").value
    record["tuned"] = {"method": "fansi", "option": "alpha1", "value": 2e-4, "reason": "corner of the L-curve"}
    assert status(record, "7.b") == MET and "L-curve" in item(record, "7.b").value
    record["tuned"]["value"] = 1e-4
    assert status(record, "7.b") == NOT_MET
    record["tuned"] = {"method": "medi", "followers": 3}
    assert status(record, "7.b") == NOT_MET


def test_defaults_on_a_far_protocol_are_no_choice(record):
    record["acquisition"] = acquired(3.0, edge=2.8)
    step = step_of(record, "inversion")
    step["method"], step["parameters"] = "fansi", [parameter("alpha1", 5e-4)]
    assert status(record, "7.b") == CANNOT_KNOW and "tune" in item(record, "7.b").value


@pytest.mark.parametrize(("threshold", "expected"), [("0.2", MET), ("0", NOT_MET)])
def test_a_threshold_of_zero_is_no_second_mask(record, threshold, expected):
    step_of(record, "reliable-mask")["parameters"] = [parameter("quality_threshold", threshold)]
    assert status(record, "5.a (mask 2)") == expected


@pytest.mark.parametrize(("filled", "expected"), [(True, MET), (False, NOT_MET), (None, CANNOT_KNOW)])
def test_holes_are_filled_where_the_step_says_so(record, filled, expected):
    step_of(record, "background-mask")["facts"] = facts(holes_filled=filled)
    assert status(record, "5.b") == expected


def test_the_share_kept_is_that_of_mask_3_as_written(record):
    step_of(record, "background-mask")["facts"] = facts(mask_voxels=2000, eroded_voxels=1860)
    step_of(record, "background")["facts"] = facts(mask_voxels=1730, share_kept=93.0)
    assert "86.5 % of mask 3 kept" in item(record, "6.c").value
    lines = measured("background_rim", 1.2, True).lines + measured("mask_lost", 20, True).lines
    assert status(record, "6.c", quality=ShownQuality("usable", (), lines)) == MET
    lines = measured("background_rim", 4, False).lines + measured("mask_lost", 20, True).lines
    assert status(record, "6.c", quality=ShownQuality("check", (), lines)) == NOT_MET


def regions(*voxels):
    rows = tuple(RegionRow(f"region {k}", text, ("1",) * 5) for k, text in enumerate(voxels))
    return (RegionTable("dseg", "χ", "ppm", rows),)


def test_regions_without_valid_voxels_are_not_met(record):
    assert status(record, "8.b") == CANNOT_KNOW
    assert status(record, "8.b", regions=regions("10 of 12", "3 of 4")) == MET
    assert status(record, "8.b", regions=regions("10 of 12", *["0 of 4"] * 8)) == NOT_MET
    assert status(record, "8.b", regions=regions("10 of 12", "0 of 0")) == MET, "a region that is not there"


def test_common_references_need_all_four(record):
    step = step_of(record, "reference")
    found = {f"reference_{region}_{n}": 0.01 for region in ("whole_brain", "csf") for n in ("mean", "sd")}
    step["facts"] = facts(**found)
    assert status(record, "8.f") == NOT_MET
    assert "missing: white matter, internal capsule" in item(record, "8.f").value
    found |= {f"reference_{r}_{n}": 0.01 for r in ("white_matter", "internal_capsule") for n in ("mean", "sd")}
    step["facts"] = facts(**found)
    assert status(record, "8.f") == MET


def test_flags_are_for_the_study_to_judge(record):
    lines = measured("streaking", 1, True).lines
    assert status(record, "8.a", quality=ShownQuality("usable", (), lines)) == MET
    assert (
        status(record, "8.a", quality=ShownQuality("check", (ShownFlag("streaking", "Streaking", "", ""),), lines))
        == CANNOT_KNOW
    )


def test_a_filter_is_told_only_where_it_could_be_seen(record):
    record["acquisition"] = acquired(3.0)
    assert advised(record, "Unfiltered").status == MET
    record["steps"][0]["warnings"] = [warning("phase-filtered", "The phase looks as SWI phase does.")]
    assert advised(record, "Unfiltered").status == NOT_MET
    record["steps"][0]["warnings"] = []
    record["acquisition"] = acquired(3.0, first=2, spacing=2)
    assert advised(record, "Unfiltered").status == CANNOT_KNOW


def test_the_sign_of_an_unknown_vendor_is_known_by_the_map_alone(record):
    record["steps"][0]["notes"] = [note("phase-sign", "Phase sign kept: the convention of Canon is not known.")]
    record["steps"][0]["facts"] = facts(phase_sign_known=False)
    assert advised(record, "sign").status == CANNOT_KNOW
    assert advised(record, "sign", quality=measured("iron_contrast", 0.03, True)).status == MET
    assert advised(record, "sign", quality=measured("iron_contrast", -0.03, False)).status == NOT_MET


def test_the_window_of_the_maps_is_that_of_the_run(record):
    step = step_of(record, "display")
    step |= {"facts": facts(window=[-0.2, 0.35], window_of="susceptibility")}
    assert advised(record, "window").status == CANNOT_KNOW, "no picture was drawn"
    record["steps"][-1]["figures"] = [{"file": "sub-01_desc-chi_Chimap.png", "caption": "x"}]
    run = parse_run(record)
    drawn = replace(run.steps[-1], figures=(Picture("sub-01_desc-chi_Chimap.png", "x", b"png"),))
    found = next(i for i in advice(replace(run, steps=(*run.steps[:-1], drawn))) if "window" in i.text)
    assert found.status == MET and "-0.2 to 0.35 ppm" in found.value
