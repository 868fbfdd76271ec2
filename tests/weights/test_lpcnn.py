"""The released LPCNN gives the network that its layers and its data term compute, written out anew."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from qsmprep.cli.tools import main
from qsmprep.inversion.lpcnn import LpcnnOptions
from qsmprep.nets.network import forward
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.weights.lpcnn import read_lpcnn
from qsmprep.weights.store import load_network

SHAPE, WIDTH, BLOCKS = (10, 12, 8), 3, 2
MEAN, DEVIATION = 0.003, 0.05


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv3d(WIDTH, WIDTH, 3, padding=1, bias=False), nn.BatchNorm3d(WIDTH)
        self.conv2, self.bn2 = nn.Conv3d(WIDTH, WIDTH, 3, padding=1, bias=False), nn.BatchNorm3d(WIDTH)

    def forward(self, x):
        return (x + self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))).relu()


class Published(nn.Module):
    def __init__(self):
        super().__init__()
        self.alpha = nn.Parameter(torch.full((1,), 3.7))
        one = dict(kernel_size=1, bias=False)
        self.gen = nn.Sequential(
            nn.Conv3d(1, WIDTH, 3, padding=1, bias=False), nn.ReLU(), nn.Sequential(*(Block() for _ in range(BLOCKS))),
            nn.Conv3d(WIDTH, WIDTH, **one), nn.ReLU(), nn.Conv3d(WIDTH, WIDTH, **one), nn.ReLU(),
            nn.Conv3d(WIDTH, 1, **one),
        )  # fmt: skip

    def forward(self, field, kernel, mask):
        def through(x, power):
            return torch.fft.ifftn(torch.fft.fftn(x, dim=(2, 3, 4)) * kernel**power, dim=(2, 3, 4)).real

        start = self.alpha * through(field, 1)
        x = start
        for step in range(3):
            if step:
                x = x + start - self.alpha * through(x, 2)
            x = (self.gen((x - MEAN) / DEVIATION * mask) * DEVIATION + MEAN) * mask
        return x


@pytest.fixture
def theirs():
    torch.manual_seed(1)
    net = Published()
    for name, buffer in net.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    return net.eval()


@pytest.fixture
def factors(tmp_path):
    np.save(tmp_path / "train_gt_mean.npy", np.array([MEAN]))
    np.save(tmp_path / "train_gt_std.npy", np.array([DEVIATION]))
    return tmp_path


@pytest.mark.parametrize("prefix", ["", "module."], ids=["plain", "several GPUs"])
def test_the_imported_network_computes_the_same(tmp_path, factors, theirs, prefix):
    state = {prefix + name: tensor for name, tensor in theirs.state_dict().items()}
    torch.save({"epoch": 3, "model_state": state, "optimizer_state": {"lr": 1e-4}}, tmp_path / "Emodel.pkl")
    network = read_lpcnn(tmp_path / "Emodel.pkl", factors)
    mask = torch.zeros(1, 1, *SHAPE)
    mask[..., 2:8, 3:10, 2:7] = 1
    field = 0.02 * torch.randn(1, 1, *SHAPE) * mask
    b0 = (0.2, 0.1, 0.97)
    half = torch.as_tensor(dipole_kernel(SHAPE, (1.0, 1.0, 1.0), b0))
    k = np.stack(np.meshgrid(*(np.fft.fftfreq(n) for n in SHAPE), indexing="ij"))
    b = np.array(b0) / np.linalg.norm(b0)
    squared = (k**2).sum(0)
    whole = np.where(squared > 0, 1 / 3 - np.einsum("a,aijk->ijk", b, k) ** 2 / np.where(squared > 0, squared, 1), 0)
    with torch.no_grad():
        found = forward(network.spec, network.module, field, mask, half)
        expected = theirs(field, torch.from_numpy(whole.astype(np.float32)), mask)
    assert torch.allclose(found, expected, atol=2e-3 * float(expected.abs().max()))
    assert LpcnnOptions.role.fits(network.spec)


def test_factors_are_read_from_a_folder_or_from_one_file_and_wrong_ones_are_told(tmp_path, factors, theirs, capsys):
    torch.save(theirs.state_dict(), tmp_path / "mine.pth")
    (tmp_path / "f.json").write_text(json.dumps({"gt_mean": MEAN, "gt_std": DEVIATION}), "utf-8")
    for given in (factors, tmp_path / "f.json"):
        (chi,) = read_lpcnn(tmp_path / "mine.pth", given).spec.outputs
        assert (chi.mean, chi.deviation) == (MEAN, DEVIATION)
    words = ["weights", "import", str(tmp_path / "mine.pth"), "--kind", "lpcnn", "--out", str(tmp_path)]
    assert main(words) == 2
    assert "needs --factors" in capsys.readouterr().err
    assert main([*words, "--factors", str(factors)]) == 0
    assert load_network(tmp_path / "mine.safetensors").spec.kind == "lpcnn"
    np.save(tmp_path / "train_gt_std.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(ValueError, match="not a folder of NumPy files"):
        read_lpcnn(tmp_path / "mine.pth", factors)


def test_other_networks_are_refused(tmp_path, factors, theirs):
    path = tmp_path / "x.pth"
    for change, message in (
        ({"gen.7.bias": torch.zeros(1)}, "left over"),
        ({"gen.2.1.bn2.weight": None}, "bn2.weight is missing"),
        ({"alpha": torch.ones(3)}, "alpha has the shape"),
        ({"gen.0.weight": None}, "not the weights of LPCNN"),
    ):
        state = {n: t for n, t in (theirs.state_dict() | change).items() if t is not None}
        torch.save(state, path)
        with pytest.raises(ValueError, match=message):
            read_lpcnn(path, factors)
