"""The BIDS validator tells what it finds, and never keeps or breaks a run."""

from __future__ import annotations

import logging
import os
import sys
import time

import pytest

from qsmprep.app.validation import PROGRAM, start_validation, validation_findings


@pytest.fixture
def validator(tmp_path, monkeypatch):
    """Maker of a program of the validator's name that does what it is told."""

    def make(code: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        program = folder / PROGRAM
        program.write_text(f"#!{sys.executable}\nimport time\n{code}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    return make


@pytest.mark.parametrize(
    "output",
    ["", "{", "[]", "7", '{"issues": 7}', '{"issues": {"issues": 7}}', '{"issues": {"issues": [7]}}', "[" * 10**5],
)
def test_a_validator_that_says_nothing_of_use_is_a_warning(tmp_path, validator, output):
    validator(f"print({output!r})")
    (warning,) = validation_findings(start_validation(tmp_path))
    assert warning.code == "validator-silent"


def test_a_validator_that_does_not_end_is_ended(tmp_path, validator):
    validator("time.sleep(60)")
    process = start_validation(tmp_path)
    start = time.monotonic()
    (warning,) = validation_findings(process, timeout_s=0.2)
    assert warning.code == "validator-silent" and time.monotonic() - start < 10
    assert process.returncode is not None


def test_what_it_finds_can_be_printed(tmp_path, validator):
    validator(r"""print('{"issues": {"issues": [{"severity": "error", "location": "/a\\ud800", "code": "X"}]}}')""")
    (warning,) = validation_findings(start_validation(tmp_path))
    assert r"/a\ud800 X" in str(warning)


@pytest.mark.parametrize("kind", ["pipe", "device", "huge"])
def test_it_is_not_run_on_files_that_have_no_end(tmp_path, validator, caplog, kind):
    validator("print(1)")
    bids = tmp_path / "bids" / "sub-01"
    bids.mkdir(parents=True)
    path = bids / "a.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(2**40)
    with caplog.at_level(logging.WARNING, "qsmprep"):
        assert start_validation(tmp_path / "bids") is None
    assert str(path) in caplog.text


def test_a_link_to_nothing_does_not_keep_it_from_running(tmp_path, validator):
    validator("""print('{"issues": {"issues": []}}')""")
    (tmp_path / "a.json").symlink_to("nowhere")
    assert validation_findings(start_validation(tmp_path)) == []


def test_it_reads_the_chosen_participants_alone(tmp_path, validator):
    """Of a dataset of thousands, each of thousands of jobs would else read everything."""
    validator(
        "import json, os, sys\n"
        "seen = sorted(os.listdir(sys.argv[-1])) + sorted(os.listdir(sys.argv[-1] + '/sub-02'))\n"
        "error = {'severity': 'error', 'location': ' '.join(seen), 'code': 'SEEN'}\n"
        "print(json.dumps({'issues': {'issues': [error]}}))"
    )
    bids = tmp_path / "bids"
    for label in ("01", "02", "03"):
        (bids / f"sub-{label}").mkdir(parents=True)
        (bids / f"sub-{label}" / "a.json").touch()
    os.mkfifo(bids / "sub-03" / "endless.json")
    (bids / "participants.tsv").touch()
    (bids / "derivatives").mkdir()
    for labels in (["02", "nobody"], ["sub-02"]):
        (warning,) = validation_findings(start_validation(bids, labels))
        assert "participants.tsv sub-02 a.json SEEN" in str(warning)
