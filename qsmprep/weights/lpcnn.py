"""The released weights of LPCNN: a PyTorch checkpoint of an unrolled network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from qsmprep.nets.network import Network
from qsmprep.nets.spec import Channel, Domain, NetworkSpec
from qsmprep.nets.unrolled_spec import UnrolledSpec
from qsmprep.weights.factors import channel, read_factors
from qsmprep.weights.pytorch import PARALLEL, named_state, read_tensors
from qsmprep.weights.store import module_with

FACTOR_NAMES = ("gt_mean", "gt_std")  # or as the released files are called:
FILE_NAMES = ("train_gt_mean", "train_gt_std")
NORM = ("weight", "bias", "running_mean", "running_var")


def read_lpcnn(path: Path, factors: Path, *, name: str = "lpcnn") -> Network:
    """The released LPCNN from its PyTorch checkpoint, three iterations.

    Parameters
    ----------
    path : .pkl or .pth file with the tensors under `model_state`, or a state dict; width and number of residual blocks
        are read from the shapes.
    factors : mean and s.d. of the susceptibility that it was trained on, in ppm: the folder with the released
        train_gt_mean.npy and train_gt_std.npy, or a .mat or JSON file with gt_mean and gt_std.
    name : of the network.

    Returns
    -------
    The network: tissue field (n, 1, ...) in ppm to susceptibility (n, 1, ...) in ppm. As in the released code its data
    term does not end at the mask.

    Raises
    ------
    ValueError : the file holds more than tensors and plain values (nothing of it is run), or it is not such a network.
    """
    tensors = read_tensors(path)
    shapes = {key.removeprefix(PARALLEL): tuple(tensor.shape) for key, tensor in tensors.items()}
    first = shapes.get("gen.0.weight", ())
    blocks = len([key for key in shapes if key.startswith("gen.2.") and key.endswith(".conv1.weight")])
    if len(first) != 5 or not blocks:
        raise ValueError(f"{path} has no gen.0 of three dimensions and no residual blocks under gen.2, so these are "
                         "not the weights of LPCNN.")  # fmt: skip
    spec = NetworkSpec(
        name,
        "inversion",
        UnrolledSpec(kind="lpcnn", width=first[0], blocks=blocks, data_term="unmasked-gradient"),
        (Channel("tissue-field"),),
        (_output(factors),),
        Domain(largest_tilt_degrees=180.0),
    )
    state = named_state(tensors, dict(_names(blocks)), spec, path)
    return Network(spec, module_with(spec, state | {"nets.0.out.bias": torch.zeros(1)}).eval())


def _output(factors: Path) -> Channel:
    found = read_factors(factors)
    mean, deviation = FILE_NAMES if FILE_NAMES[0] in found else FACTOR_NAMES
    return channel("chi", found, mean, deviation, factors)


def _names(blocks: int) -> Iterator[tuple[str, str]]:
    """Our names and theirs."""
    yield "step", "alpha"
    for ours, theirs in (("head", "gen.0"), ("mix.0", "gen.3"), ("mix.1", "gen.5"), ("out", "gen.7")):
        yield f"nets.0.{ours}.weight", f"{theirs}.weight"
    for block in range(blocks):
        for ours, theirs in (("first", "1"), ("second", "2")):
            place = f"nets.0.blocks.{block}.{ours}"
            yield f"{place}.weight", f"gen.2.{block}.conv{theirs}.weight"
            for kind in NORM:
                yield f"{place}_norm.{kind}", f"gen.2.{block}.bn{theirs}.{kind}"
