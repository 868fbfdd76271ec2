"""Which spin echo scan belongs to a run, and what may be wrong with it."""

import shutil

import pytest

from qsmprep.bids.checks import check_spin_echo
from qsmprep.bids.problem import errors
from qsmprep.bids.query import find_runs
from qsmprep.bids.scans import spin_echo_of
from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.options import SimulationOptions


@pytest.fixture
def bids(tmp_path):
    """Two visits, spin echoes at the second only."""
    bids = simulate(tmp_path / "bids", SimulationOptions(voxel_size="10", mese=True, sessions=2))
    for path in (bids / "sub-01" / "ses-01" / "anat").glob("*MESE*"):
        path.unlink()
    return bids


def test_a_scan_of_the_same_session_comes_first_and_another_session_is_said(bids):
    found = find_runs(bids)
    first, second = found.runs
    scan, remarks = spin_echo_of(second, found.spin_echoes)
    assert scan.session == "02"
    assert remarks == []
    scan, remarks = spin_echo_of(first, found.spin_echoes)
    assert scan.session == "02"
    assert [note.code for note in remarks] == ["spin-echoes-of-other-session"]
    assert scan.echo_times_s == pytest.approx((0.015, 0.030, 0.045, 0.060, 0.075, 0.090))


def test_spin_echoes_of_another_session_are_found_when_one_session_is_asked_for(bids):
    found = find_runs(bids, session_labels=["01"])
    assert [run.session for run in found.runs] == ["01"]
    assert spin_echo_of(found.runs[0], found.spin_echoes)[0] is not None


def test_of_two_scans_the_one_that_shares_more_of_the_name_is_used(bids):
    folder = bids / "sub-01" / "ses-02" / "anat"
    for path in [*folder.glob("*MESE*"), *folder.glob("*MEGRE*")]:
        shutil.copy(path, path.with_name(path.name.replace("ses-02_", "ses-02_run-2_")))
    found = find_runs(bids, session_labels=["02"])
    for run in found.runs:
        assert spin_echo_of(run, found.spin_echoes)[0].entities == run.entities


def test_a_choice_among_equals_is_said(bids):
    folder = bids / "sub-01" / "ses-02" / "anat"
    for path in folder.glob("*MESE*"):
        path.rename(path.with_name(path.name.replace("ses-02_", "ses-02_acq-a_")))
        shutil.copy(path.with_name(path.name.replace("ses-02_", "ses-02_acq-a_")),
                    path.with_name(path.name.replace("ses-02_", "ses-02_acq-b_")))  # fmt: skip
    found = find_runs(bids, session_labels=["02"])
    scan, remarks = spin_echo_of(found.runs[0], found.spin_echoes)
    assert scan.entities["acq"] == "a"
    assert [note.code for note in remarks] == ["spin-echoes-chosen"]


def test_a_filter_chooses_the_scan(bids):
    found = find_runs(bids, filters={"mese": {"session": "01"}})
    assert found.spin_echoes == ()


def test_nobody_gets_the_scan_of_another_person(tmp_path):
    bids = simulate(tmp_path / "bids", SimulationOptions(voxel_size="10", mese=True, subjects=2))
    for path in (bids / "sub-02" / "anat").glob("*MESE*"):
        path.unlink()
    found = find_runs(bids)
    assert spin_echo_of(found.runs[1], found.spin_echoes) == (None, [])


def test_problems_of_a_scan(bids):
    folder = bids / "sub-01" / "ses-02" / "anat"
    (scan,) = find_runs(bids).spin_echoes
    assert check_spin_echo(scan) == ()
    for path in folder.glob("*echo-2_MESE*"):
        path.unlink()
    (scan,) = find_runs(bids).spin_echoes
    (problem,) = check_spin_echo(scan)
    assert problem.severity == "warning"
    assert "spin echo 2 is missing" in problem.found
    for number in (3, 4, 5, 6):
        for path in folder.glob(f"*echo-{number}_MESE*"):
            path.unlink()
    (scan,) = find_runs(bids).spin_echoes
    assert "a single spin echo" in errors(check_spin_echo(scan))[0].found
