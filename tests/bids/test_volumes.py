"""Images of four dimensions: several echoes in one file."""

import numpy as np
import pytest

from qsmprep.bids.checks import check_run
from qsmprep.bids.problem import errors
from qsmprep.bids.query import find_runs
from qsmprep.bids.volumes import with_volumes

AFFINE = np.diag([-1.0, 1.0, 2.0, 1.0])  # that of the made-up images
TIMES = [0.004, 0.008, 0.012]


def stacked(dataset, times, suffix="MEGRE", count=3, folder="anat"):
    """The one run of a subject whose files hold `count` volumes."""
    for part in ("mag", "phase"):
        name = f"sub-01/{folder}/sub-01_part-{part}_{suffix}"
        dataset.write_image(f"{name}.nii.gz", dataset.values(part, (6, 7, 5, count)))
        units = {"Units": "rad"} if part == "phase" else {}
        dataset.write_json(f"{name}.json", {"MagneticFieldStrength": 3, "EchoTime": times, **units})
    (run,) = find_runs(dataset.folder).runs
    return run


def codes(run):
    return [problem.code for problem in errors(check_run(run))]


def test_a_list_of_echo_times_makes_the_fourth_axis_echoes(dataset):
    (run,) = with_volumes(stacked(dataset, TIMES))
    assert codes(run) == []
    assert run.echo_times_s == tuple(TIMES)
    assert len(run.files) == 2
    assert run.volumes.holds == "echoes"


def test_echoes_are_ordered_by_their_times_and_keep_their_place(dataset):
    (run,) = with_volumes(stacked(dataset, TIMES[::-1]))
    assert run.echo_times_s == tuple(TIMES)
    assert [echo.number for echo in run.echoes] == [3, 2, 1]


def test_given_times_stand_for_a_single_one(dataset):
    run = stacked(dataset, 0.004)
    assert "too-many-dimensions" in codes(with_volumes(run)[0]) or "echo-not-in-name" in codes(run)
    (given,) = with_volumes(run, echo_times_s=TIMES)
    assert codes(given) == []
    assert given.volumes.told_by == "--echo-times"


@pytest.mark.parametrize("times", [TIMES[:2], [*TIMES, 0.016]])
def test_times_that_are_not_of_the_volumes_are_refused(dataset, times):
    (run,) = with_volumes(stacked(dataset, times))
    (problem,) = [problem for problem in errors(run.problems) if problem.code == "echo-times-not-of-volumes"]
    assert "3 volumes" in problem.found
    assert "--echo-times" in problem.remedy


def test_parts_that_tell_other_times_are_refused(dataset):
    run = stacked(dataset, TIMES)
    dataset.edit("part-phase", EchoTime=[0.004, 0.008, 0.02])
    (run,) = find_runs(dataset.folder).runs
    assert "echo-times-not-of-volumes" in codes(with_volumes(run)[0])


def test_parts_of_other_numbers_of_volumes_are_refused(dataset):
    stacked(dataset, TIMES)
    dataset.write_image("sub-01/anat/sub-01_part-phase_MEGRE.nii.gz", dataset.values("phase", (6, 7, 5, 4)))
    (run,) = find_runs(dataset.folder).runs
    assert "volume-number-differs" in codes(with_volumes(run)[0])


def test_repetitions_are_refused_until_the_user_says_what_is_made_of_them(dataset):
    run = stacked(dataset, 0.004, suffix="T2starw")
    assert codes(with_volumes(run)[0]) == ["too-many-dimensions"]
    (mean,) = with_volumes(run, choice="mean")
    assert codes(mean) == []
    each = with_volumes(run, choice="each")
    assert [one.name for one in each] == ["sub-01_vol-0001", "sub-01_vol-0002", "sub-01_vol-0003"]
    assert [one.volumes.chosen for one in each] == [0, 1, 2]


def test_files_of_three_dimensions_are_left_as_they_are(dataset):
    dataset.add_run()
    (run,) = find_runs(dataset.folder).runs
    assert with_volumes(run, echo_times_s=TIMES, choice="mean") == (run,)


def test_the_mean_of_volumes_keeps_the_phase_while_the_field_drifts():
    from qsmprep.coils.images import CoilArrays
    from qsmprep.phase.series import mean_of_volumes

    rng = np.random.default_rng(0)
    phase = rng.uniform(-3, 3, (6, 5, 4))
    turns = np.arange(10)
    volumes = np.angle(np.exp(1j * (phase + turns[:, None, None, None])))[:, None]
    found = mean_of_volumes(CoilArrays(np.full(volumes.shape, 7.0), volumes), 0)
    assert np.allclose(np.exp(1j * found.phase), np.exp(1j * phase), atol=1e-5)
    assert np.allclose(found.magnitude, 7)
    assert found.coherence == pytest.approx(1)
    assert found.drift_rad == pytest.approx(9)


def test_a_bold_series_is_averaged_and_its_reference_gives_way(dataset):
    for suffix, shape in (("bold", (6, 7, 5, 3)), ("sbref", (6, 7, 5))):
        for part in ("mag", "phase"):
            name = f"sub-01/func/sub-01_task-rest_dir-AP_echo-1_part-{part}_{suffix}"
            dataset.write_image(f"{name}.nii.gz", dataset.values(part, shape))
            units = {"Units": "rad"} if part == "phase" else {}
            dataset.write_json(f"{name}.json", {"MagneticFieldStrength": 3, "EchoTime": 0.03, **units})
    assert find_runs(dataset.folder).runs == ()
    query = find_runs(dataset.folder, datatypes=("anat", "func"))
    (series,) = query.runs
    assert [problem.code for problem in query.problems] == ["reference-beside-series"]
    (run,) = with_volumes(series)
    assert codes(run) == []
    assert (run.volumes.holds, run.volumes.chosen) == ("time", None)
    assert "echo-planar" in [problem.code for problem in check_run(run)]


def test_each_contrast_of_mpm_with_phase_is_a_run(dataset):
    for contrast, flip, parts in (("PDw", 1, ("mag", "phase")), ("MTw", 1, ("mag", "phase")), ("T1w", 2, ("mag",))):
        for echo, time in enumerate(TIMES, start=1):
            for part in parts:
                name = f"sub-01/anat/sub-01_acq-{contrast}_echo-{echo}_flip-{flip}_mt-off_part-{part}_MPM"
                dataset.write_image(f"{name}.nii.gz", dataset.values(part, (6, 7, 5)))
                units = {"Units": "rad"} if part == "phase" else {}
                dataset.write_json(f"{name}.json", {"MagneticFieldStrength": 3, "EchoTime": time, **units})
    query = find_runs(dataset.folder)
    assert [run.name for run in query.runs] == ["sub-01_acq-MTw_flip-1_mt-off", "sub-01_acq-PDw_flip-1_mt-off"]
    assert [codes(run) for run in query.runs] == [[], []]
    assert [len(run.echoes) for run in query.runs] == [3, 3]
    assert [problem.code for problem in query.problems] == ["magnitude-without-phase"]


@pytest.mark.parametrize(("shift_mm", "expected"), [(1e-4, []), (0.05, ["affine-differs-slightly"])])
def test_a_small_shift_between_parts_is_told(dataset, shift_mm, expected):
    dataset.add_run()
    affine = AFFINE.copy()
    affine[0, 3] += shift_mm
    dataset.write_image("sub-01/anat/sub-01_echo-2_part-phase_MEGRE.nii.gz", dataset.values("phase", (6, 7, 5)), affine)
    (run,) = find_runs(dataset.folder).runs
    assert [problem.code for problem in check_run(run)] == expected


def test_missing_slices_of_one_part_are_named(dataset):
    dataset.add_run()
    dataset.write_image("sub-01/anat/sub-01_echo-2_part-phase_MEGRE.nii.gz", dataset.values("phase", (6, 7, 3)))
    (run,) = find_runs(dataset.folder).runs
    (problem,) = errors(check_run(run))
    assert problem.code == "grid-differs"
    assert "2 slices fewer along axis 2" in problem.found
    assert "missing" in problem.remedy
