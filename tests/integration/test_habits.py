"""A run as a user of fMRIPrep asks for it."""

import json

import pytest

from qsmprep.app import graph_drawing
from qsmprep.phantom.dataset import simulate
from qsmprep.phantom.options import SimulationOptions


def test_a_sloppy_run_says_so_and_keeps_what_it_took(tmp_path, run_qsmprep):
    bids = simulate(tmp_path / "bids", SimulationOptions(voxel_size="7"))
    flags = ("--sloppy", "--resource-monitor", "--write-graph", "--md-only-boilerplate", "--notrack")
    done = run_qsmprep(bids, tmp_path / "out", *flags, "--skip-bids-validation")
    assert done.status == 0, done.stderr
    record = json.loads((done.out / "sub-01" / "figures" / "sub-01_record.json").read_text("utf-8"))
    assert "sloppy" in [warning["code"] for warning in record["warnings"]]
    quality = json.loads(next(done.out.glob("sub-01/anat/*_qc.json")).read_text("utf-8"))
    assert quality["verdict"] == "do not use"
    steps = {step["step"]: step for step in record["resources"]["steps"]}
    assert any("invert" in name for name in steps) and record["resources"]["samples"]
    page = (done.out / "sub-01.html").read_text("utf-8")
    assert "A sloppy run is made to see whether" in page and "Memory and time" in page
    assert [path.name for path in (done.out / "logs").glob("CITATION*")] == ["CITATION.md"]
    assert "digraph" in next(done.out.glob("logs/*/sub_01_graph.dot")).read_text("utf-8")


@pytest.mark.parametrize("found", [None, "false"])
def test_a_graph_that_cannot_be_drawn_is_told_and_stops_nothing(tmp_path, caplog, monkeypatch, found):
    from nipype.interfaces.utility import IdentityInterface
    from nipype.pipeline.engine import Node, Workflow

    workflow = Workflow("sub_01")
    workflow.add_nodes([Node(IdentityInterface(["x"]), name="input")])
    monkeypatch.setattr(graph_drawing.shutil, "which", lambda _: found)
    graph_drawing.write_graphs({"sub_01": workflow}, tmp_path / "new")
    assert (tmp_path / "new" / "sub_01_graph.dot").is_file()
    assert ("Graphviz" if found is None else "dot failed") in caplog.text
