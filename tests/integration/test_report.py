"""The report of real runs: of one that succeeded, one that failed midway, one that was stopped, and from leftovers."""

import json
import re
import shutil

import pytest
from rewording import foreign, reworded, skeleton

from qsmprep.app import application
from qsmprep.app.sidecars import scan_behind
from qsmprep.cli.run import main
from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.options import SimulationOptions
from qsmprep.report.checklist import checklist
from qsmprep.report.subject import runs_of
from qsmprep.report.tables import tables_text


@pytest.fixture(scope="module")
def coarse_head(tmp_path_factory):
    """A simulated head at 5 mm, five echoes."""
    return simulate(tmp_path_factory.mktemp("coarse") / "bids", SimulationOptions(voxel_size="5"))


@pytest.fixture(scope="module")
def done(coarse_head, tmp_path_factory, run_qsmprep):
    """A run with two inversions that came to its end."""
    out = tmp_path_factory.mktemp("report") / "out"
    found = run_qsmprep(coarse_head, out, "--pipeline", "fast", "--inversion", "rts", "tkd", "--skip-bids-validation")
    assert found.status == 0, found.stderr
    return found


def page(done):
    return (done.out / "sub-01.html").read_text("utf-8")


def reports_only(done, coarse_head):
    assert main([str(coarse_head), str(done.out), "participant", "--reports-only", "-w", str(done.work)]) == 0
    return page(done)


@pytest.fixture
def copy_of(done, tmp_path):
    """The run's output folder to spoil, without its work folder."""
    out = shutil.copytree(done.out, tmp_path / "out")
    return type(done)(done.bids, out, tmp_path / "no-such-work", 0, "", "")


def test_a_report_has_its_comparisons_histograms_numbers_and_checklist(done):
    text = page(done)
    assert text.count('<figure class="compare"') == 4
    assert text.count('<polygon class="area"') >= 6
    assert re.search(r'class="badge (ok|warned|failed)"[^>]*>(usable|check|do not use)', text)
    assert "not measured" not in text and "whole_brain" in text
    assert "is not in the figures folder" not in text and "Not made: " not in text
    assert re.search(r"<td>2\.e</td><th scope=\"row\">[^<]*</th><td><span[^>]*>not met", text)
    pictures = {path.name for path in (done.out / "sub-01/figures").glob("*.png")}
    record = json.loads((done.out / "sub-01/figures/sub-01_record.json").read_text("utf-8"))
    assert pictures == {figure["file"] for step in record["steps"] for figure in step["figures"]}
    assert record["crashes"] == [] and {step["stage"] for step in record["planned"]} >= {"mask", "inversion"}


def test_a_report_is_made_again_from_the_output_folder_alone(done, copy_of, coarse_head):
    before = page(copy_of)
    (copy_of.out / "sub-01.html").unlink()
    assert reports_only(copy_of, coarse_head) == before


def test_a_report_is_made_from_maps_and_pictures_without_a_record_or_logs(copy_of, coarse_head):
    (copy_of.out / "sub-01/figures/sub-01_record.json").unlink()
    shutil.rmtree(copy_of.out / "logs")
    text = reports_only(copy_of, coarse_head)
    assert "The record of this run is missing" in text
    assert text.count('<figure class="compare"') == 4 and "V-SHARP" in text
    assert 'class="badge failed">failed' not in text, "all maps are there"


def reword_in_place(out):
    """Say every text of the JSON files of an output folder in other words."""
    for path in out.glob("sub-*/**/*.json"):
        path.write_text(json.dumps(reworded(json.loads(path.read_text("utf-8")))), "utf-8")


def test_in_other_words_report_tables_and_group_page_are_the_same(copy_of, coarse_head):
    def made():
        group = [str(coarse_head), str(copy_of.out), "group"]
        text = reports_only(copy_of, coarse_head)
        assert main(group) == 0
        tables = [line.split("\t") for line in (copy_of.out / "group_qc.tsv").read_text("utf-8").splitlines()]
        (run,) = runs_of(copy_of.out, "01")
        return {
            "report": skeleton(text),
            "group": skeleton((copy_of.out / "group.html").read_text("utf-8")),
            "numbers": [row[5:] for row in tables],  # the scanner's name stands before
            "checklist": [(item.id, item.status) for item in checklist(run)],
            "lines": tables_text(run).count("\n"),
            "scan": scan_behind(copy_of.out / "sub-01" / "fmap" / "sub-01_desc-local_fieldmap.nii.gz"),
        }

    before = made()
    reword_in_place(copy_of.out)
    after = made()
    title = "weighted averaging of the unwrapped echoes"
    assert foreign(title) in page(copy_of) and title not in page(copy_of)
    assert after == before
    assert before["scan"].centre_frequency_mhz and len(before["scan"].echo_times_s) == 5


def test_a_run_that_fails_midway_tells_how_far_it_came_and_why(coarse_head, done, tmp_path, run_qsmprep):
    work = shutil.copytree(done.work, tmp_path / "work")
    found = run_qsmprep(
        coarse_head, tmp_path / "out", "--pipeline", "fast", "--reference", "csf", "--reference-csf-r2star", "0.1",
        "--skip-bids-validation", work=work,
    )  # fmt: skip
    assert found.status == 1
    shutil.rmtree(work)
    text = reports_only(found, coarse_head)
    assert text.index("Background field removal</h3>") < text.index("Not made: reference of susceptibility")
    assert "voxels of ventricular cerebrospinal fluid were found" in text
    assert "Traceback (most recent call last)" in text
    assert re.search(r'class="badge failed"[^>]*>do not use', text)
    assert "desc-chi_Chimap.png is not in the figures folder" in text


def test_a_run_that_is_stopped_still_leaves_its_report(coarse_head, done, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(application, "execute", stop)
    out, work = tmp_path / "out", shutil.copytree(done.work, tmp_path / "work")
    command = [str(coarse_head), str(out), "participant", "-w", str(work), "--pipeline", "fast", "--inversion", "rts",
               "tkd", "--skip-bids-validation"]  # fmt: skip
    assert main(command) == 130
    text = (out / "sub-01.html").read_text("utf-8")
    assert "stopped before its end (KeyboardInterrupt)" in text
    assert "V-SHARP" in text and "failed" in text
