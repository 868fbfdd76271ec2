"""The released MoDL-QSM file gives the network that its layers compute, checked against plain numpy."""

import json
import pickle

import h5py
import numpy as np
import pytest
import torch
from scipy.io import savemat
from scipy.ndimage import correlate

from qsmprep.nets.network import forward
from qsmprep.nets.unrolled_spec import UnrolledSpec
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.weights.keras import PUBLISHED, read_modl
from qsmprep.weights.store import load_network, save_network

SHAPE = (7, 6, 8)
FACTS = {"licence": "x", "statement": "y"}
MEAN, DEVIATION = (-0.002, -0.0005), (0.026, 0.004)


def make_layers(width=3, blocks=2, seed=0):
    """Layers in the order in which Keras runs them: name -> kind -> array."""
    rng = np.random.default_rng(seed)
    layers = {"my_layer_1": {"step": np.full((1, 1), 1.1019, np.float32)}}
    convs, norms = iter(range(1, 1000)), iter(range(1, 1000))

    def conv(edge, before, after, bias=False):
        scale = np.sqrt(2 / (edge**3 * before))
        layers[f"conv3d_{next(convs)}"] = {
            "kernel": rng.normal(0, scale, (edge, edge, edge, before, after)).astype(np.float32),
            **({"bias": rng.normal(0, 0.1, after).astype(np.float32)} if bias else {}),
        }

    conv(3, 2, width)
    for _ in range(2 * blocks):
        conv(3, width, width)
        layers[f"batch_normalization_{next(norms)}"] = {
            "gamma": rng.uniform(0.5, 1.5, width).astype(np.float32),
            "beta": rng.normal(0, 0.1, width).astype(np.float32),
            "moving_mean": rng.normal(0, 0.1, width).astype(np.float32),
            "moving_variance": (rng.uniform(0, 0.01, width)).astype(np.float32),  # small, so that epsilon matters
        }
    conv(1, width, width)
    conv(1, width, width)
    conv(1, width, 2, bias=True)
    return layers


def write_group(root, groups):
    """As Keras 2 writes: group -> list of (weight, array), and the order in attributes; names sort differently."""
    root.attrs["layer_names"] = [name.encode() for name in groups]
    for name, weights in groups.items():
        group = root.create_group(name)
        group.attrs["weight_names"] = np.array([weight.encode() for weight, _ in weights], "S64")
        for weight, array in weights:
            group.create_dataset(weight, data=array)


def write(path, layers, layout="nested"):
    """nested: the shared network is one layer, its means and variances last. flat: each layer is a group."""
    flat = {name: [(f"{name}/{kind}:0", array) for kind, array in kinds.items()] for name, kinds in layers.items()}
    with h5py.File(path, "w") as file:
        if layout == "nested":
            inner = [pair for name, weights in flat.items() if name != "my_layer_1" for pair in weights]
            inner.sort(key=lambda pair: "moving" in pair[0])
            write_group(file, {"input_2": [], "my_layer_1": flat.get("my_layer_1", []), "model_1": inner})
        else:
            root = file.create_group("model_weights") if layout == "whole model" else file
            write_group(root, {"input_1": [], "activation_1": [], **flat})
            if layout == "whole model":
                file.create_group("optimizer_weights").create_dataset("m", data=np.zeros(3))
    return path


def reference(layers, field, mask, dipole, iterations=3):
    """MoDL-QSM in numpy on (x, y, z, channel) arrays with the layers as Keras keeps them."""
    kernels = [kinds for kinds in layers.values() if "kernel" in kinds]
    norms = [kinds for kinds in layers.values() if "gamma" in kinds]
    step = float(layers["my_layer_1"]["step"].ravel()[0])

    def conv(x, kinds):
        kernel = kinds["kernel"].astype(float)
        return np.stack(
            [
                sum(correlate(x[..., i], kernel[..., i, o], mode="constant") for i in range(x.shape[-1]))
                + kinds.get("bias", np.zeros(kernel.shape[-1]))[o]
                for o in range(kernel.shape[-1])
            ],
            axis=-1,
        )

    def norm(x, kinds):
        return kinds["gamma"] * (x - kinds["moving_mean"]) / np.sqrt(kinds["moving_variance"] + 1e-3) + kinds["beta"]

    def net(x):
        x = np.maximum(conv(x, kernels[0]), 0)
        for block in range(len(norms) // 2):
            inner = np.maximum(norm(conv(x, kernels[1 + 2 * block]), norms[2 * block]), 0)
            x = np.maximum(x + norm(conv(inner, kernels[2 + 2 * block]), norms[2 * block + 1]), 0)
        for kinds in kernels[-3:-1]:
            x = np.maximum(conv(x, kinds), 0)
        return conv(x, kernels[-1])

    def through(x):
        return np.fft.ifftn(np.fft.fftn(x) * dipole).real

    adjoint = np.stack((through(field), field), axis=-1)
    x = step * adjoint
    for iteration in range(iterations):
        x = (net((x - MEAN) / DEVIATION * mask[..., None]) * mask[..., None] * DEVIATION + MEAN) * mask[..., None]
        if iteration + 1 < iterations:
            miss = through(x[..., 0]) + x[..., 1]
            x = x - step * np.stack((through(miss), miss), axis=-1) + step * adjoint
    return x


def full_spectrum(half):
    """The kernel on all frequencies, from its even half."""
    impulse = np.fft.irfftn(half, SHAPE, axes=(0, 1, 2))
    return np.fft.fftn(impulse).real


@pytest.mark.parametrize("layout", ["nested", "flat", "whole model"])
def test_the_imported_network_computes_what_the_layers_say(tmp_path, layout):
    layers = make_layers()
    factors = tmp_path / "NormFactor.mat"
    savemat(factors, {"CosTrnMean": [MEAN], "CosTrnStd": [DEVIATION]})
    network = read_modl(write(tmp_path / "last.h5", layers, layout), factors)
    network = load_network(save_network(network, tmp_path / "modl", facts=FACTS))

    rng = np.random.default_rng(1)
    mask = np.zeros(SHAPE)
    mask[1:6, 1:5, 1:7] = 1
    field = 0.02 * rng.normal(size=SHAPE) * mask
    half = dipole_kernel(SHAPE, (1.0, 1.0, 1.0), (0.1, 0.2, 1.0))
    expected = reference(layers, field, mask, full_spectrum(half))
    given = [torch.as_tensor(image, dtype=torch.float32)[None, None] for image in (field, mask)]
    with torch.no_grad():
        found = forward(network.spec, network.module, *given, torch.as_tensor(half, dtype=torch.float32))
    found = found[0].numpy().transpose(1, 2, 3, 0)
    assert np.abs(expected).max() > 1e-3
    assert np.allclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def test_every_number_of_the_released_size_is_used(tmp_path):
    layers = make_layers(width=32, blocks=8)
    assert sum(array.size for kinds in layers.values() for array in kinds.values()) == 448_259
    network = read_modl(write(tmp_path / "last.h5", layers))
    assert network.spec.architecture == UnrolledSpec(norm_epsilon=1e-3)
    assert network.module.step.item() == pytest.approx(1.1019)
    given = np.sort(np.concatenate([array.ravel() for kinds in layers.values() for array in kinds.values()]))
    found = [t.detach().numpy().ravel() for n, t in network.module.state_dict().items() if "num_batches" not in n]
    assert np.concatenate(found).size == 448_259
    assert np.array_equal(given, np.sort(np.concatenate(found)))


def test_factors_are_the_published_ones_unless_given(tmp_path):
    path = write(tmp_path / "last.h5", make_layers())
    outputs = read_modl(path).spec.outputs
    assert {c.quantity: (c.mean, c.deviation) for c in outputs} == dict(PUBLISHED)
    with h5py.File(tmp_path / "v73.mat", "w", userblock_size=512) as file:
        file["CosTrnMean"], file["CosTrnStd"] = np.array([MEAN]).T, np.array([DEVIATION]).T
    (tmp_path / "factors.json").write_text(json.dumps({"CosTrnMean": MEAN, "CosTrnStd": DEVIATION}))
    for name in ("v73.mat", "factors.json"):
        outputs = read_modl(path, tmp_path / name).spec.outputs
        assert [c.mean for c in outputs] == list(MEAN) and [c.deviation for c in outputs] == list(DEVIATION)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"CosTrnMean": [MEAN]}, "lacks CosTrnStd"),
        ({"CosTrnMean": [MEAN], "CosTrnStd": [1.0]}, "CosTrnStd holds 1 numbers"),
        ({"CosTrnMean": [MEAN], "CosTrnStd": [[0.0, 1.0]]}, "the deviation above 0"),
    ],
)
def test_wrong_factors_are_refused(tmp_path, variables, message):
    savemat(tmp_path / "factors.mat", variables)
    with pytest.raises(ValueError, match=rf"factors\.mat.*{message}"):
        read_modl(write(tmp_path / "last.h5", make_layers()), tmp_path / "factors.mat")


def test_damaged_factors_are_refused(tmp_path):
    path = write(tmp_path / "last.h5", make_layers())
    for content in (b"", b"nonsense" * 100, pickle.dumps({"CosTrnMean": 1})):
        (tmp_path / "factors.mat").write_bytes(content)
        with pytest.raises(ValueError, match=r"factors\.mat"):
            read_modl(path, tmp_path / "factors.mat")
    with pytest.raises(ValueError, match=r"none\.mat"):
        read_modl(path, tmp_path / "none.mat")


def without(layers, name, kind=None):
    kept = {key: dict(kinds) for key, kinds in layers.items()}
    del (kept if kind is None else kept[name])[name if kind is None else kind]
    return kept


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda layers: without(layers, "my_layer_1"), "step of MoDL-QSM is missing"),
        (lambda layers: without(layers, "conv3d_8"), "has the shape|missing"),
        (lambda layers: without(layers, "conv3d_8", "bias"), "out.bias of MoDL-QSM is missing: .*conv3d_8 has no bias"),
        (lambda layers: without(layers, "batch_normalization_2", "moving_mean"), "running_mean of MoDL-QSM is missing"),
        (lambda layers: {**layers, "dense_1": {"kernel": np.zeros((2, 2), np.float32)}}, "left over.*dense_1 kernel"),
        (lambda layers: {**layers, "other": {"step": np.zeros(1, np.float32)}}, "left over.*other step"),
        (lambda layers: {**layers, "conv3d_2": {"kernel": np.zeros((5, 5, 5, 3, 3), np.float32)}}, "conv3d_2 kernel"),
        (lambda layers: {**layers, "conv3d_2": {"kernel": np.full((3, 3, 3, 3, 3), np.nan, "f4")}}, "not finite"),
    ],
)
def test_anything_missing_or_left_over_is_told(tmp_path, change, message):
    path = write(tmp_path / "last.h5", change(make_layers()), "flat")
    with pytest.raises(ValueError, match=rf"last\.h5: .*({message})"):
        read_modl(path)


@pytest.mark.parametrize("content", [b"", b"nonsense" * 1000, pickle.dumps({})])
def test_what_is_no_keras_file_is_refused(tmp_path, content):
    path = tmp_path / "last.h5"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"last\.h5 is not a file of Keras weights"):
        read_modl(path)


def test_a_truncated_or_empty_hdf5_file_is_refused(tmp_path):
    path = write(tmp_path / "last.h5", make_layers())
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"last\.h5"):
        read_modl(path)
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match=r"no layer_names"):
        read_modl(path)


def test_links_to_other_files_are_not_followed(tmp_path):
    path = write(tmp_path / "last.h5", make_layers())
    write(tmp_path / "other.h5", make_layers())
    with h5py.File(path, "a") as file:
        del file["model_1"]
        file["model_1"] = h5py.ExternalLink("other.h5", "/model_1")
    with pytest.raises(ValueError, match="model_1 is a link"):
        read_modl(path)
