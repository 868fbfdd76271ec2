"""The report reads codes and keys: said in other words, the same run gives the same page but for the words."""

import copy
import json

import pytest
from documents import error, facts, note, warning
from rewording import foreign, reworded, skeleton

from qsmprep.report.checklist import checklist
from qsmprep.report.page import write_subject_report
from qsmprep.report.quality import read_quality
from qsmprep.report.record import parse_run
from qsmprep.report.tables import reconstruction_lines, tables_text
from qsmprep.report.views import run_view

LOST = "sub-01_run-1_desc-r2star_R2starmap.png"  # a picture that was not drawn


@pytest.fixture
def full(record):
    """A record in which everything is said that a report may ask about."""
    by_stage = {step["stage"]: step for step in record["steps"]}
    by_stage["input"]["warnings"] = [warning("phase-filtered", "The phase looks high-pass filtered.")]
    by_stage["input"]["notes"] += [note("phase-scaling", "Phase to radians: kept."), note("b0-direction", "Given.")]
    by_stage["background"]["facts"] = facts(share_kept=81.0, half_turn_pairs=3)
    by_stage["inversion"]["facts"] += facts(
        network="mine", network_weights="mine.safetensors", network_sha256=32 * "ab", network_statement="Trained.",
        network_adapted_by="fine",
    )  # fmt: skip
    by_stage["inversion"] |= {"curve": [3.0, 2.0, 1.0], "curve_name": "change of chi (%)"}
    again = {**copy.deepcopy(by_stage["reference"]), "title": "the mean of the brain (tkd)", "label": "tkd"}
    joined = {
        "stage": "background-mask",
        "method": "joined",
        "title": "the overlap, holes filled",
        "figures": [],
    }
    fit = {"stage": "relaxometry", "method": "arlo", "title": "ARLO", "facts": facts(median_r2star=80.0)}
    lost = {"file": LOST, "caption": "R2*."}
    record["steps"] += [again, {**joined, "facts": facts(holes_filled=True)}, {**fit, "figures": [lost]}]
    record["warnings"] += [warning("image-type-filtered", "sub-01: ImageType holds SWI."),
                           by_stage["unwrapping"]["warnings"][0]]  # fmt: skip
    record["acquisition"]["station"] = {"value": "MR1", "unit": "", "text": "MR1", "source": "sidecar StationName"}
    record["crashes"] = [{"step": "figures r2star", "message": "No room: full", "text": "Trace\n", "picture": "r2star"}]
    return record


def failed(record):
    """The same run, come to grief in background removal."""
    planned = [{"stage": step["stage"], "title": step["title"]} for step in record["steps"]]
    steps = [step for step in record["steps"] if step["stage"] in ("input", "mask", "unwrapping")]
    crash = {"step": "background remove", "message": "nothing left: empty", "text": "Trace\n", "picture": ""}
    return {**record, "status": "failed", "errors": [error("nothing left: empty", "background remove")],
            "steps": steps, "planned": planned, "crashes": [*record["crashes"], crash]}  # fmt: skip


@pytest.mark.parametrize("spoil", [lambda record: record, failed], ids=["ended", "failed"])
def test_the_page_is_the_same_but_for_the_words(full, write_record, spoil):
    record = spoil(full)
    pages = []
    for document in (record, reworded(record)):
        output = write_record(document)
        (output / "sub-01/figures" / LOST).unlink(missing_ok=True)
        pages.append(write_subject_report(output, "01").read_text("utf-8"))
    assert foreign("ROMEO") in pages[1] and "ROMEO" in pages[0]
    assert skeleton(pages[0]) == skeleton(pages[1])


def test_the_page_made_from_sidecars_is_the_same_but_for_the_words(full, write_record):
    output = write_record(full)
    next((output / "sub-01/figures").glob("*_record.json")).unlink()
    anat = output / "sub-01" / "anat"
    anat.mkdir()
    sidecar = {"ProcessingSteps": full["steps"], "ProcessingSoftware": full["software"], "Description": "A map."}
    pages = []
    for document in (sidecar, reworded(sidecar)):
        (anat / "sub-01_run-1_Chimap.json").write_text(json.dumps(document))
        pages.append(write_subject_report(output, "01").read_text("utf-8"))
    assert skeleton(pages[0]) == skeleton(pages[1])


def test_verdicts_tables_and_counts_are_the_same(full, tmp_path):
    runs = [parse_run(document) for document in (full, reworded(full))]
    verdicts = [[(item.id, item.text, item.status) for item in checklist(run)] for run in runs]
    assert verdicts[0] == verdicts[1]
    assert len({status for _, _, status in verdicts[0]}) == 4
    found = [[(line.item, len(line.values), line.available) for line in reconstruction_lines(run)] for run in runs]
    assert found[0] == found[1]
    tables = [[line.split("\t")[:2] for line in tables_text(run).splitlines()] for run in runs]
    assert tables[0] == tables[1]
    told = [[warning.code for _, warning in run.all_warnings()] for run in runs]
    assert told[0] == told[1] and len(told[0]) == len(set(told[0])) == 4
    quality = read_quality(tmp_path / "none.json")
    views = [run_view(1, run, quality, ()) for run in runs]
    before, after = ({key: view[key] for key in ("id", "duration", "started", "counted")} for view in views)
    assert before == after
    plots = [[(step["stage"], step["plot"] and step["plot"].points) for step in view["steps"]] for view in views]
    assert plots[0] == plots[1]


def test_the_methods_text_cites_the_same(full):
    from qsmprep.report.methods import methods_prose

    before, after = (methods_prose([document]) for document in (full, reworded(full)))
    assert before.citation_keys() == after.citation_keys()
    assert [len(block.pieces) for block in before.blocks] == [len(block.pieces) for block in after.blocks]
