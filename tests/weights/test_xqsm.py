"""The released xQSM gives the network that its layers compute, from its layers written out anew."""

import pytest
import torch
from torch import nn

from qsmprep.cli.tools import main
from qsmprep.inversion.qsmnet import QsmnetOptions
from qsmprep.weights.store import load_network
from qsmprep.weights.xqsm import read_xqsm

WIDTH = 8


class Touch:
    """Makes a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


class Layer(nn.Module):
    """An octave convolution under the published names; `kind` is first, inner or last."""

    def __init__(self, before, after, kind="inner"):
        super().__init__()
        low_in, low_out = before // 2, after // 2
        high_in, high_out = (before if kind == "first" else low_in), (after if kind == "last" else low_out)
        self.kind = kind
        self.convHH, self.BN_HH = nn.Conv3d(high_in, high_out, 3, padding=1), nn.BatchNorm3d(high_out)
        if kind != "last":
            self.convHL, self.BN_HL = nn.Conv3d(high_in, low_out, 3, padding=1), nn.BatchNorm3d(low_out)
        if kind != "first":
            self.convLH, self.BN_LH = nn.Conv3d(low_in, high_out, 3, padding=1), nn.BatchNorm3d(high_out)
            self.up = nn.ConvTranspose3d(high_out, high_out, 2, stride=2)
        if kind == "inner":
            self.convLL, self.BN_LL = nn.Conv3d(low_in, low_out, 3, padding=1), nn.BatchNorm3d(low_out)
        if kind == "last":
            self.FinalConv = nn.Conv3d(after, 1, 1)

    def forward(self, high, low):
        up = self.BN_HH(self.convHH(high))
        if self.kind != "first":
            up = up + self.BN_LH(self.up(self.convLH(low)))
        up = up.relu()
        if self.kind == "last":
            return self.FinalConv(up)
        down = self.BN_HL(self.convHL(nn.functional.avg_pool3d(high, 2)))
        if self.kind == "inner":
            down = down + self.BN_LL(self.convLL(low))
        return up, down.relu()


class Pair(nn.Module):
    def __init__(self, word, before, between, after, kind="inner"):
        super().__init__()
        self.word = word
        self.add_module(f"{word}1", Layer(before, between, kind))
        self.add_module(f"{word}2", Layer(between, after))

    def forward(self, high, low):
        return getattr(self, f"{self.word}2")(*getattr(self, f"{self.word}1")(high, low))


class Rise(nn.Module):
    def __init__(self, width):
        super().__init__()
        half = width // 2
        self.up_HH, self.up_LL = (nn.ConvTranspose3d(half, half, 2, stride=2) for _ in range(2))
        self.up_LH = nn.ConvTranspose3d(half, half, 4, stride=4)
        self.up_HL = nn.Conv3d(half, half, 3, padding=1)
        self.BN_H, self.BN_L = nn.BatchNorm3d(half), nn.BatchNorm3d(half)

    def forward(self, high, low):
        return (self.BN_H(self.up_HH(high) + self.up_LH(low)).relu(),
                self.BN_L(self.up_LL(low) + self.up_HL(high)).relu())  # fmt: skip


class Decoder(Pair):
    def __init__(self, width, after):
        super().__init__("DecodeConv", 2 * width, width, after)
        self.up = Rise(width)

    def forward(self, high, low, *skip):
        risen = self.up(high, low)
        return super().forward(*(torch.cat(parts, 1) for parts in zip(risen, skip, strict=True)))


class Published(nn.Module):
    """Two poolings; half of the channels at half the resolution."""

    def __init__(self, width=WIDTH):
        super().__init__()
        self.InputOct = Pair("EncodeConv", 1, width, width, "first")
        self.EncodeConvs = nn.ModuleList(
            [Pair("EncodeConv", width, width, width), Pair("EncodeConv", width, 2 * width, 2 * width)]
        )
        self.MidConv1 = Pair("MidConv", 2 * width, 4 * width, 2 * width)
        self.DecodeConvs = nn.ModuleList([Decoder(2 * width, width), Decoder(width, width)])
        self.FinalOct = Layer(width, width, "last")

    def forward(self, x):
        high, low = self.InputOct(x, None)
        kept = []
        for level in self.EncodeConvs:
            high, low = level(high, low)
            kept.append((high, low))
            high, low = (nn.functional.max_pool3d(part, 2) for part in (high, low))
        high, low = self.MidConv1(high, low)
        for level in self.DecodeConvs:
            high, low = level(high, low, *kept.pop())
        return self.FinalOct(high, low) + x


@pytest.fixture
def theirs():
    torch.manual_seed(0)
    net = Published()
    for name, buffer in net.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    return net.eval()


@pytest.mark.parametrize("prefix", ["", "module."], ids=["plain", "several GPUs"])
def test_the_imported_network_computes_the_same(tmp_path, theirs, prefix):
    torch.save({prefix + name: tensor for name, tensor in theirs.state_dict().items()}, tmp_path / "xQSM_invivo.pth")
    network = read_xqsm(tmp_path / "xQSM_invivo.pth")
    x = torch.randn(1, 1, 16, 24, 16)
    with torch.no_grad():
        assert torch.allclose(network.module(x), theirs(x), atol=1e-5)
    assert network.spec.multiple == 8 and network.spec.architecture.width == WIDTH
    assert QsmnetOptions.role.fits(network.spec)


def test_other_files_are_refused_and_nothing_of_them_is_run(tmp_path, theirs):
    path, trap = tmp_path / "x.pth", tmp_path / "trap"
    state = theirs.state_dict()
    for change, message in (
        ({"EncodeConvs.0.EncodeConv1.BN_HL.bias": None}, "BN_HL.bias is missing"),
        ({"more.weight": torch.zeros(1)}, "left over"),
        ({"FinalOct.FinalConv.bias": torch.zeros(2)}, "FinalConv.bias has the shape"),
        ({"InputOct.EncodeConv1.convHH.weight": None}, "not the weights of xQSM"),
        ({"InputOct.EncodeConv2.convLL.bias": torch.full((WIDTH // 2,), float("inf"))}, "finite"),
    ):
        changed = {name: tensor for name, tensor in (state | change).items() if tensor is not None}
        torch.save(changed, path)
        with pytest.raises(ValueError, match=rf"x\.pth.*{message}"):
            read_xqsm(path)
    torch.save({"a": Touch(trap)}, path)
    with pytest.raises(ValueError, match="nothing of it was run"):
        read_xqsm(path)
    assert not trap.exists()


def test_it_is_imported_by_the_command_line_and_takes_no_factors(tmp_path, theirs, capsys):
    torch.save(theirs.state_dict(), tmp_path / "mine.pth")
    words = ["weights", "import", str(tmp_path / "mine.pth"), "--kind", "xqsm", "--out", str(tmp_path)]
    assert main([*words, "--factors", str(tmp_path / "mine.pth")]) == 2
    assert "takes no --factors" in capsys.readouterr().err
    assert main(words) == 0
    x = torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        assert torch.allclose(load_network(tmp_path / "mine.safetensors").module(x), theirs(x), atol=1e-5)
