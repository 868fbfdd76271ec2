"""ONNX files are run only where they are whole, standard, and of the described network."""

import json
import sys

import numpy as np
import pytest
import torch

from qsmprep.cli.tools import main
from qsmprep.nets.network import Network, forward
from qsmprep.nets.spec import Channel, NetworkSpec, to_document
from qsmprep.nets.unet_spec import UnetSpec
from qsmprep.nets.unrolled_spec import UnrolledSpec
from qsmprep.weights.card import digest
from qsmprep.weights.onnx import OnnxModule
from qsmprep.weights.store import check_file, load_network, save_network, write_weights

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
FLOAT = onnx.TensorProto.FLOAT
FACTS = {"licence": "x", "statement": "y"}
SPEC = NetworkSpec("conv", "inversion", UnetSpec(levels=1), (Channel("tissue-field", 0.0, 0.01),),
                   (Channel("chi", 0.001, 0.03),))  # fmt: skip
KERNEL = np.random.default_rng(0).normal(size=(1, 1, 3, 3, 3)).astype(np.float32)


def model(inputs=("x",), shape=("n", 1, "a", "b", "c"), kind=FLOAT, outputs=("y",), domain="", change=None):
    """One convolution; every input after the first is added to its result."""
    make = onnx.helper
    nodes = [make.make_node("Conv", [inputs[0], "k"], ["s0"], pads=[1] * 6)]
    for place, name in enumerate(inputs[1:]):
        nodes.append(make.make_node("Add", [f"s{place}", name], [f"s{place + 1}"]))
    nodes += [make.make_node("Identity", [f"s{len(inputs) - 1}"], [name], domain=domain) for name in outputs]
    graph = make.make_graph(
        nodes,
        "graph",
        [make.make_tensor_value_info(name, kind, shape) for name in inputs],
        [make.make_tensor_value_info(name, kind, shape) for name in outputs],
        [onnx.numpy_helper.from_array(KERNEL.astype(make.tensor_dtype_to_np_dtype(kind)), "k")],
    )
    opsets = [make.make_opsetid("", 17)] + ([make.make_opsetid(domain, 1)] if domain else [])
    made = make.make_model(graph, opset_imports=opsets, ir_version=9)
    if change is not None:
        change(made)
    return made.SerializeToString()


def outside(made):
    """Its kernel in another file."""
    made.graph.initializer[0].ClearField("raw_data")
    made.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    entry = made.graph.initializer[0].external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"


def outside_constant(made):
    """A tensor of another file in an attribute of a node."""
    tensor = onnx.TensorProto(name="hidden", data_type=FLOAT, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="data.bin")
    made.graph.node.append(onnx.helper.make_node("Constant", [], ["unused"], value=tensor))


def test_an_imported_network_computes_what_the_file_says(tmp_path):
    path = write_weights(tmp_path / "conv", ".onnx", model(), SPEC, FACTS)
    network = load_network(path)
    assert isinstance(network.module, OnnxModule) and check_file(path).numbers == 0
    assert load_network(tmp_path / "conv.json").spec == SPEC
    x = torch.randn(2, 1, 5, 6, 8)
    plain = torch.nn.functional.conv3d(x, torch.as_tensor(KERNEL), padding=1)
    assert torch.allclose(network.module(x), plain, atol=1e-5)
    mask = torch.ones(2, 1, 5, 6, 8)
    found = forward(SPEC, network.module, x * 0.01, mask)
    assert torch.allclose(found, plain * 0.03 + 0.001, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": ("x", "dipole")}, "needs one input.*dipole"),
        ({"outputs": ("y", "z")}, "needs one output"),
        ({"kind": onnx.TensorProto.DOUBLE}, "needs one input|cannot be run"),
        ({"shape": ("n", 2, "a", "b", "c")}, "needs one input|cannot be run"),
        ({"shape": ("n", 1, 64, 64, 64)}, "not fixed"),
        ({"shape": (4, 1, "a", "b", "c")}, "needs one input"),
        ({"change": outside}, "keeps k in another file"),
        ({"change": outside_constant}, "keeps hidden in another file"),
        ({"domain": "com.microsoft"}, "Identity of 'com.microsoft'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_other_files_are_refused(options, message):
    with pytest.raises(ValueError, match=rf"net\.onnx.*({message})"):
        OnnxModule(model(**options), SPEC, "net.onnx")


@pytest.mark.parametrize("content", [b"", b"\x80\x04nonsense", b"nonsense" * 50, model()[:-50]])
def test_damaged_files_are_refused(content):
    with pytest.raises(ValueError, match=r"net\.onnx"):
        OnnxModule(content, SPEC, "net.onnx")


def test_an_unrolled_network_cannot_be_onnx():
    spec = NetworkSpec("v", "inversion", UnrolledSpec(kind="lpcnn"), SPEC.inputs, SPEC.outputs)
    with pytest.raises(ValueError, match="one input"):
        OnnxModule(model(), spec)


def test_a_changed_byte_is_found(tmp_path):
    path = write_weights(tmp_path / "conv", ".onnx", model(), SPEC, FACTS)
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not the file that its card describes"):
        load_network(path)


def test_the_card_says_which_file_is_meant(tmp_path):
    path = write_weights(tmp_path / "conv", ".onnx", model(), SPEC, FACTS)
    other = path.with_suffix(".safetensors")
    other.write_bytes(path.read_bytes())
    card = json.loads((tmp_path / "conv.json").read_text())
    assert card["file"] == "conv.onnx" and card["sha256"] == digest(path.read_bytes())
    with pytest.raises(ValueError, match="not a safetensors file"):
        load_network(other)


@pytest.mark.parametrize("library", ["onnx", "onnxruntime"])
def test_without_the_extra_it_is_told_what_to_install(tmp_path, monkeypatch, library):
    path = write_weights(tmp_path / "conv", ".onnx", model(), SPEC, FACTS)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ValueError, match=r"pip install \"qsmprep\[onnx\]\""):
        load_network(path)


def test_an_onnx_network_cannot_be_saved_as_safetensors(tmp_path):
    with pytest.raises(ValueError, match="is missing"):
        save_network(Network(SPEC, OnnxModule(model(), SPEC)), tmp_path / "conv", facts=FACTS)


def test_the_command_line_imports_the_file_as_it_is(tmp_path):
    (tmp_path / "net.onnx").write_bytes(model())
    (tmp_path / "spec.json").write_text(json.dumps(to_document(SPEC)))
    words = ["weights", "import", "--kind", "onnx", str(tmp_path / "net.onnx"), "--spec", str(tmp_path / "spec.json")]
    assert main([*words, "--name", "mine", "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "mine.onnx").read_bytes() == model()
    assert load_network(tmp_path / "out" / "mine.onnx").spec.name == "mine"
