"""`qsmprep-tools weights` as a user meets it."""

import json
import re

import pytest
import torch
from safetensors.torch import save_file

from qsmprep.cli.tools import main
from qsmprep.nets.network import Network, build_module
from qsmprep.nets.spec import Channel, NetworkSpec, to_document
from qsmprep.nets.unet_spec import UnetSpec
from qsmprep.weights import search
from qsmprep.weights.store import load_network, save_network

SPEC = NetworkSpec("small", "inversion", UnetSpec(width=2, levels=1), (Channel("tissue-field"),), (Channel("chi"),))
FACTS = {"licence": "Apache-2.0", "statement": "trained by a test", "domain": "simulated heads"}


@pytest.fixture
def mine(tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.setenv("QSMPREP_WEIGHTS", str(folder))
    monkeypatch.setattr(search, "shipped_folder", lambda: tmp_path / "none")
    return folder


@pytest.fixture
def foreign(tmp_path):
    """A file of tensors without a card, and a description."""
    module = build_module(SPEC)
    tensors = {name: t.contiguous() for name, t in module.state_dict().items() if "num_batches" not in name}
    save_file(tensors, tmp_path / "theirs.safetensors")
    (tmp_path / "spec.json").write_text(json.dumps(to_document(SPEC)))
    return tmp_path / "theirs.safetensors", tmp_path / "spec.json", module


def run(*words):
    return main(["weights", *map(str, words)])


def test_list_tells_what_there_is_and_what_is_broken(mine, capsys):
    assert run("list") == 0
    assert "No weights" in capsys.readouterr().out
    save_network(Network(SPEC, build_module(SPEC)), mine / "small", facts=FACTS)
    (mine / "broken.safetensors").write_bytes(b"x")
    assert run("list") == 0
    out = capsys.readouterr().out
    for text in ("small", "inversion", "QSMPREP_WEIGHTS", "simulated heads", "broken", "bad card"):
        assert text in out


def test_check_tells_good_from_bad_by_its_status(mine, capsys):
    path = save_network(Network(SPEC, build_module(SPEC)), mine / "small", facts=FACTS)
    assert run("check", "small", path) == 0
    assert capsys.readouterr().out.count("good: ") == 2
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert run("check", "small", mine / "none.safetensors") == 1
    assert capsys.readouterr().err.count("bad: ") == 2


def test_imported_tensors_are_the_given_ones(mine, foreign, capsys):
    file, spec, module = foreign
    assert run("import", "--kind", "safetensors", file, "--spec", spec) == 0
    assert "good: " in capsys.readouterr().out
    network = load_network("theirs")
    assert network.spec.name == "theirs" and "knows nothing of its training" in network.card["statement"]
    assert torch.equal(network.module.out.weight, module.out.weight)
    assert run("import", "--kind", "safetensors", file, "--spec", spec) == 2
    assert "already holds theirs" in capsys.readouterr().err


def test_import_needs_somewhere_to_write(foreign, monkeypatch, tmp_path, capsys):
    file, spec, _ = foreign
    monkeypatch.delenv("QSMPREP_WEIGHTS", raising=False)
    assert run("import", "--kind", "safetensors", file, "--spec", spec) == 2
    assert "--out" in capsys.readouterr().err
    assert run("import", "--kind", "safetensors", file, "--spec", spec, "--out", tmp_path / "o", "--name", "n1.0") == 0
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["n1.0.json", "n1.0.safetensors"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kind", "safetensors"], "needs --spec"),
        (["--kind", "onnx"], "needs --spec"),
        (["--kind", "modl-qsm", "--spec", "SPEC"], "takes no --spec"),
        (["--kind", "modl-qsm"], "not a file of Keras weights"),
        (["--kind", "chi-sepnet"], "holds 40 tensors; the published U-net has 118"),
        (["--kind", "modl-qsm", "--network", "qsmnet-me"], "--network"),
        (["--kind", "safetensors", "--spec", "SPEC", "--name", "../x"], "cannot name weights"),
        (["--kind", "safetensors", "--spec", "SPEC", "--factors", "SPEC"], "takes no --factors"),
        (["--kind", "safetensors", "--spec", "FILE"], "theirs.safetensors"),
        (["--kind", "onnx", "--spec", "SPEC"], "theirs.safetensors|qsmprep.onnx."),
    ],
)
def test_what_cannot_be_imported_is_told_and_leaves_nothing(mine, foreign, capsys, options, message):
    file, spec, _ = foreign
    places = {"SPEC": spec, "FILE": file}
    assert run("import", file, *(places.get(option, option) for option in options)) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not list(mine.iterdir())


def test_a_checkpoint_is_imported_under_its_name_without_suffixes(mine, tmp_path, capsys):
    spec = NetworkSpec("q", "inversion", UnetSpec(width=2), (Channel("tissue-field"),), (Channel("chi"),))
    torch.save({"state_dict": build_module(spec).state_dict()}, tmp_path / "QSMnet.pth.tar")
    assert run("import", "--kind", "chi-sepnet", "--network", "qsmnet-me", tmp_path / "QSMnet.pth.tar") == 0
    assert load_network("QSMnet").spec.outputs[0].quantity == "chi"
