"""What follows the graph: a record for each run on its own, whatever happens to that of another."""

import json
import os
from datetime import UTC, datetime

import pytest

from qsmprep.app.records import bare_record, keep_record
from qsmprep.app.request import Request
from qsmprep.bids.outputs import output_path
from qsmprep.report.citation import write_citation_files
from qsmprep.report.subject import runs_with_results

STARTED = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def request_here(tmp_path):
    return Request(tmp_path / "bids", tmp_path / "out", tmp_path / "work")


def record_of(request, name="sub-01", **changes):
    record = bare_record(request, name, name.removeprefix("sub-"), STARTED, [])
    return {**record, **changes}


def written(request, name="sub-01"):
    return json.loads((request.output_dir / name / "figures" / f"{name}_record.json").read_text())


def test_a_record_that_cannot_be_made_fails_its_run_alone_and_is_told(request_here, capsys):
    def fails():
        raise KeyError("path of a step")

    record = keep_record(fails, request_here, "sub-01", "01", STARTED)
    assert record["status"] == "failed" and "KeyError" in record["errors"][0]["message"]
    assert written(request_here) == record and "sub-01: its record could not be made" in capsys.readouterr().err
    assert (
        keep_record(lambda: record_of(request_here, "sub-02"), request_here, "sub-02", "02", STARTED)["status"] == "ok"
    )


def test_a_record_that_cannot_be_written_is_a_failure_with_the_place(request_here, capsys):
    (request_here.output_dir / "sub-01").mkdir(parents=True)
    (request_here.output_dir / "sub-01" / "figures").write_text("a file, not a folder")
    record = keep_record(lambda: record_of(request_here), request_here, "sub-01", "01", STARTED)
    told = capsys.readouterr().err
    assert record["status"] == "failed" and "sub-01: its record could not be written" in told and "figures" in told


def test_maps_that_a_failed_run_leaves_from_an_earlier_command_are_told(request_here):
    path = request_here.output_dir / output_path("chi", "sub-01")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"map")
    os.utime(path, (STARTED.timestamp() - 60,) * 2)
    failed = record_of(request_here, status="failed", errors=[{"step": "", "message": "no phase"}])
    keep_record(lambda: failed, request_here, "sub-01", "01", STARTED)
    (warning,) = written(request_here)["warnings"]
    assert warning["code"] == "files-of-failed-run" and "sub-01_Chimap.nii.gz" in warning["text"]


def test_files_that_a_run_of_other_options_leaves_from_an_earlier_command_are_told(request_here):
    chi, para = (request_here.output_dir / output_path(key, "sub-01") for key in ("chi", "para"))
    chi.parent.mkdir(parents=True)
    for path, age_s in ((chi, -60), (para, 60)):
        path.write_bytes(b"map")
        os.utime(path, (STARTED.timestamp() - age_s,) * 2)
    keep_record(lambda: record_of(request_here), request_here, "sub-01", "01", STARTED)
    (warning,) = written(request_here)["warnings"]
    assert warning["code"] == "files-of-other-options" and "paramagnetic_Chimap" in warning["text"]
    assert "sub-01_Chimap" not in warning["text"] and "A file of this run is" in warning["text"]


def step(method):
    return {"stage": "inversion", "method": method, "title": f"{method} inversion", "citations": []}


def citation(request):
    write_citation_files(request.output_dir / "logs", runs_with_results(request.output_dir))
    return (request.output_dir / "logs" / "CITATION.md").read_text()


def test_the_citation_tells_of_all_that_lies_in_the_folder(request_here):
    for name, method in (("sub-01", "rts"), ("sub-02", "medi")):
        keep_record(
            lambda n=name, m=method: record_of(request_here, n, steps=[step(m)]), request_here, name, name, STARTED
        )
    text = citation(request_here)
    assert "rts inversion" in text and "medi inversion" in text


def test_the_citation_keeps_the_methods_of_maps_whose_rerun_was_refused(request_here):
    """The sidecars of the maps tell how they were made."""
    sidecar = request_here.output_dir / "sub-01" / "anat" / "sub-01_Chimap.json"
    sidecar.parent.mkdir(parents=True)
    sidecar.write_text(json.dumps({"ProcessingSteps": [step("rts")], "ProcessingSoftware": {"qsmprep": "1"}}))
    failed = record_of(request_here, status="failed", errors=[{"step": "", "message": "no phase"}])
    keep_record(lambda: failed, request_here, "sub-01", "01", STARTED)
    text = citation(request_here)
    assert "rts inversion" in text and "No run was processed" not in text
