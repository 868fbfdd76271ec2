"""The released QSMnet gives the network that its layers compute, checked against plain numpy."""

import json

import h5py
import numpy as np
import pytest
import torch
from bundles import write_checkpoint
from scipy.io import savemat
from scipy.ndimage import correlate

from qsmprep.cli.tools import main
from qsmprep.inversion.qsmnet import QsmnetOptions
from qsmprep.weights.qsmnet import read_qsmnet
from qsmprep.weights.store import load_network

FACTORS = {"input_mean": 0.001, "input_std": 0.02, "label_mean": -0.002, "label_std": 0.04}
WIDTH = 2


@pytest.fixture
def factors(tmp_path):
    savemat(tmp_path / "norm_factor.mat", FACTORS)
    return tmp_path / "norm_factor.mat"


def variables(levels=1, width=WIDTH, seed=0):
    """As the public code names and shapes them."""
    random = np.random.default_rng(seed)
    made = {}

    def convolution(scope, before, after):
        made[f"{scope}/conv_weights"] = random.normal(0, (2 / (125 * before)) ** 0.5, (5, 5, 5, before, after))
        made[f"{scope}/biases"] = random.normal(0, 0.1, after)
        for kind, low, high in (("gamma", 0.5, 1.5), ("beta", -0.1, 0.1), ("mean_sh", -0.1, 0.1), ("var_sh", 0.001, 1)):
            made[f"{scope}/bn/{kind}"] = random.uniform(low, high, after)

    widths = [width * 2**level for level in range(levels + 1)]
    names = [*(f"conv{level + 1}" for level in range(levels)), "l_conv"]
    for name, before, after in zip(names, [1, *widths], widths, strict=False):
        convolution(f"qsmnet/{name}1", before, after)
        convolution(f"qsmnet/{name}2", after, after)
    for n in range(levels, 0, -1):
        low, high = widths[n], widths[n - 1]
        made[f"qsmnet/deconv{n}/deconv_weights"] = random.normal(0, 0.5, (2, 2, 2, high, low))
        made[f"qsmnet/deconv{n}/biases"] = random.normal(0, 0.1, high)
        convolution(f"qsmnet/conv{9 - n}1", 2 * high, high)
        convolution(f"qsmnet/conv{9 - n}2", high, high)
    made["qsmnet/out/weights"] = random.normal(0, 0.5, (1, 1, 1, width, 1))
    made["qsmnet/out/biases"] = random.normal(0, 0.1, 1)
    return {name: array.astype(np.float32) for name, array in made.items()}


def with_optimizer(made):
    slots = {f"{name}/{slot}": array for name, array in made.items() for slot in ("Adam", "Adam_1")}
    return made | slots | {"beta1_power": np.array(0.9, np.float32), "beta2_power": np.array(0.99, np.float32)}


def reference(made, x, slope):
    """One pooling, on (x, y, z, channel) arrays."""

    def convolved(x, weights, biases):
        found = [sum(correlate(x[..., i], weights[..., i, o], mode="constant") for i in range(x.shape[-1]))
                 for o in range(weights.shape[-1])]  # fmt: skip
        return np.stack(found, -1) + biases

    def layer(x, scope):
        kinds = {kind: made[f"qsmnet/{scope}/{kind}"] for kind in ("conv_weights", "biases")}
        gamma, beta, mean, var = (made[f"qsmnet/{scope}/bn/{kind}"] for kind in ("gamma", "beta", "mean_sh", "var_sh"))
        x = (convolved(x, kinds["conv_weights"], kinds["biases"]) - mean) / np.sqrt(var + 1e-3) * gamma + beta
        return np.where(x > 0, x, slope * x)

    top = layer(layer(x, "conv11"), "conv12")
    n0, n1, n2, c = top.shape
    low = top.reshape(n0 // 2, 2, n1 // 2, 2, n2 // 2, 2, c).max((1, 3, 5))
    low = layer(layer(low, "l_conv1"), "l_conv2")
    weights = made["qsmnet/deconv1/deconv_weights"]
    risen = np.zeros((n0, n1, n2, c))
    for i, j, k in np.ndindex(2, 2, 2):
        risen[i::2, j::2, k::2] = low @ weights[i, j, k].T
    risen = risen + made["qsmnet/deconv1/biases"]
    x = layer(layer(np.concatenate((top, risen), -1), "conv81"), "conv82")
    return convolved(x, made["qsmnet/out/weights"], made["qsmnet/out/biases"])[..., 0]


@pytest.mark.parametrize(("name", "slope"), [("qsmnet", 0.0), ("qsmnet+", 0.1)])
def test_the_imported_network_computes_what_the_published_layers_do(tmp_path, factors, name, slope):
    made = variables()
    index = write_checkpoint(tmp_path / "network.ckpt", with_optimizer(made))
    network = read_qsmnet(index, factors, network=name)
    x = np.random.default_rng(2).normal(size=(6, 8, 10, 1)).astype(np.float32)
    with torch.no_grad():
        found = network.module(torch.from_numpy(x.transpose(3, 0, 1, 2)[None]))[0, 0].numpy()
    assert np.allclose(found, reference(made, x, slope), atol=1e-4)
    assert QsmnetOptions.role.fits(network.spec)
    (field,), (chi,) = network.spec.inputs, network.spec.outputs
    assert (field.mean, field.deviation, chi.mean, chi.deviation) == (0.001, 0.02, -0.002, 0.04)


def test_four_poolings_come_in_the_published_order(tmp_path, factors):
    made = variables(levels=4)
    network = read_qsmnet(write_checkpoint(tmp_path / "n", made), factors)
    state = network.module.state_dict()
    for ours, theirs in (("encoder.3.0.bias", "conv41/biases"), ("encoder.4.3.bias", "l_conv2/biases"),
                         ("up.0.bias", "deconv4/biases"), ("decoder.0.0.bias", "conv51/biases"),
                         ("up.3.bias", "deconv1/biases"), ("decoder.3.3.bias", "conv82/biases")):  # fmt: skip
        assert np.array_equal(state[ours].numpy(), made[f"qsmnet/{theirs}"]), ours


def write_keras(path, made, levels):
    """The same layers as Keras 2 writes them, in the order in which the network runs."""
    order = [f"{name}{i}" for name in [*(f"conv{n + 1}" for n in range(levels)), "l_conv"] for i in (1, 2)]
    for n in range(levels, 0, -1):
        order += [f"deconv{n}", f"conv{9 - n}1", f"conv{9 - n}2"]
    with h5py.File(path, "w") as file:
        layers = []
        for place, scope in enumerate([*order, "out"]):
            prefix = "deconv_" if "deconv" in scope else "" if scope == "out" else "conv_"
            kinds = {"kernel": made[f"qsmnet/{scope}/{prefix}weights"], "bias": made[f"qsmnet/{scope}/biases"]}
            layers.append((f"layer_{place}", kinds))
            if prefix == "conv_":
                names = {"gamma": "gamma", "beta": "beta", "moving_mean": "mean_sh", "moving_variance": "var_sh"}
                layers.append(
                    (f"batch_normalization_{place}", {k: made[f"qsmnet/{scope}/bn/{v}"] for k, v in names.items()})
                )
        file.attrs["layer_names"] = [name.encode() for name, _ in layers]
        for name, kinds in layers:
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{kind}:0".encode() for kind in kinds]
            for kind, array in kinds.items():
                group.create_dataset(f"{name}/{kind}:0", data=array)
    return path


@pytest.mark.parametrize("levels", [1, 2])
def test_a_keras_file_of_the_same_layers_gives_the_same_network(tmp_path, factors, levels):
    made = variables(levels)
    theirs = read_qsmnet(write_checkpoint(tmp_path / "n", made), factors).module.state_dict()
    ours = read_qsmnet(write_keras(tmp_path / "n.h5", made, levels), factors).module.state_dict()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda made: made.pop("qsmnet/conv82/bn/beta"), "conv82/bn/beta is missing"),
        (lambda made: made.update({"qsmnet/extra/biases": np.zeros(2, np.float32)}), "left over.*extra/biases"),
        (lambda made: made.update({"qsmnet/conv12/biases": np.zeros(3, np.float32)}), "conv12/biases has the shape"),
        (lambda made: made["qsmnet/out/weights"].fill(np.nan), "does not hold finite"),
        (lambda made: made.pop("qsmnet/conv11/conv_weights"), "not the weights of QSMnet"),
    ],
)
def test_other_networks_are_refused(tmp_path, factors, change, message):
    made = variables()
    change(made)
    with pytest.raises(ValueError, match=rf"n\.index.*{message}"):
        read_qsmnet(write_checkpoint(tmp_path / "n", made), factors)


def test_it_is_imported_by_the_command_line_with_factors_of_either_age(tmp_path, capsys):
    index = write_checkpoint(tmp_path / "network.ckpt", variables())
    words = ["weights", "import", str(index), "--kind", "qsmnet+", "--out", str(tmp_path)]
    assert main(words) == 2
    assert "needs --factors" in capsys.readouterr().err
    older = {f"{name}_total": value for name, value in FACTORS.items()}
    (tmp_path / "norm_factor.json").write_text(json.dumps(older), "utf-8")
    assert main([*words, "--factors", str(tmp_path / "norm_factor.json")]) == 0
    network = load_network(tmp_path / "network.safetensors")
    assert network.spec.outputs[0].deviation == 0.04 and network.spec.architecture.activation == "leaky-relu"
