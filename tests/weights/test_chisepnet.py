"""Checkpoints of the chi-sepnet family give the same network, and nothing in them is run."""

import json
import pickle

import pytest
import torch
from scipy.io import savemat
from torch import nn

from qsmprep.cli.weights import NETWORKS as CHOICES
from qsmprep.nets.spec import quantities
from qsmprep.weights.chisepnet import NETWORKS, PUBLISHED, read_chisepnet

WIDTH = 2


class Block(nn.Module):
    def __init__(self, before, after):
        super().__init__()
        self.conv = nn.Conv3d(before, after, 3, padding=1)
        self.bn = nn.BatchNorm3d(after)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)))


class Published(nn.Module):
    """The table of the published U-net written out, with two orders in which its layers can be defined."""

    def __init__(self, channels_in=3, channels_out=2, ups_first=False):
        super().__init__()
        widths = [WIDTH * 2**level for level in range(5)]
        self.down = nn.ModuleList()
        for before, after in zip([channels_in, *widths[:-1]], widths, strict=True):
            self.down += [Block(before, after), Block(after, after)]
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        if ups_first:
            for place, (low, high) in enumerate(pairs):
                self.add_module(f"rise{place}", nn.ConvTranspose3d(low, high, 2, stride=2))
        for place, (low, high) in enumerate(pairs):
            if not ups_first:
                self.add_module(f"rise{place}", nn.ConvTranspose3d(low, high, 2, stride=2))
            self.add_module(f"d{place}1", Block(2 * high, high))
            self.add_module(f"d{place}2", Block(high, high))
        self.final = nn.Conv3d(WIDTH, channels_out, 1)

    def forward(self, x):
        kept = []
        for level in range(5):
            x = self.down[2 * level](nn.functional.max_pool3d(x, 2) if level else x)
            x = self.down[2 * level + 1](x)
            kept.append(x)
        for place in range(4):
            x = torch.cat((getattr(self, f"rise{place}")(x), kept[3 - place]), 1)
            x = getattr(self, f"d{place}2")(getattr(self, f"d{place}1")(x))
        return self.final(x)


class Touch:
    """Makes a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def published(**options):
    torch.manual_seed(0)
    net = Published(**options)
    for name, buffer in net.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    return net.eval()


def test_the_command_line_offers_every_network():
    assert tuple(NETWORKS) == CHOICES


@pytest.mark.parametrize("ups_first", [False, True], ids=["up before its level", "ups after the encoder"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "checkpoint of several GPUs"])
def test_the_imported_network_computes_the_same(tmp_path, ups_first, wrapped):
    theirs = published(ups_first=ups_first)
    state = theirs.state_dict()
    if wrapped:
        state = {"epoch": 7, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}
    torch.save(state, tmp_path / "net.pth.tar")
    network = read_chisepnet(tmp_path / "net.pth.tar")
    assert quantities(network.spec.inputs) == ("chi", "tissue-field", "r2prime")
    assert quantities(network.spec.outputs) == ("chi-para", "chi-dia")
    assert network.spec.architecture.width == WIDTH
    x = torch.randn(1, 3, 16, 32, 16)
    with torch.no_grad():
        assert torch.allclose(network.module(x), theirs(x), atol=1e-6)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_channels_and_factors_are_those_of_the_network(tmp_path, name):
    _, inputs, outputs = NETWORKS[name]
    torch.save(published(channels_in=len(inputs), channels_out=len(outputs)).state_dict(), tmp_path / "net.pth")
    spec = read_chisepnet(tmp_path / "net.pth", network=name).spec
    assert {c.quantity: (c.mean, c.deviation) for c in (*spec.inputs, *spec.outputs)}.items() <= PUBLISHED.items()
    assert spec.name == name and (quantities(spec.inputs), quantities(spec.outputs)) == (inputs, outputs)


def test_factors_are_read_from_matlab_and_json(tmp_path):
    torch.save(published().state_dict(), tmp_path / "net.pth")
    names = ("field", "cosmos_sus", "r2prime", "x_pos", "x_neg")
    values = {f"{name}_mean": 0.1 * place for place, name in enumerate(names)}
    values |= {f"{name}_std": 1.0 + place for place, name in enumerate(names)}
    savemat(tmp_path / "factors.mat", values)
    (tmp_path / "factors.json").write_text(json.dumps(values))
    for file in ("factors.mat", "factors.json"):
        spec = read_chisepnet(tmp_path / "net.pth", tmp_path / file).spec
        assert [c.deviation for c in (*spec.inputs, *spec.outputs)] == [2.0, 1.0, 3.0, 4.0, 5.0]
        assert [c.mean for c in spec.inputs] == pytest.approx([0.1, 0.0, 0.2])
    del values["x_neg_std"]
    (tmp_path / "factors.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"factors\.json lacks x_neg_std"):
        read_chisepnet(tmp_path / "net.pth", tmp_path / "factors.json")


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"state_dict": x}, lambda x: {"epoch": x, "a": 1}])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "pickle"])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, wrap, zipped):
    trap, path = tmp_path / "trap", tmp_path / "net.pth"
    torch.save(wrap(Touch(trap)), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"net\.pth is damaged or holds more than tensors.*nothing of it was run"):
        read_chisepnet(path)
    assert not trap.exists()


@pytest.mark.parametrize("content", [b"", b"nonsense" * 100, pickle.dumps([1])])
def test_damaged_files_are_refused(tmp_path, content):
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"net\.pth"):
        read_chisepnet(path)
    with pytest.raises(ValueError, match=r"none\.pth cannot be read"):
        read_chisepnet(tmp_path / "none.pth")


def changed(change):
    state = published().state_dict()
    change(state)
    return state


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (changed(lambda s: s.pop("final.bias")), "holds 117 tensors"),
        (changed(lambda s: s.update({"rise0.weight": torch.zeros(32, 16, 3, 3, 3)})), r"rise0\.weight has the shape"),
        (changed(lambda s: s.update({"d01.bn.bias": torch.full((16,), float("nan"))})), r"d01\.bn\.bias does not hold"),
        (changed(lambda s: s.update({"down.0.conv.bias": 3})), "is not a tensor"),
        ({}, "holds 0 tensors"),
        ([torch.zeros(1)], "instead of a state dict"),
        (published(channels_in=1, channels_out=1).state_dict(), "Choose another --network"),
    ],
)
def test_other_networks_are_refused(tmp_path, state, message):
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=rf"net\.pth.*{message}"):
        read_chisepnet(tmp_path / "net.pth")


def test_layers_in_another_order_are_refused(tmp_path):
    state = published().state_dict()
    moved = {name: state[name] for name in state if name.startswith("final")}
    torch.save({**moved, **{n: t for n, t in state.items() if n not in moved}}, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=r"net\.pth"):
        read_chisepnet(tmp_path / "net.pth")
