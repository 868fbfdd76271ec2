"""The released weights of QSMnet and QSMnet+: TensorFlow 1 checkpoints, or Keras HDF5 files of the same layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from qsmprep.nets.network import Network
from qsmprep.nets.spec import Channel, Domain, NetworkSpec
from qsmprep.nets.unet_spec import PUBLISHED
from qsmprep.weights.factors import HDF5, channel, read_factors
from qsmprep.weights.keras import NORM as KERAS_NORM
from qsmprep.weights.keras import Layers, read_layers
from qsmprep.weights.pytorch import named_state
from qsmprep.weights.store import module_with
from qsmprep.weights.tensorflow import read_checkpoint

NETWORKS = ("qsmnet", "qsmnet+")  # which differ in their activation
# In the released norm_factor.mat: mean and s.d. in ppm; older ones have `_total` behind each name.
FACTOR_NAMES = {"tissue-field": ("input_mean", "input_std"), "chi": ("label_mean", "label_std")}
OLDER = "_total"
SCOPE = "qsmnet/"  # before the names of its variables in TensorFlow
TENSORFLOW_NORM = {"gamma": "weight", "beta": "bias", "mean_sh": "running_mean", "var_sh": "running_var"}
LAST_DECODER = 9  # the decoder level that deconvN leads to is called conv(9 - N)1, conv(9 - N)2
# Places of a level's two convolutions in ours, each followed by its normalisation.
PLACES = ((0, "1"), (3, "2"))
Arrays = Mapping[str, np.ndarray]


def read_qsmnet(path: Path, factors: Path, *, network: str = "qsmnet+", name: str | None = None) -> Network:
    """QSMnet or QSMnet+ from the checkpoint of its authors.

    Parameters
    ----------
    path : the .index file of a TensorFlow 1 checkpoint with its .data-00000-of-00001 beside it, or a Keras 2 .h5 file
        whose layers are those in the order in which the network runs. Width and number of poolings are read from it.
    factors : the released norm_factor.mat, or a JSON file, with input_mean, input_std, label_mean, label_std in ppm.
    network : "qsmnet" (ReLU) or "qsmnet+" (leaky ReLU of slope 0.1).
    name : of the network; None: `network`.

    Returns
    -------
    The network: tissue field (n, 1, ...) in ppm to susceptibility (n, 1, ...) in ppm.

    Raises
    ------
    ValueError : a file is missing or damaged, or it is not such a network.
    """
    if network not in NETWORKS:
        raise ValueError(f"Unknown network {network!r}; known are {', '.join(NETWORKS)}.")
    arrays, names, (width, kernel, levels) = (_keras if _is_hdf5(path) else _tensorflow)(path)
    try:
        architecture = dataclasses.replace(PUBLISHED[network], width=width, kernel=kernel, levels=levels)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    inputs, outputs = _channels(factors)
    spec = NetworkSpec(name or network, "inversion", architecture, (inputs,), (outputs,), Domain())
    tensors = {key: torch.from_numpy(_in_our_order(array)) for key, array in arrays.items()}
    return Network(spec, module_with(spec, named_state(tensors, names, spec, path)).eval())


def _is_hdf5(path: Path) -> bool:
    try:
        with open(path, "rb") as stream:
            return stream.read(len(HDF5)) == HDF5
    except OSError:
        return False  # the reader of checkpoints says what is missing


def _channels(factors: Path) -> tuple[Channel, ...]:
    found = read_factors(factors)
    ending = OLDER if f"input_mean{OLDER}" in found else ""
    return tuple(
        channel(quantity, found, mean + ending, deviation + ending, factors)
        for quantity, (mean, deviation) in FACTOR_NAMES.items()
    )


def _in_our_order(array: np.ndarray) -> np.ndarray:
    """Kernels (k0, k1, k2, in, out), or (k0, k1, k2, out, in) of a transposed convolution, with the axes reversed."""
    return np.array(array.transpose(4, 3, 0, 1, 2) if array.ndim == 5 else array, np.float32)


def _tensorflow(path: Path) -> tuple[Arrays, dict[str, str], tuple[int, int, int]]:
    """Variables by name; ours -> theirs; width, edge of the kernels and poolings."""
    found = read_checkpoint(path)
    # An optimizer's numbers are called as the variable that they belong to, with a word behind.
    arrays = {name: a for name, a in found.items() if name.startswith(SCOPE) and name.rpartition("/")[0] not in found}
    levels = sum(f"{SCOPE}deconv{level}/deconv_weights" in arrays for level in range(1, LAST_DECODER))
    first = arrays.get(f"{SCOPE}conv11/conv_weights", np.zeros(0))
    if first.ndim != 5 or not levels:
        raise ValueError(f"{path} has no {SCOPE}conv11/conv_weights of three dimensions and no {SCOPE}deconv1, so "
                         "these are not the weights of QSMnet.")  # fmt: skip
    return arrays, dict(_tensorflow_names(levels)), (first.shape[-1], first.shape[0], levels)


def _tensorflow_names(levels: int) -> Iterator[tuple[str, str]]:
    scopes = [(f"encoder.{level}", f"conv{level + 1}") for level in range(levels)]
    scopes += [(f"encoder.{levels}", "l_conv")]
    scopes += [(f"decoder.{levels - n}", f"conv{LAST_DECODER - n}") for n in range(levels, 0, -1)]
    for ours, scope in scopes:
        for place, number in PLACES:
            theirs = f"{SCOPE}{scope}{number}"
            yield f"{ours}.{place}.weight", f"{theirs}/conv_weights"
            yield f"{ours}.{place}.bias", f"{theirs}/biases"
            for kind, name in TENSORFLOW_NORM.items():
                yield f"{ours}.{place + 1}.{name}", f"{theirs}/bn/{kind}"
    for n in range(levels, 0, -1):
        yield f"up.{levels - n}.weight", f"{SCOPE}deconv{n}/deconv_weights"
        yield f"up.{levels - n}.bias", f"{SCOPE}deconv{n}/biases"
    yield "out.weight", f"{SCOPE}out/weights"
    yield "out.bias", f"{SCOPE}out/biases"


def _keras(path: Path) -> tuple[Arrays, dict[str, str], tuple[int, int, int]]:
    """The same of a Keras file, whose layers are told by their order."""
    layers = read_layers(path)
    kernels = [layer for layer, kinds in layers.items() if "kernel" in kinds]
    levels, rest = divmod(len(kernels) - 3, 5)
    first = layers[kernels[0]]["kernel"] if kernels else np.zeros(0)
    if rest or levels < 1 or first.ndim != 5:
        raise ValueError(f"{path} has {len(kernels)} layers with a kernel; QSMnet has 23, the first a convolution of "
                         "three dimensions, so these are not its weights.")  # fmt: skip
    arrays = {f"{layer} {kind}": array for layer, kinds in layers.items() for kind, array in kinds.items()}
    return arrays, dict(_keras_names(layers, kernels, levels)), (first.shape[-1], first.shape[0], levels)


def _keras_names(layers: Layers, kernels: list[str], levels: int) -> Iterator[tuple[str, str]]:
    convolutions, norms = iter(kernels), iter([layer for layer, kinds in layers.items() if "gamma" in kinds])
    for level in range(levels + 1):
        yield from _keras_level(f"encoder.{level}", convolutions, norms)
    for level in range(levels):
        yield from _keras_layer(f"up.{level}", next(convolutions))
        yield from _keras_level(f"decoder.{level}", convolutions, norms)
    yield from _keras_layer("out", next(convolutions))


def _keras_level(ours: str, convolutions: Iterator[str], norms: Iterator[str]) -> Iterator[tuple[str, str]]:
    for place, _ in PLACES:
        yield from _keras_layer(f"{ours}.{place}", next(convolutions))
        norm = next(norms, "a normalisation")
        yield from ((f"{ours}.{place + 1}.{name}", f"{norm} {kind}") for kind, name in KERAS_NORM.items())


def _keras_layer(ours: str, layer: str) -> Iterator[tuple[str, str]]:
    yield f"{ours}.weight", f"{layer} kernel"
    yield f"{ours}.bias", f"{layer} bias"
