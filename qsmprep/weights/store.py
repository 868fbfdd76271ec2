"""Files of weights: written whole, found by name, and read only when they are exactly what their card says.

A set of weights is two files of one name in one folder: NAME.safetensors (tensors, no code) and NAME.json (its card).
Nothing here unpickles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as write_tensors
from torch import nn

from qsmprep.bids.outputs import write_json
from qsmprep.files.whole_file import whole_file
from qsmprep.nets.network import Network, build_module
from qsmprep.nets.spec import NetworkSpec
from qsmprep.weights.card import ADVICE, Card, card_path, check_name, compose
from qsmprep.weights.onnx import OnnxModule
from qsmprep.weights.search import REMEDY, described, find_weights, refuse_other_formats

FLOATING = (torch.float16, torch.bfloat16, torch.float32)
COUNTER = "num_batches_tracked"  # of the batch normalisation; means nothing once trained


@dataclass(frozen=True)
class Checked:
    """A set of weights that passed every check.

    Attributes
    ----------
    path : the file of weights.
    card : its card.
    size : of the file in bytes.
    numbers : stored in it; 0 for ONNX, whose numbers are not counted.
    """

    path: Path
    card: Card
    size: int
    numbers: int


def save_network(network: Network, stem: Path, *, facts: Mapping[str, Any], dtype: torch.dtype = torch.float32) -> Path:
    """Write a network as STEM.safetensors and STEM.json, each whole; an earlier pair is replaced.

    Parameters
    ----------
    network : with weights on any device.
    stem : path without suffix.
    facts : of the card: licence and statement (mandatory), commit, seeds, training, domain, scores.
    dtype : of the stored numbers; torch.float16 halves the file.

    Returns
    -------
    The path of the file of weights.

    Raises
    ------
    ValueError : a fact is missing, the module is not the one described, or a number is not finite in `dtype`.
    """
    if dtype not in FLOATING:
        raise ValueError(f"Weights are stored as {', '.join(map(str, FLOATING))}; got {dtype}.")
    tensors = {
        name: tensor.detach().to("cpu", dtype).contiguous()
        for name, tensor in network.module.state_dict().items()
        if not name.endswith(COUNTER)
    }
    what = f"The weights of {network.spec.name} as {dtype}"
    check_tensors(network.spec, tensors, what)
    return write_weights(Path(stem), ".safetensors", write_tensors(tensors), network.spec, facts)


def write_weights(stem: Path, suffix: str, content: bytes, spec: NetworkSpec, facts: Mapping[str, Any]) -> Path:
    """Write a file of weights and its card, each whole; the card last, so that it never describes what is not there."""
    stem = stem.with_name(check_name(stem.name.removesuffix(suffix)))
    path = stem.with_name(stem.name + suffix)
    document = compose(spec, path.name, content, facts)
    with whole_file(path) as stream:
        stream.write(content)
    write_json(card_path(path), document)
    return path


def load_network(path: Path | str, *, device: torch.device | str = "cpu") -> Network:
    """Read a network whose weights are exactly those that its card describes.

    Parameters
    ----------
    path : of the file of weights or its card, or a name that `find_weights` knows.
    device : where the module goes.

    Returns
    -------
    The network in float32, in evaluation mode; `card` is the document of the card.

    Raises
    ------
    ValueError : the file or its card is missing, damaged, of another format, or not of the described network.
    """
    return _load(find_weights(path), device)[0]


def check_file(path: Path | str) -> Checked:
    """Load a set of weights as `load_network` does, and tell what it is; ValueError for a bad one."""
    network, checked = _load(find_weights(path), "cpu")
    del network
    return checked


def expected_shapes(spec: NetworkSpec) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that a file of a network's weights holds; no memory is taken for them.

    Raises
    ------
    ValueError : no module can be built from the description.
    """
    try:
        with torch.device("meta"):
            state = build_module(spec).state_dict()
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"No network can be built as {spec.name!r} is described: {error}") from None
    return {name: tuple(tensor.shape) for name, tensor in state.items() if not name.endswith(COUNTER)}


def check_tensors(spec: NetworkSpec, tensors: Mapping[str, torch.Tensor], what: str) -> None:
    """Raise ValueError unless the tensors are exactly those of a network, floating and finite.

    Parameters
    ----------
    spec : the network.
    tensors : name -> tensor.
    what : holds them, to begin the message with.
    """
    shapes = expected_shapes(spec)
    for name, shape in shapes.items():
        if name not in tensors:
            raise ValueError(f"{what}: {name} is missing, so this is not the network {spec.name!r}. {ADVICE}")
        if tuple(tensors[name].shape) != shape:
            raise ValueError(f"{what}: {name} has the shape {tuple(tensors[name].shape)}, but the network "
                             f"{spec.name!r} needs {shape}. {ADVICE}")  # fmt: skip
    for name, tensor in tensors.items():
        if name not in shapes:
            raise ValueError(f"{what}: {name} is not part of the network {spec.name!r}. {ADVICE}")
        if tensor.dtype not in FLOATING:
            raise ValueError(f"{what}: {name} holds {tensor.dtype}; weights are floating-point numbers. {ADVICE}")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{what}: {name} holds numbers that are not finite.")


def module_with(spec: NetworkSpec, tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    """The module of a description with the tensors of a file, by name; those that no file holds stay as built."""
    with torch.random.fork_rng(devices=[]):  # reading weights must not change what is drawn afterwards
        module = build_module(spec)
    module.load_state_dict(tensors, strict=False)
    return module


def tensors_of(content: bytes, path: Path) -> dict[str, torch.Tensor]:
    """The tensors of the content of a safetensors file; ValueError names the file and the remedy otherwise."""
    refuse_other_formats(content, path)
    try:
        return parse_tensors(content)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path} is not a safetensors file ({error}). {REMEDY}") from None


def _load(path: Path, device: torch.device | str) -> tuple[Network, Checked]:
    content, card = described(path)
    if path.suffix == ".onnx":
        module: nn.Module = OnnxModule(content, card.spec, str(path))
        numbers = 0
    else:
        module, numbers = _filled(card.spec, tensors_of(content, path), path)
    network = Network(card.spec, module.to(device).eval(), card.document)
    return network, Checked(path, card, len(content), numbers)


def _filled(spec: NetworkSpec, tensors: dict[str, torch.Tensor], path: Path) -> tuple[nn.Module, int]:
    """The network's module with the weights of a file, and how many numbers these are."""
    check_tensors(spec, tensors, str(path))
    module = module_with(spec, {name: tensor.float() for name, tensor in tensors.items()})
    return module.float(), sum(tensor.numel() for tensor in tensors.values())
