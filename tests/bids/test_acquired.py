"""When a run was measured, as far as the dataset tells."""

import json

import pytest

from qsmprep.bids.acquired import SCANS, SESSIONS, SIDECAR, Acquired, acquired
from qsmprep.bids.group import _rows

IMAGES = ["sub-01/ses-1/anat/sub-01_ses-1_echo-1_part-mag_MEGRE.nii.gz",
          "sub-01/ses-1/anat/sub-01_ses-1_echo-1_part-phase_MEGRE.nii.gz"]  # fmt: skip


@pytest.fixture
def bids(tmp_path):
    (tmp_path / "sub-01" / "ses-1" / "anat").mkdir(parents=True)
    return tmp_path


def scans(bids, *times):
    lines = [f"{path.removeprefix('sub-01/ses-1/')}\t{time}" for path, time in zip(IMAGES, times, strict=False)]
    other = "anat/sub-01_ses-1_T1w.nii.gz\t2001-01-01T00:00:00"
    text = "\n".join(["filename\tacq_time", other, *lines]) + "\n"
    (bids / "sub-01/ses-1/sub-01_ses-1_scans.tsv").write_text(text)


def sidecar(bids, time):
    (bids / IMAGES[0].replace(".nii.gz", ".json")).write_text(json.dumps({"AcquisitionDateTime": time}))


def sessions(bids, time):
    (bids / "sub-01/sub-01_sessions.tsv").write_text(f"session_id\tacq_time\nses-1\t{time}\nses-2\t2011-01-01\n")


def found(bids, inputs=IMAGES):
    return acquired(bids, "01", "1", inputs, _rows)


def test_the_earliest_image_in_scans_tsv_comes_first_then_sidecar_then_session(bids):
    assert found(bids) == Acquired()
    sessions(bids, "2021-05-06")
    assert found(bids) == Acquired("2021-05-06T00:00:00", SESSIONS)
    sidecar(bids, "2021-05-06T10:11:12.500000")
    assert found(bids) == Acquired("2021-05-06T10:11:12", SIDECAR)
    scans(bids, "2021-05-06T10:12:00Z", "2021-05-06T12:11:00+02:00")
    assert found(bids) == Acquired("2021-05-06T10:11:00", SCANS)


@pytest.mark.parametrize("time", ["n/a", "", "yesterday", "10:11:12", "2021-13-01"])
def test_what_is_no_date_is_none(bids, time):
    scans(bids, time)
    sidecar(bids, time)
    assert found(bids) == Acquired()


def test_dates_shifted_for_privacy_are_told_and_not_used(bids):
    scans(bids, "1925-03-04T10:00:00")
    assert found(bids) == Acquired(shifted=True)
    sidecar(bids, "2021-05-06T10:11:12")
    assert found(bids).source == SIDECAR


@pytest.mark.parametrize("inputs", [[], [3, None], ["/etc/passwd"], ["../../sub-01.nii"], ["a\0b"], ["sub-01"]])
def test_names_of_a_broken_record_lead_nowhere(bids, inputs):
    scans(bids, "2021-05-06T10:12:00")
    assert found(bids, inputs) == Acquired()


def test_tables_and_sidecars_that_cannot_be_read_tell_nothing(bids):
    (bids / "sub-01/ses-1/sub-01_ses-1_scans.tsv").write_bytes(b"\xff\xfe")
    (bids / IMAGES[0].replace(".nii.gz", ".json")).write_text("[")
    assert found(bids) == Acquired()
