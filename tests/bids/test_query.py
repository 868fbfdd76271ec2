"""Which images of a dataset make a run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qsmprep.bids.derivatives import find_derivative
from qsmprep.bids.query import find_runs


def names(query):
    return [run.name for run in query.runs]


def words(query):
    return " ".join(str(problem) for problem in query.problems)


def test_sessions_acquisitions_reconstructions_and_runs_are_runs_of_their_own(dataset):
    for session in ("1", "2"):
        for entities in ("", "acq-fast_rec-norm", "run-01", "run-02"):
            dataset.add_run(session=session, entities=entities)
    query = find_runs(dataset.folder)
    labels = ("", "_acq-fast_rec-norm", "_run-01", "_run-02")
    assert names(query) == sorted(f"sub-01_ses-{session}{label}" for session in "12" for label in labels)
    assert all(len(run.echoes) == 3 and len(run.files) == 6 for run in query.runs)
    assert query.problems == ()


def test_echoes_are_ordered_by_time_not_by_number(dataset):
    dataset.add_run(echo_times=(0.020, 0.004, 0.010))
    (run,) = find_runs(dataset.folder).runs
    assert [echo.echo_time_s for echo in run.echoes] == [0.004, 0.010, 0.020]
    assert [echo.number for echo in run.echoes] == [2, 3, 1]


def test_ten_echoes_are_not_sorted_as_text(dataset):
    dataset.add_run(echo_times=tuple(0.003 * (i + 1) for i in range(11)))
    (run,) = find_runs(dataset.folder).runs
    assert [echo.number for echo in run.echoes] == list(range(1, 12))


def test_metadata_are_inherited_from_above(dataset):
    dataset.add_run()
    dataset.edit("sub-01", MagneticFieldStrength=None, Manufacturer=None)
    dataset.edit("sub-01", "phase", Units=None)
    dataset.write_json("MEGRE.json", {"MagneticFieldStrength": 7, "Manufacturer": "GE"})
    dataset.write_json("part-phase_MEGRE.json", {"Units": "arbitrary"})
    (run,) = find_runs(dataset.folder).runs
    assert (run.field_strength_t, run.manufacturer) == (7, "GE")
    assert {echo.metadata["phase"]["Units"] for echo in run.echoes} == {"arbitrary"}
    assert "Units" not in run.echoes[0].metadata["magnitude"]


def test_echo_time_is_the_one_of_the_image_not_of_the_pair(dataset):
    dataset.add_run()
    dataset.edit("sub-01", EchoTime1=0.1, EchoTime2=0.2)
    (run,) = find_runs(dataset.folder).runs
    assert [echo.echo_time_s for echo in run.echoes] == [0.004, 0.008, 0.012]


def test_an_image_without_part_is_a_magnitude(dataset):
    dataset.add_run(parts=("", "phase"))
    (run,) = find_runs(dataset.folder).runs
    assert all(set(echo.files) == {"magnitude", "phase"} for echo in run.echoes)
    assert not run.is_complex


def test_real_and_imaginary_parts_make_a_run(dataset):
    dataset.add_run(parts=("real", "imag"))
    (run,) = find_runs(dataset.folder).runs
    assert run.is_complex
    assert all(set(echo.files) == {"real", "imaginary"} for echo in run.echoes)


def test_a_single_echo_comes_as_t2starw(dataset):
    dataset.add_run(suffix="T2starw", echo_times=(0.020,))
    (run,) = find_runs(dataset.folder).runs
    assert run.suffix == "T2starw" and run.echoes[0].number is None and run.echoes[0].phase


def test_a_magnitude_t2starw_beside_multi_echo_images_is_left_out_and_told(dataset):
    dataset.add_run()
    dataset.add_run(suffix="T2starw", echo_times=(0.020,), parts=("",))
    query = find_runs(dataset.folder)
    assert [run.suffix for run in query.runs] == ["MEGRE"]
    assert "sub-01_T2starw.nii.gz" in words(query) and "not used" in words(query)
    assert query.problems[0].severity == "warning"


def test_two_inputs_never_share_a_name(dataset):
    dataset.add_run()
    dataset.add_run(suffix="T2starw", echo_times=(0.020,))
    query = find_runs(dataset.folder)
    assert len(query.runs) == 1 and query.problems[0].severity == "error"
    assert "both sub-01" in words(query)


def test_derivatives_and_source_data_are_not_input(dataset):
    dataset.add_run()
    for folder in ("derivatives/other", "sourcedata", "sub-01/misc"):
        dataset.write_image(
            f"{folder}/sub-01/anat/sub-01_acq-no_echo-1_part-mag_MEGRE.nii.gz", dataset.values("", (3,) * 3)
        )
    assert names(find_runs(dataset.folder)) == ["sub-01"]


def test_participants_and_sessions_are_chosen_with_or_without_prefix(dataset):
    for subject in ("01", "02"):
        for session in ("a", "b"):
            dataset.add_run(subject, session=session)
    query = find_runs(dataset.folder, participant_labels=["sub-02"], session_labels=["ses-b"])
    assert names(query) == ["sub-02_ses-b"] and query.problems == ()
    assert query.subjects == ("01", "02")


def test_a_wrong_label_is_told_with_those_that_exist_and_the_others_still_run(dataset):
    dataset.add_run("01")
    dataset.add_run("02")
    query = find_runs(dataset.folder, participant_labels=["02", "03"])
    assert names(query) == ["sub-02"]
    assert "sub-03" in words(query) and "01, 02" in words(query)
    missing = find_runs(dataset.folder, session_labels=["9"])
    assert missing.runs == () and "no session ses-9" in words(missing)


@pytest.mark.parametrize("label", ["../02", "..", "0 1", "01/../02", "*", "", "sub-", "a|b"])
def test_a_label_that_is_none_is_refused_and_never_becomes_a_path(dataset, label):
    dataset.add_run("01")
    dataset.add_run("02")
    query = find_runs(dataset.folder, participant_labels=["01", label])
    assert names(query) == ["sub-01"]
    assert repr(label.removeprefix("sub-")) in words(query) and "letters and digits" in words(query)


def test_the_filter_file_chooses_by_entities(dataset):
    for entities in ("", "acq-x", "acq-y", "rec-n_run-1"):
        dataset.add_run(entities=entities)
    assert names(find_runs(dataset.folder, filters={"megre": {"acquisition": "x"}})) == ["sub-01_acq-x"]
    assert names(find_runs(dataset.folder, filters={"megre": {"acquisition": ["x", "y"]}})) == [
        "sub-01_acq-x",
        "sub-01_acq-y",
    ]
    plain = find_runs(
        dataset.folder, filters={"megre": {"acquisition": None, "run": None}, "t1w": {"acquisition": "z"}}
    )
    assert names(plain) == ["sub-01"]
    assert names(find_runs(dataset.folder, filters={"megre": {"run": 1}})) == ["sub-01_rec-n_run-1"]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"dwi": {}}, "'dwi' is not known"),
        ({"megre": {"acq": "x"}}, "'acq' is not known.*acquisition"),
        ({"megre": "x"}, "must look like"),
        (["megre"], "must look like"),
    ],
)
def test_a_filter_that_is_not_understood_is_refused(dataset, filters, message):
    dataset.add_run()
    with pytest.raises(ValueError, match=message):
        find_runs(dataset.folder, filters=filters)


def test_an_empty_dataset_and_one_without_images_are_told(dataset):
    assert "no folder sub-*" in words(find_runs(dataset.folder))
    (dataset.folder / "sub-01" / "anat").mkdir(parents=True)
    query = find_runs(dataset.folder)
    assert query.runs == () and "no MEGRE or T2starw image of sub-01" in words(query)
    dataset.add_run("02")
    query = find_runs(dataset.folder)
    assert names(query) == ["sub-02"] and query.problems[0].severity == "warning"
    assert find_runs(dataset.folder, participant_labels=["01", "02"]).problems[0].severity == "error"


def test_a_broken_sidecar_spoils_its_run_only(dataset):
    dataset.add_run("01")
    dataset.add_run("02")
    (dataset.folder / "sub-01/anat/sub-01_echo-2_part-mag_MEGRE.json").write_text("{not json")
    query = find_runs(dataset.folder)
    assert names(query) == ["sub-01", "sub-02"]
    assert [len(run.problems) for run in query.runs] == [1, 0]
    assert "sub-01_echo-2_part-mag_MEGRE.json" in str(query.runs[0].problems[0])


@pytest.mark.parametrize(("key", "value"), [("echo", 7), ("subject", "02"), ("run", {}), ("suffix", "bold")])
def test_a_key_of_a_sidecar_called_as_an_entity_has_no_power_over_the_name(dataset, key, value):
    dataset.add_run("01")
    dataset.add_run("02")
    dataset.edit("sub-01", **{key: value})
    query = find_runs(dataset.folder, participant_labels=["01"])
    assert names(query) == ["sub-01"] and query.problems == query.runs[0].problems == ()
    assert [echo.number for echo in query.runs[0].echoes] == [1, 2, 3]


def test_names_that_are_not_bids_are_problems_of_their_run(dataset):
    dataset.add_run(entities="coil-01")
    dataset.add_run("02")
    dataset.write_image("sub-02/anat/sub-02_part-mag_MEGRE.nii.gz", dataset.values("", (6, 7, 5)))
    coil, nameless = find_runs(dataset.folder).runs
    assert "Uncombined coils" in str(coil.problems[0])
    assert "no echo-<number>" in str(nameless.problems[0])


def test_two_files_of_one_name_are_a_problem(dataset):
    first, *_ = dataset.add_run()
    dataset.write_image(first.with_suffix(""), dataset.values("", (6, 7, 5)))
    (run,) = find_runs(dataset.folder).runs
    assert "the same image" in str(run.problems[0])


def test_the_field_strength_follows_from_the_frequency_when_it_is_not_given(dataset):
    dataset.add_run()
    dataset.edit("sub-01", MagneticFieldStrength=None, ImagingFrequency=123.25)
    (run,) = find_runs(dataset.folder).runs
    assert run.field_strength_t == pytest.approx(2.895, abs=1e-3)
    assert run.imaging_frequency_mhz == 123.25


def test_a_mask_made_elsewhere_is_found_by_the_entities_of_the_run(dataset, tmp_path):
    dataset.add_run(session="1", entities="acq-x_run-1")
    (run,) = find_runs(dataset.folder).runs
    made = tmp_path / "masks"
    anat = made / "sub-01" / "ses-1" / "anat"
    assert_none = {
        "sub-01_ses-1_space-T1w_desc-brain_mask",
        "sub-01_ses-1_acq-y_desc-brain_mask",
        "sub-01_desc-csf_mask",
    }
    for stem in assert_none:
        dataset.write_image(anat / f"{stem}.nii.gz", dataset.values("", (6, 7, 5)))
    assert find_derivative(made, run, suffix="mask", desc="brain") is None
    general = dataset.write_image(anat / "sub-01_ses-1_desc-brain_mask.nii.gz", dataset.values("", (6, 7, 5)))
    assert find_derivative(made, run, suffix="mask", desc="brain") == general
    special = dataset.write_image(anat / "sub-01_ses-1_acq-x_desc-brain_mask.nii", dataset.values("", (6, 7, 5)))
    assert find_derivative(made, run, suffix="mask", desc="brain") == special
    dataset.write_image(anat / "sub-01_ses-1_run-1_desc-brain_mask.nii", dataset.values("", (6, 7, 5)))
    with pytest.raises(ValueError, match="equally well"):
        find_derivative(made, run, suffix="mask", desc="brain")
    with pytest.raises(ValueError, match="no such folder"):
        find_derivative(tmp_path / "nowhere", run, suffix="mask", desc="brain")


def test_the_real_set_is_one_run_of_three_echoes():
    root = Path(os.environ.get("QSMPREP_TEST_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
    if not (root / "invivo-siemens").is_dir():
        pytest.skip(f"no real data in {root}; set QSMPREP_TEST_DATA")
    query = find_runs(root / "invivo-siemens")
    (run,) = query.runs
    assert query.problems == () and run.name == "sub-01_acq-epi"
    assert [echo.echo_time_s for echo in run.echoes] == [0.0148, 0.03438, 0.05394]
    assert (run.field_strength_t, run.imaging_frequency_mhz, run.manufacturer) == (3, 123.252312, "Siemens")
