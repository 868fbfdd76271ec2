"""Quality numbers of a run of the command line: a good run is usable, a bad one says what is wrong with it."""

import json

import pytest
from documents import codes

from qsmprep.quality.assessment import DEFINITIONS

WORDS = ("--separation", "none", "--inversion", "tkd", "--plugin", "linear", "--skip-bids-validation")


def numbers(finished):
    return json.loads((finished.out / "sub-01" / "anat" / "sub-01_qc.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def inverted(small_head, run_qsmprep, tmp_path_factory):
    """The small head, its phase taken with the wrong sign."""
    return run_qsmprep(small_head, tmp_path_factory.mktemp("inverted") / "out", *WORDS, "--phase-sign", "invert")


def test_a_good_run_is_usable(finished):
    found = numbers(finished)
    assert (found["run"], found["subject"], found["session"]) == ("sub-01", "01", None)
    assert found["software"]["qsmprep"]
    assert list(found["metrics"]) == list(found["definitions"]) == list(DEFINITIONS)
    assert found["flags"] == []
    assert found["verdict"] == "usable"
    assert found["metrics"]["reference_mean"] is not None
    assert found["metrics"]["field_noise"] > 0


def test_bids_ignores_the_file(finished):
    assert "*_qc.json" in (finished.out / ".bidsignore").read_text("utf-8").split()


def test_a_wrong_sign_is_a_flag_and_a_warning(inverted):
    assert inverted.status == 0, inverted.stderr
    found = numbers(inverted)
    assert [flag["metric"] for flag in found["flags"]] == ["iron_contrast"]
    assert found["verdict"] == "do not use"
    record = json.loads((inverted.out / "sub-01" / "figures" / "sub-01_record.json").read_text("utf-8"))
    (step,) = (step for step in record["steps"] if step["stage"] == "quality")
    assert codes(step) == ["iron-contrast"]
    assert "Wrong sign" in inverted.stdout + inverted.stderr
