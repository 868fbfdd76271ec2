"""What of an output folder makes a run: records, crash texts, sidecars alone."""

import json

import pytest
from documents import error

from qsmprep.report.page import write_subject_report
from qsmprep.report.subject import NO_MAP, REBUILT, runs_of, subjects_of

CRASH = (
    "Node: qsmprep.sub_01_run_1.background_wf.remove\n\nTraceback:\n  line <1>\nValueError: nothing left of the mask\n"
)


def report(output):
    return write_subject_report(output, "01").read_text("utf-8")


@pytest.fixture
def failed(record):
    """A run whose background removal failed: two of its planned steps are not there."""
    steps = [step for step in record["steps"] if step["stage"] in ("input", "mask", "unwrapping")]
    planned = [{"stage": step["stage"], "title": step["title"]} for step in record["steps"]]
    errors = [error("nothing left of the mask", "background remove")]
    crashes = [{"step": "background remove", "message": "nothing left of the mask", "text": CRASH}]
    return {**record, "status": "failed", "steps": steps, "planned": planned, "errors": errors, "crashes": crashes}


def test_steps_that_were_not_made_stand_in_their_place_and_say_why(failed, write_record):
    text = report(write_record(failed))
    places = ("Brain mask</a>", "Phase unwrapping <span", "Background field removal <span", "susceptibility <span")
    order = [text.index(place) for place in places]
    assert order == sorted(order)
    assert text.count("Not made: ") == 3
    assert "Not made: background field removal (planned: <bdi>V-SHARP" in " ".join(text.split())
    assert "line &lt;1&gt;" in text


def test_the_crash_text_comes_from_the_logs_where_the_record_has_none(failed, write_record):
    del failed["crashes"]
    output = write_record(failed)
    logs = output / "logs" / "20260102-030405_abc"
    logs.mkdir(parents=True)
    (logs / "crash-1.txt").write_text(CRASH)
    (logs / "crash-2.txt").write_text(CRASH.replace("sub_01_run_1", "sub_01_run_10"))
    (run,) = runs_of(output, "01")
    assert [crash.step for crash in run.crashes] == ["background remove"]
    assert run.crashes[0].message == "ValueError: nothing left of the mask"
    assert "Crash text of background remove" in report(output)


def test_a_failed_run_of_which_nothing_is_known_misses_every_step(write_record):
    text = report(
        write_record(
            {
                "run": "sub-01_run-1",
                "status": "failed",
                "errors": [error("Phase is missing.")],
                "steps": [],
            }
        )
    )
    assert text.count("Not made: ") == 6
    assert "do not use" in text


def test_a_run_without_a_record_is_made_up_from_its_sidecars(record, write_record):
    output = write_record(record)
    figures = output / "sub-01" / "figures"
    next(figures.glob("*_record.json")).unlink()
    anat = output / "sub-01" / "anat"
    anat.mkdir()
    sidecar = {"ProcessingSteps": record["steps"], "ProcessingSoftware": record["software"]}
    (anat / "sub-01_run-1_R2starmap.json").write_text(json.dumps(sidecar))
    (anat / "sub-01_run-1_Chimap.json").write_text(json.dumps(sidecar))
    (anat / "sub-01_run-2_R2starmap.json").write_text(json.dumps(sidecar))
    (anat / "sub-01_run-3_R2starmap.json").write_text("[" * 10**5)
    first, second, third = runs_of(output, "01")
    assert first.succeeded and first.run == "sub-01_run-1" and first.warnings == (REBUILT,)
    assert [step.stage for step in first.steps][-2:] == ["inversion", "reference"]
    (shown,) = next(step.figures for step in first.steps if step.stage == "inversion")
    assert shown.data and not first.more_figures
    assert not second.succeeded and [error.message for error in second.errors] == [NO_MAP]
    assert "sub-01_run-3_R2starmap.json cannot be read" in third.warnings[1].text and not third.succeeded
    assert "0.0125 ± 0.0375 ppm" in report(output)
    assert subjects_of(output) == ["01"]


def test_subjects_are_those_of_whom_something_is_left(record, write_record, tmp_path):
    write_record(record)
    (tmp_path / "sub-empty" / "figures").mkdir(parents=True)
    anat = tmp_path / "sub-10" / "ses-2" / "anat"
    anat.mkdir(parents=True)
    (anat / "sub-10_ses-2_Chimap.json").write_text("{}")
    assert subjects_of(tmp_path) == ["01", "10"]
