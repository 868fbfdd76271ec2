"""`qsmprep BIDS_DIR OUTPUT_DIR group` as a user meets it: exit status, files, messages."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

from qsmprep.bids.outputs import BIDSIGNORE
from qsmprep.cli.run import main

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "group.py"


@pytest.fixture
def study(tmp_path):
    spec = importlib.util.spec_from_file_location("of_test_cli_group", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    module.write_study(tmp_path / "bids", tmp_path / "out", subjects=5)
    return tmp_path / "bids", tmp_path / "out"


def group(*words):
    return main([*map(str, words[:2]), "group", *map(str, words[2:])])


def test_writes_page_and_tables_and_nothing_else(study, capsys, tmp_path, monkeypatch):
    bids, out = study
    monkeypatch.chdir(tmp_path)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert group(bids, out) == 0
    after = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    names = {"group.html", "group_qc.tsv", "group_qc.json", "group_roi.tsv", "group_roi.json", ".bidsignore"}
    methods = {f"logs/CITATION.{ending}" for ending in ("md", "bib", "html")}
    assert after == {out / name for name in names | methods}
    told = capsys.readouterr()
    assert "7 runs of 5 subjects" in told.out and "1 participants without results: sub-006" in told.err


def test_again_gives_the_same_bytes(study):
    bids, out = study
    group(bids, out)
    first = {path.name: path.read_bytes() for path in out.glob("group*")}
    assert group(bids, out) == 0
    assert {path.name: path.read_bytes() for path in out.glob("group*")} == first


def test_an_earlier_bidsignore_learns_of_the_new_files(study):
    bids, out = study
    (out / ".bidsignore").write_text("mine\nfigures\n")
    group(bids, out)
    lines = (out / ".bidsignore").read_text().splitlines()
    assert lines[0] == "mine" and set(BIDSIGNORE) <= set(lines) and len(lines) == len(set(lines))
    assert "group_*" in lines


def test_some_subjects_only(study):
    bids, out = study
    assert group(bids, out, "--participant-label", "sub-001", "002") == 0
    table = (out / "group_qc.tsv").read_text().splitlines()
    assert {line.split("\t")[1] for line in table[1:]} == {"sub-001", "sub-002"}
    assert group(bids, out, "--session-label", "2") == 0
    assert {line.split("\t")[2] for line in (out / "group_qc.tsv").read_text().splitlines()[1:]} == {"2"}


@pytest.mark.parametrize("what", ["no folder", "empty", "no such subject", "no dataset"])
def test_nothing_to_show_is_an_error_that_says_what_to_do(study, tmp_path, capsys, what):
    bids, out = study
    (tmp_path / "empty").mkdir()
    words = {
        "no folder": (bids, tmp_path / "nothing"),
        "empty": (bids, tmp_path / "empty"),
        "no such subject": (bids, out, "--participant-label", "nobody"),
        "no dataset": (tmp_path / "nothing", out),
    }[what]
    assert group(*words) == 2
    told = capsys.readouterr().err
    assert told.startswith("qsmprep: ") and "Traceback" not in told
    assert ("participant first" in told) == (what != "no dataset")
    assert not list((tmp_path / "empty").iterdir()) and not (tmp_path / "nothing").exists()


def test_a_folder_that_cannot_be_written_is_a_failure(study, capsys):
    bids, out = study
    (out / "group.html").mkdir()
    assert group(bids, out) == 1
    assert "group.html" in capsys.readouterr().err
    assert not list(out.glob(".*.part"))


def test_a_table_that_an_earlier_command_left_is_not_used(study, capsys):
    bids, out = study
    record = next(out.glob("sub-001/**/*_record.json"))
    name = record.name.removesuffix("_record.json")
    (table,) = out.glob(f"sub-001/**/{name}_desc-roi_stats.tsv")
    os.utime(table, (0, 0))
    assert group(bids, out) == 0
    assert not [line for line in (out / "group_roi.tsv").read_text().splitlines() if line.split("\t")[0] == name]
    assert [line for line in (out / "group_qc.tsv").read_text().splitlines() if line.split("\t")[0] == name]
    told = capsys.readouterr().err
    assert f"{table.relative_to(out)} was left out: it is of an earlier command than the maps" in told


def test_numbers_that_a_failed_run_left_from_an_earlier_command_are_not_used(study, capsys):
    bids, out = study
    path = next(out.glob("sub-001/**/*_record.json"))
    name = path.name.removesuffix("_record.json")

    def lines():
        assert group(bids, out) == 0
        return [line for line in (out / "group_roi.tsv").read_text().splitlines() if line.split("\t")[0] == name]

    assert lines()
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "status": "failed", "errors": [{"step": "", "message": "phase is missing"}]}))
    assert not lines()
    assert f"{name} was left out: its last command failed" in capsys.readouterr().err
