"""What every node shares: its cache key, its record, and what travels with the images."""

import dataclasses
import json
import sys
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest

from qsmprep import registry
from qsmprep.engine import iterations
from qsmprep.findings import Fact, Note, Warning, read_facts, read_notes, read_warnings
from qsmprep.interfaces import background, field, inversion, masking, phase, relaxometry, unwrap
from qsmprep.interfaces.images import read_mask, read_volume, write_volume
from qsmprep.interfaces.step import MethodStep, Record, Step, plain, records_behind

MODULES = (background, field, inversion, masking, phase, relaxometry, unwrap)
STEPS = [
    kind
    for module in MODULES
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Step) and kind not in (Step, MethodStep)
]


@pytest.mark.parametrize("kind", STEPS, ids=lambda kind: kind.__name__)
def test_the_code_of_a_step_is_part_of_its_cache_key(kind):
    one, other = kind(), kind(algo_version="another")
    assert one.inputs.get_hashval()[1] != other.inputs.get_hashval()[1]
    assert one.inputs.algo_version and other.inputs.algo_version == "another"


@pytest.mark.parametrize("kind", STEPS, ids=lambda kind: kind.__name__)
def test_threads_and_device_do_not_change_the_cache_key(kind):
    node = kind()
    before = node.inputs.get_hashval()[1]
    node.inputs.num_threads = 7
    if issubclass(kind, MethodStep):
        node.inputs.device = "cuda"
    assert node.inputs.get_hashval()[1] == before


@pytest.mark.parametrize("shape", [(4, 5, 6), (3, 4, 5, 6)])
def test_images_come_back_as_they_were_written(tmp_path, shape):
    from qsmprep.interfaces.images import Grid

    affine = np.array([[0, -2.0, 0, 1], [1.5, 0, 0, 2], [0, 0, 3.0, 3], [0, 0, 0, 1]])
    array = np.random.default_rng(0).random(shape, dtype=np.float32)
    path = write_volume(tmp_path / "x.nii", array, Grid((4, 5, 6), affine))
    assert np.array_equal(read_volume(path), array)
    assert np.allclose(nib.load(path).affine, affine)


def test_a_trailing_axis_of_one_is_no_echo_axis(tmp_path):
    nib.Nifti1Image(np.ones((4, 5, 6, 1), np.uint8), np.eye(4)).to_filename(tmp_path / "mask.nii")
    assert read_mask(tmp_path / "mask.nii").shape == (4, 5, 6)


def test_records_travel_with_the_files_each_once(tmp_path):
    for name, before in (("a", []), ("b", ["a"]), ("c", ["a", "b"])):
        (tmp_path / name).mkdir()
        steps = [{"stage": s, "method": "x"} for s in before]
        document = {"record": {"stage": name, "method": "x"}, "before": steps}
        (tmp_path / name / "step.json").write_text(json.dumps(document), "utf-8")
    files = [str(tmp_path / name / "out.nii") for name in ("b", "c")]
    assert [record["stage"] for record in records_behind(files)] == ["a", "b", "c"]


def test_records_are_plain_json():
    value = {"a": np.float32(0.1), "b": (np.int64(2), True), "c": float("nan"), "d": np.bool_(True)}
    assert plain(value) == {"a": 0.1, "b": [2, True], "c": None, "d": True}


class Counting(MethodStep):
    """A step of a method that counts."""

    stage = "counting"

    def _compute(self, folder):
        told, record = self._run_method(limit=3)
        record.state(Fact("told", "told", "", told))
        return record


@pytest.fixture
def counting(monkeypatch):
    """The step `Counting`, and what it needs: a method that takes `progress` and one that does not."""
    module = ModuleType("counting")

    def count(limit, *, progress=None):
        for done in range(limit) if progress else ():
            progress(done + 1, limit)
        return progress is not None

    module.count, module.silent = count, lambda limit: None
    monkeypatch.setitem(sys.modules, "counting", module)
    rows = [registry.Method("counting", name, "counting", name, "", name) for name in ("count", "silent")]
    monkeypatch.setattr(registry, "METHODS", (*registry.METHODS, *rows))
    return Counting


def test_a_method_that_takes_progress_tells_its_iterations_to_who_runs_the_node(counting, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(iterations, "INTERVAL_S", 0.0)
    told = []
    counting(method="count", algo_version="x").run()
    with iterations.told_to(told.append):
        counting(method="count", algo_version="x").run()
        counting(method="silent", algo_version="x").run()
    assert told == [iterations.Iterations(1, 3), iterations.Iterations(2, 3), iterations.Iterations(3, 3)]


def test_progress_does_not_change_the_cache_key(counting):
    node = counting(method="count", algo_version="x")
    before = node.inputs.get_hashval()[1]
    with iterations.told_to(print):
        assert node.inputs.get_hashval()[1] == before
    assert "progress" not in node.inputs.trait_get()


def test_a_cap_that_was_hit_is_a_warning():
    from qsmprep.numerics.convergence import Convergence

    record = Record("inversion", "x", "X")
    record.add_convergence(Convergence(20, False, (0.5, 0.1), "change", 1.0))
    assert [warning.code for warning in record.warnings] == ["iteration-cap"]
    assert {fact.key: fact.value for fact in record.facts}["final_change"] == 0.1


def test_a_step_states_a_fact_once_and_cites_what_there_is():
    record = Record("inversion", "x", "X")
    record.state(Fact("size", "size", "mm", 1.0))
    with pytest.raises(ValueError, match="'size' twice"):
        record.state(Fact("size", "size", "mm", 2.0))
    with pytest.raises(ValueError, match="nobody1900"):
        record.cite("nobody1900")
    with pytest.raises(ValueError, match="nobody1900"):
        Record("inversion", "x", "X", ["nobody1900"])


def test_what_a_step_tells_is_plain_json_and_comes_back():
    record = Record("inversion", "x", "X")
    told = Fact("matrix", "matrix", "mm", [[1.0, 0.5]]), Warning("a-code", "Text.", "Remedy."), Note("b", "Noted.")
    record.state(told[0])
    record.warn(told[1])
    record.note(told[2])
    document = json.loads(json.dumps(plain(dataclasses.asdict(record))))
    assert document["facts"] == [{"key": "matrix", "label": "matrix", "unit": "mm", "value": [[1.0, 0.5]]}]
    assert document["warnings"] == [{"code": "a-code", "text": "Text.", "remedy": "Remedy."}]
    assert document["notes"] == [{"code": "b", "text": "Noted."}]
    read = read_facts(document["facts"]), read_warnings(document["warnings"]), read_notes(document["notes"])
    assert tuple(found for (found,) in read) == told
