"""What tests of several rooms share."""

import os
import signal
from pathlib import Path

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job, and children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real scans; the test is skipped where it does not exist."""
    folder = Path(os.environ.get("QSMPREP_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real scans: {folder} does not exist (set QSMPREP_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def linear_network():
    """Maker of networks whose outputs are known: each is a sum of the inputs times given factors, all in ppm."""
    return make_linear_network


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory) -> Path:
    """Folder of small networks under the names that the methods ask for by default."""
    from qsmprep.weights.store import save_network

    folder = tmp_path_factory.mktemp("weights")
    for name, (task, inputs, outputs, kind) in TINY.items():
        network = make_linear_network(task, inputs, outputs, kind=kind, name=name)
        save_network(network, folder / name, facts={"licence": "MIT", "statement": "made for a test"})
    return folder


SOURCES = ("chi-para", "chi-dia")
# Name of weights -> task, factor of each input for the first output, outputs, architecture.
TINY = {
    "qsmnet": ("inversion", {"tissue-field": 2.0}, ("chi",), "unet"),
    "modl-qsm": ("inversion", {"tissue-field": 1.0}, ("chi33", "off-diagonal-field"), "modl"),
    "lpcnn": ("inversion", {"tissue-field": 1.0}, ("chi",), "lpcnn"),
    "autoqsm": ("total-inversion", {"total-field": 0.5}, ("chi", "expected-error"), "unet"),
    "sharqnet": ("background", {"total-field": 0.25}, ("tissue-field",), "unet"),
    "r2primenet": ("r2prime", {"r2star": 0.4}, ("r2prime",), "unet"),
    "chi-sepnet-r2p": ("separation", {"chi": 0.5, "tissue-field": 0.0, "r2prime": 0.5}, SOURCES, "unet"),
    "chi-sepnet-r2s": ("separation", {"chi": 0.5, "tissue-field": 0.0, "r2star": 0.2}, SOURCES, "unet"),
    "masknet": ("mask", {"magnitude": 1.0}, ("brain-depth",), "unet"),
}  # fmt: skip


def make_linear_network(task, factors, outputs, *, kind="unet", name="tiny", voxel_size_mm=3.0, **domain):
    """A network that gives sum(factor * input) as its first output, with normalisation that must be undone for it.

    The second output has the factor of susceptibility turned over, as diamagnetic sources do. In unrolled ones the
    learned parts give 0, so that the steps on the data term alone are left.
    """
    import torch

    from qsmprep.nets.network import Network, build_module
    from qsmprep.nets.spec import Channel, Domain, NetworkSpec
    from qsmprep.nets.unet_spec import UnetSpec
    from qsmprep.nets.unrolled_spec import UnrolledSpec

    inputs = tuple(Channel(quantity, 0.01 * i, 0.02 * (i + 1)) for i, quantity in enumerate(factors))
    made = tuple(Channel(quantity, 0.003 if kind == "unet" else 0.0, 0.05) for quantity in outputs)
    if kind == "unet":
        architecture = UnetSpec(len(inputs), len(made), width=2, levels=2, shortcut=True)
    else:
        architecture = UnrolledSpec(kind, iterations=2, width=2, blocks=1)
    spec = NetworkSpec(name, task, architecture, inputs, made, Domain(voxel_size_mm, **domain))
    torch.manual_seed(0)
    module = build_module(spec).eval()
    with torch.no_grad():
        for part in [module] if kind == "unet" else module.nets:
            part.out.weight.zero_()
            part.out.bias.zero_()
        for o, out in enumerate(made if kind == "unet" else ()):
            # out = sum f_i x_i in ppm, and normalised: y = (sum f_i (d_i z_i + m_i) - m_o) / d_o
            signs = [-1 if o and channel.quantity == "chi" else 1 for channel in inputs]
            signed = [sign * factor for sign, factor in zip(signs, factors.values(), strict=True)]
            for i, channel in enumerate(inputs):
                module.shortcut.weight[o, i] = signed[i] * channel.deviation / out.deviation
            offset = sum(f * c.mean for f, c in zip(signed, inputs, strict=True)) - out.mean
            module.shortcut.bias[o] = offset / out.deviation
    return Network(spec, module)
