"""The released weights of the chi-sepnet family, from PyTorch checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch

from qsmprep.nets.network import Network
from qsmprep.nets.spec import Channel, NetworkSpec
from qsmprep.nets.unet_spec import UnetSpec
from qsmprep.weights.factors import channel, read_factors
from qsmprep.weights.pytorch import read_tensors
from qsmprep.weights.store import expected_shapes, module_with

# Network -> (task, inputs, outputs) in the order of its channels.
NETWORKS: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = MappingProxyType(
    {
        "chi-sepnet": ("separation", ("chi", "tissue-field", "r2prime"), ("chi-para", "chi-dia")),
        "chi-sepnet-r2star": ("separation", ("chi", "tissue-field", "r2star"), ("chi-para", "chi-dia")),
        "qsmnet-me": ("inversion", ("tissue-field",), ("chi",)),
        "r2primenet": ("r2prime", ("r2star",), ("r2prime",)),
    }
)
# Published normalisation factors in ppm (rates over 114 1/s/ppm): quantity -> (mean, deviation).
PUBLISHED: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "tissue-field": (-0.00260457, 0.01084966),
        "chi": (-0.00134021, 0.03150403),
        "r2prime": (0.05141880, 0.06977531),
        "r2star": (0.15865366, 0.07501979),
        "chi-para": (0.02591282, 0.03526418),
        "chi-dia": (0.02670069, 0.02793610),
    }
)
# What the released file of factors calls each quantity; `_mean` and `_std` follow.
FACTOR_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "tissue-field": "field",
        "chi": "cosmos_sus",
        "r2prime": "r2prime",
        "r2star": "r2star",
        "chi-para": "x_pos",
        "chi-dia": "x_neg",
    }
)
PER_LEVEL, AROUND = 26, 14  # tensors of a level of the U-net, and of its lowest level with the last convolution


def read_chisepnet(
    path: Path, factors: Path | None = None, *, network: str = "chi-sepnet", name: str | None = None
) -> Network:
    """A network of the chi-sepnet family from its PyTorch checkpoint.

    Parameters
    ----------
    path : .pth or .pth.tar file: a state dict, or a checkpoint that has one. The names of its tensors do not matter,
        but their order and shapes must be those of the published U-net: encoder, lowest level, each decoder level with
        its transposed convolution first, last convolution; or all transposed convolutions after the encoder.
    factors : .mat or JSON file with field_mean, field_std, cosmos_sus_mean, ... in ppm; None: the published ones.
    network : one of NETWORKS.
    name : what to call it; None: `network`.

    Returns
    -------
    The network: inputs and outputs (n, channels, ...) in ppm as its description says.

    Raises
    ------
    ValueError : the file holds more than tensors (nothing of it is run), or it is not such a network.
    """
    if network not in NETWORKS:
        raise ValueError(f"Unknown network {network!r}; known are {', '.join(NETWORKS)}.")
    task, inputs, outputs = NETWORKS[network]
    tensors = read_tensors(path)
    architecture = _architecture(tensors, path)
    if (architecture.channels_in, architecture.channels_out) != (len(inputs), len(outputs)):
        raise ValueError(f"{path}: the network has {architecture.channels_in} channels in and "
                         f"{architecture.channels_out} out, but {network} has {len(inputs)} and {len(outputs)}. Choose "
                         f"another --network: {', '.join(NETWORKS)}.")  # fmt: skip
    spec = NetworkSpec(name or network, task, architecture, _channels(inputs, factors), _channels(outputs, factors))
    return Network(spec, module_with(spec, _state(tensors, spec, path, architecture.levels)).eval())


def _channels(names: tuple[str, ...], factors: Path | None) -> tuple[Channel, ...]:
    """Channels with the factors of a file; None: with the published ones."""
    if factors is None:
        return tuple(Channel(name, *PUBLISHED[name]) for name in names)
    found = read_factors(factors)
    theirs = {name: FACTOR_NAMES[name] for name in names}
    return tuple(channel(name, found, f"{word}_mean", f"{word}_std", factors) for name, word in theirs.items())


def _architecture(tensors: Mapping[str, torch.Tensor], path: Path) -> UnetSpec:
    levels, rest = divmod(len(tensors) - AROUND, PER_LEVEL)
    first, *_, last = tensors.values() if len(tensors) > 1 else (torch.zeros(0),) * 2
    if rest or not 1 <= levels <= 6 or first.ndim != 5 or last.ndim != 1:
        raise ValueError(f"{path} holds {len(tensors)} tensors; the published U-net has {AROUND + 4 * PER_LEVEL}, the "
                         "first the kernel of a three-dimensional convolution, the last a bias.")  # fmt: skip
    try:
        return UnetSpec(first.shape[1], last.shape[0], first.shape[0], first.shape[2], levels=levels)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _state(tensors: Mapping[str, torch.Tensor], spec: NetworkSpec, path: Path, levels: int) -> dict[str, torch.Tensor]:
    """The tensors under our names, in whichever of the two orders fits."""
    shapes = expected_shapes(spec)
    misfits = []
    for order in (_interleaved(shapes, levels), list(shapes)):
        place, misfit = _first_misfit(tensors, shapes, order)
        if misfit is None:
            return {ours: tensor.float() for ours, tensor in zip(order, tensors.values(), strict=True)}
        misfits.append((place, misfit))
    raise ValueError(f"{path}: {max(misfits)[1]}, so the layers are not those of the published network.")


def _first_misfit(tensors, shapes, order: list[str]) -> tuple[int, str | None]:
    for place, (ours, (theirs, tensor)) in enumerate(zip(order, tensors.items(), strict=True)):
        kind = ours.rpartition(".")[2]
        if theirs.rpartition(".")[2] != kind or tuple(tensor.shape) != shapes[ours]:
            return place, (f"{theirs} has the shape {tuple(tensor.shape)}, but in its place the network has {ours}, a "
                           f"{kind} of the shape {shapes[ours]}")  # fmt: skip
        if not (tensor.is_floating_point() and torch.isfinite(tensor).all()):
            return place, f"{theirs} does not hold finite floating-point numbers"
    return len(order), None


def _interleaved(shapes: Mapping[str, tuple[int, ...]], levels: int) -> list[str]:
    """Names in the order of the published code: each transposed convolution before the level it leads to."""
    order = [name for name in shapes if name.startswith("encoder.")]
    for level in range(levels):
        order += [name for name in shapes if name.startswith((f"up.{level}.", f"decoder.{level}."))]
    return [*order, *(name for name in shapes if name.startswith("out."))]
