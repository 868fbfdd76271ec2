"""A work folder that was damaged or purged heals, and nothing in it is executed."""

from __future__ import annotations

import json
import logging
import os
import pickle
from itertools import pairwise
from pathlib import Path

import pytest
from nipype import Workflow
from nipype.interfaces.utility import Function, IdentityInterface, Merge

from qsmprep.engine.inprocess import InProcess
from qsmprep.engine.node import RESULT_FILE, Damaged, Node, check_files, damage_of, read_result
from qsmprep.engine.pool import ProcessPool


def _double(source, text=""):
    import os

    with open(source) as stream, open("made.txt", "w") as made:
        made.write(2 * (stream.read() + text))
    return os.path.abspath("made.txt"), [1.5, None, {"a": "b"}]


def _odd():
    return {1, 2}


def node(name, **inputs):
    interface = Function(input_names=["source", "text"], output_names=["made", "numbers"], function=_double)
    made = Node(interface, name=name, mem_gb=0.1, n_procs=1)
    made.inputs.trait_set(**inputs)
    return made


class Chain:
    """first -> second -> third, each doubling a text."""

    def __init__(self, folder: Path):
        self.folder, self.source = folder, folder / "source.txt"
        self.source.write_text("ab")

    def run(self, plugin=InProcess, text="") -> set[str]:
        """Run the graph; names of the nodes that were computed."""
        nodes = [node("first", source=str(self.source)), node("second", text=text), node("third")]
        graph = Workflow("graph", base_dir=str(self.folder / "work"))
        graph.config["execution"] = {"create_report": "false", "crashdump_dir": str(self.folder)}
        graph.connect([(a, b, [("made", "source")]) for a, b in pairwise(nodes)])
        args = {"n_procs": 2, "memory_gb": 1}
        done = plugin(plugin_args=args)
        graph.run(plugin=done)
        assert self.of("third").joinpath("made.txt").read_text() == 2 * (2 * (2 * self.source.read_text() + text))
        return {timing.node.removeprefix("graph.") for timing in done.timings if not timing.cached}

    def of(self, name: str) -> Path:
        return self.folder / "work" / "graph" / name


@pytest.fixture
def chain(tmp_path) -> Chain:
    made = Chain(tmp_path)
    assert made.run() == {"first", "second", "third"}
    assert made.run() == set()
    return made


def _flip(path):
    there = os.stat(path)
    content = bytearray(path.read_bytes())
    content[1] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(there.st_atime_ns, there.st_mtime_ns))


DAMAGE = {
    "made.txt is gone": lambda folder: (folder / "made.txt").unlink(),
    "made.txt has 0 bytes": lambda folder: (folder / "made.txt").write_bytes(b""),
    "made.txt was changed after": lambda folder: os.utime(folder / "made.txt"),
    "its checksum differs": lambda folder: _flip(folder / "made.txt"),
    "result.json is damaged": lambda folder: os.truncate(folder / RESULT_FILE, 60),
    "result.json has format 99": lambda folder: (folder / RESULT_FILE).write_text('{"format": 99}'),
    "result.json is no file of": lambda folder: ((folder / RESULT_FILE).unlink(), os.mkfifo(folder / RESULT_FILE)),
}


@pytest.mark.parametrize("told", DAMAGE)
def test_a_damaged_node_is_computed_again_with_one_line_and_what_it_led_to_stays(chain, caplog, told):
    DAMAGE[told](chain.of("second"))
    with caplog.at_level(logging.WARNING, "qsmprep.engine"):
        computed = chain.run()
    (line,) = caplog.messages
    assert line.startswith("graph.second: ") and told in line and line.endswith("; computed again.")
    # A result that cannot be read tells no time for the file that came out the same.
    assert computed == {"second"} if "made" in told or "checksum" in told else {"second", "third"}
    caplog.clear()
    assert chain.run() == set() and caplog.messages == []


@pytest.mark.parametrize("garbage", ["[]", "null", '{"format": 1}', "[" * 100_000, "\x00\xff", ""])
def test_a_result_of_any_other_content_is_damaged_not_a_crash(chain, garbage):
    (chain.of("first") / RESULT_FILE).write_text(garbage)
    with pytest.raises(Damaged):
        read_result(chain.of("first"))
    assert "first" in chain.run()


def test_a_folder_that_was_purged_or_never_finished_is_computed_again(chain, caplog):
    for name in ("made.txt", RESULT_FILE):
        (chain.of("first") / name).unlink()
    (chain.of("third") / RESULT_FILE).unlink()
    assert chain.run() >= {"first", "third"}
    assert chain.run() == set()


def test_a_work_folder_that_was_moved_vouches_for_nothing(chain):
    os.rename(chain.folder / "work", chain.folder / "elsewhere")
    moved = chain.folder / "elsewhere" / "graph" / "first"
    assert damage_of(moved) == f"result.json is that of another folder, {chain.of('first')}"
    assert chain.run() == {"first", "second", "third"}


def test_other_inputs_are_computed_again(chain):
    assert chain.run(text="c") == {"second", "third"}
    chain.source.write_text("abc")
    assert chain.run(text="c") == {"first", "second", "third"}


def test_other_inputs_that_give_the_same_files_cost_no_node_after_them(chain):
    os.utime(chain.source)
    assert chain.run() == {"first"}
    assert chain.run() == set()


class Planted:
    def __init__(self, sign: Path):
        self.sign = sign

    def __reduce__(self):
        return (Path.touch, (self.sign,))


@pytest.mark.parametrize("plugin", [InProcess, ProcessPool])
def test_no_file_of_the_work_folder_is_unpickled(chain, plugin):
    sign = chain.folder / "executed"
    assert not list((chain.folder / "work").rglob("*.pkl*"))
    planted = pickle.dumps(Planted(sign))
    for name in ("first", "second", "third"):
        for file in (f"result_{name}.pklz", "_node.pklz", "_inputs.pklz", "_0x00.json", RESULT_FILE):
            if file != RESULT_FILE or name == "second":
                (chain.of(name) / file).write_bytes(planted)
    assert "second" in chain.run(plugin)
    assert not sign.exists()


def test_a_failed_node_leaves_no_result(tmp_path):
    broken = node("broken", source=str(tmp_path / "nothing.txt"))
    broken.base_dir = str(tmp_path)
    with pytest.raises(RuntimeError, match="FileNotFoundError"):
        broken.run()
    assert broken.result.outputs is None
    assert damage_of(tmp_path / "broken") == f"{tmp_path}/broken/{RESULT_FILE} is missing"


def test_outputs_come_back_as_they_were(chain):
    made = read_result(chain.of("first"))
    assert made.outputs == {"made": str(chain.of("first") / "made.txt"), "numbers": [1.5, None, {"a": "b"}]}
    assert list(made.files) == ["made.txt"]
    check_files(chain.of("first"), made)


def test_an_output_that_json_does_not_know_is_refused(tmp_path):
    odd = Node(Function(output_names=["out"], function=_odd), name="odd", base_dir=str(tmp_path))
    with pytest.raises(TypeError, match=r"output 'out' cannot be kept: a result of type set"):
        odd.run()
    assert not (tmp_path / "odd" / RESULT_FILE).exists()


def test_nodes_that_hand_on_files_of_others_vouch_for_none(tmp_path):
    file = tmp_path / "x.txt"
    file.write_text("x")
    merge = Node(Merge(2), name="merge", base_dir=str(tmp_path))
    merge.inputs.trait_set(in1=str(file), in2=str(file))
    assert merge.run().outputs.out == [str(file), str(file)]
    same = Node(IdentityInterface(["a", "b"], mandatory_inputs=False), name="same", base_dir=str(tmp_path))
    same.inputs.a = 3
    assert same.run().outputs.a == 3
    document = json.loads((tmp_path / "merge" / RESULT_FILE).read_text())
    assert document["outputs"] == {"out": [str(file), str(file)]} and document["files"] == {}
