"""What vanishes or fails after the start belongs to the run it happened in."""

from __future__ import annotations

import errno
import json
import shutil

import pytest

from qsmprep.app import application
from qsmprep.cli.run import main

FAST = ("--pipeline", "fast", "--inversion", "tkd", "--relaxometry", "none", "--separation", "none",
        "--phase-offset", "none", "--skip-bids-validation")  # fmt: skip


@pytest.fixture
def two(head, tmp_path):
    """A dataset of two participants."""
    bids = shutil.copytree(head, tmp_path / "bids", ignore=shutil.ignore_patterns("derivatives"))
    for path in list((bids / "sub-01").rglob("*")):
        if path.is_file():
            target = bids / str(path.relative_to(bids)).replace("sub-01", "sub-02")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return bids


def run(bids, tmp_path):
    words = [str(bids), str(tmp_path / "out"), "participant", "-w", str(tmp_path / "work"), "--plugin", "linear", *FAST]
    status = main(words)
    records = sorted((tmp_path / "out").glob("sub-*/figures/*_record.json"))
    return status, {path.name[:6]: json.loads(path.read_text()) for path in records}


def test_an_image_that_vanishes_costs_its_run_alone(two, tmp_path, monkeypatch, capsys):
    execute = application.execute

    def without_an_image(plans, *rest, **more):
        plans[0].run.files[0].unlink()
        return execute(plans, *rest, **more)

    monkeypatch.setattr(application, "execute", without_an_image)
    status, records = run(two, tmp_path)
    told = capsys.readouterr().err
    assert status == 1 and {name: record["status"] for name, record in records.items()} == {
        "sub-01": "failed",
        "sub-02": "ok",
    }
    assert "sub-01_echo-1" in told and "the file is gone" in told and "output" not in told
    assert (tmp_path / "out" / "sub-01.html").is_file() and (tmp_path / "out" / "sub-02.html").is_file()


def test_a_page_that_cannot_be_made_costs_no_other(two, tmp_path, monkeypatch, capsys):
    write = application.write_subject_report

    def full(output_dir, subject):
        if subject == "01":
            raise OSError(errno.ENOSPC, "No space left on device", str(output_dir / "sub-01.html"))
        return write(output_dir, subject)

    monkeypatch.setattr(application, "write_subject_report", full)
    status, records = run(two, tmp_path)
    assert status == 1 and len(records) == 2 and (tmp_path / "out" / "sub-02.html").is_file()
    assert "sub-01.html: the disk is full. Free space" in capsys.readouterr().err


def test_what_nobody_thought_of_in_planning_costs_no_other(two, tmp_path, monkeypatch, capsys):
    plan = application.plan_run

    def breaks(run, *rest, **more):
        if run.subject == "01":
            raise MemoryError("too large")
        return plan(run, *rest, **more)

    monkeypatch.setattr(application, "plan_run", breaks)
    status, records = run(two, tmp_path)
    assert status == 1 and {name: record["status"] for name, record in records.items()} == {
        "sub-01": "failed",
        "sub-02": "ok",
    }
    assert "MemoryError: too large" in records["sub-01"]["errors"][0]["message"]
    assert "Traceback" not in capsys.readouterr().err
