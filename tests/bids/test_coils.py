"""Single coils in a dataset: found by names, sidecars or the user, and what is missing is named."""

import numpy as np
import pytest

from qsmprep.bids.checks import check_run, errors
from qsmprep.bids.coils import with_last_axis
from qsmprep.bids.query import find_runs

TIMES = (0.004, 0.008)
SHAPE = (6, 7, 5)


def the_run(dataset, choice="auto"):
    (run,) = find_runs(dataset.folder).runs
    return with_last_axis(run, choice)


def only_error(run):
    (problem,) = errors(check_run(run))
    return str(problem)


@pytest.mark.parametrize(
    ("names", "labels", "left"),
    [
        (("acq-coil01", "acq-coil02", "acq-coil10"), None, ""),
        (("acq-coil0", "acq-coil1", "acq-coil2"), ("0", "1", "2"), ""),
        (("acq-hirescoil1", "acq-hirescoil2"), ("1", "2"), "hires"),
        (("coil-1", "coil-2"), ("1", "2"), ""),
        (("ch-H10", "ch-H9"), ("H9", "H10"), ""),
    ],
)
def test_names_of_files_tell_coils(dataset, names, labels, left):
    for name in names:
        dataset.add_run(entities=name, echo_times=TIMES)
    run = the_run(dataset)
    if labels is None:  # a number is missing
        assert "not 3, 4" in only_error(run)
        return
    assert errors(check_run(run)) == ()
    assert run.coils.labels == labels and run.coils.count == len(names) and not run.coils.last_axis
    assert run.entities.get("acq", "") == left
    assert [len(echo.coils["phase"]) for echo in run.echoes] == [len(names)] * 2
    assert len(run.files) == 4 * len(names) and run.echo_times_s == TIMES


def test_scans_named_after_their_head_coils_are_runs_of_their_own(dataset):
    for name in ("acq-coil20", "acq-coil32"):
        dataset.add_run(entities=name, echo_times=TIMES)
    assert [run.coils for run in find_runs(dataset.folder).runs] == [None, None]


def test_the_string_of_each_coil_is_no_contradiction(dataset):
    for number in (1, 2):
        dataset.add_run(entities=f"acq-coil{number}", echo_times=TIMES)
        dataset.edit(f"acq-coil{number}", CoilString=f"H{number}")
    assert check_run(the_run(dataset)) == ()


def test_a_coil_that_is_missing_in_one_echo_is_named(dataset):
    for number in (1, 2, 3):
        dataset.add_run(entities=f"acq-coil{number}", echo_times=TIMES)
    dataset.remove("acq-coil2_echo-2_part-mag")
    assert "2 images of part-magnitude of echo 2, but 3 coils" in only_error(the_run(dataset))


def test_coils_of_one_echo_have_one_echo_time(dataset):
    for number in (1, 2):
        dataset.add_run(entities=f"acq-coil{number}", echo_times=TIMES)
    dataset.edit("acq-coil2_echo-2_part-phase", EchoTime=0.009)
    assert "EchoTime is 0.009" in only_error(the_run(dataset))


@pytest.mark.parametrize("times", [(0.004, 0.004, 0.008, 0.008), (0.004, 0.008, 0.004, 0.008)])
def test_echo_times_that_repeat_tell_coils(dataset, times):
    dataset.add_run(echo_times=times)
    run = the_run(dataset)
    assert errors(check_run(run)) == ()
    assert run.coils.count == 2 and run.echo_times_s == TIMES and [echo.number for echo in run.echoes] == [1, 2]
    first = [int(path.name.partition("echo-")[2].partition("_")[0]) for path in run.echoes[0].coils["magnitude"]]
    assert first == [number for number, time in enumerate(times, 1) if time == 0.004]


def test_one_time_in_all_sidecars_is_a_copied_one_not_coils(dataset):
    dataset.add_run(echo_times=(0.004, 0.004, 0.004))
    assert "have the same EchoTime" in only_error(the_run(dataset))


@pytest.mark.parametrize(
    ("shape", "facts"),
    [
        ((*SHAPE, 4), {"NumberOfCoils": 4}),
        ((*SHAPE, 1, 4), {"NumberReceiveCoilActiveElements": 4}),
        ((*SHAPE, 4, 1), {"CoilString": ["H1", "H2", "H3", "H4"]}),
    ],
)
def test_a_sidecar_tells_that_the_last_axis_is_coils(dataset, shape, facts):
    dataset.add_run(echo_times=TIMES, shape=shape)
    assert "--coils last-axis" in str(errors(check_run(the_run(dataset)))[0])
    assert the_run(dataset, "last-axis").coils.told_by == "--coils last-axis"
    dataset.edit("sub-01", **facts)
    run = the_run(dataset)
    assert errors(check_run(run)) == ()
    assert run.coils.last_axis and run.coils.count == 4 and run.coils.told_by in facts


def test_a_number_of_coils_that_is_not_the_axis_tells_nothing(dataset):
    dataset.add_run(echo_times=TIMES, shape=(*SHAPE, 4))
    dataset.edit("sub-01", NumberOfCoils=32)
    assert the_run(dataset).coils is None


def test_images_of_other_coil_numbers_are_refused(dataset):
    dataset.add_run(echo_times=TIMES, shape=(*SHAPE, 4))
    other = dataset.find("echo-2_part-phase", ".nii.gz")[0]
    dataset.write_image(other, dataset.values("phase", (*SHAPE, 3)))
    assert f"{other.name}: an image of 3 coils" in only_error(the_run(dataset, "last-axis"))


def test_echoes_and_coils_in_one_file_are_refused(dataset):
    dataset.add_run(echo_times=TIMES, shape=(*SHAPE, 2, 3))
    run = the_run(dataset, "last-axis")
    assert run.coils is None and "5 dimensions" in str(errors(check_run(run))[0])


def test_one_echo_cannot_combine_coils(dataset):
    dataset.add_run(echo_times=(0.004,), shape=(*SHAPE, 4))
    assert "4 coils of a single echo" in only_error(the_run(dataset, "last-axis"))


def test_a_combined_dataset_is_as_before(dataset):
    dataset.add_run(echo_times=TIMES)
    run = the_run(dataset, "last-axis")
    assert run.coils is None and np.all([echo.coils == {} for echo in run.echoes])
    assert len(run.files) == 4
