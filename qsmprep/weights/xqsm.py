"""The released weights of xQSM: a PyTorch state dict of a U-net of octave convolutions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from qsmprep.nets.network import Network
from qsmprep.nets.spec import Channel, Domain, NetworkSpec
from qsmprep.nets.unet_spec import UnetSpec
from qsmprep.weights.pytorch import PARALLEL, named_state, read_tensors
from qsmprep.weights.store import module_with

BRANCHES = {"high_high": ("convHH", "BN_HH"), "low_low": ("convLL", "BN_LL"), "high_low": ("convHL", "BN_HL")}
NORM = ("weight", "bias", "running_mean", "running_var")
CONVOLUTION = ("weight", "bias")


def read_xqsm(path: Path, *, name: str = "xqsm") -> Network:
    """The released xQSM from its PyTorch file.

    Parameters
    ----------
    path : .pth file; width and number of poolings are read from it.
    name : of the network.

    Returns
    -------
    The network: tissue field (n, 1, ...) in ppm to susceptibility (n, 1, ...) in ppm, neither normalised, the field
    added to what the layers make of it.

    Raises
    ------
    ValueError : the file holds more than tensors (nothing of it is run), or it is not such a network.
    """
    tensors = read_tensors(path)
    spec = NetworkSpec(
        name, "inversion", _architecture(tensors, path), (Channel("tissue-field"),), (Channel("chi"),), Domain()
    )
    state = named_state(tensors, dict(_names(spec.architecture.levels)), spec, path)  # type: ignore[union-attr]
    state |= {"shortcut.weight": torch.ones(1, 1, 1, 1, 1), "shortcut.bias": torch.zeros(1)}
    return Network(spec, module_with(spec, state).eval())


def _architecture(tensors: Mapping[str, torch.Tensor], path: Path) -> UnetSpec:
    shapes = {key.removeprefix(PARALLEL): tuple(tensor.shape) for key, tensor in tensors.items()}
    first = shapes.get("InputOct.EncodeConv1.convHH.weight", ())
    levels = sum(f"EncodeConvs.{level}.EncodeConv1.convHH.weight" in shapes for level in range(6))
    if len(first) != 5 or not levels:
        raise ValueError(f"{path} has no InputOct.EncodeConv1.convHH and EncodeConvs of three dimensions, so these are "
                         "not the weights of xQSM.")  # fmt: skip
    try:
        return UnetSpec(width=2 * first[0], kernel=first[2], levels=levels, shortcut=True, octave=0.5)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _names(levels: int) -> Iterator[tuple[str, str]]:
    """Our names and theirs."""
    for branch in ("high_high", "high_low"):
        yield from _branch(f"entry.{branch}", "InputOct.EncodeConv1", branch)
    yield from _octave("entry.second", "InputOct.EncodeConv2")
    places = [(f"encoder.{level}", f"EncodeConvs.{level}.EncodeConv") for level in range(levels)]
    places += [("middle", "MidConv1.MidConv")]
    places += [(f"decoder.{level}", f"DecodeConvs.{level}.DecodeConv") for level in range(levels)]
    for ours, theirs in places:
        yield from _octave(f"{ours}.first", f"{theirs}1")
        yield from _octave(f"{ours}.second", f"{theirs}2")
    for level in range(levels):
        rise = f"DecodeConvs.{level}.up"
        for ours, theirs in (("high_high", "HH"), ("low_high", "LH"), ("low_low", "LL"), ("high_low", "HL")):
            yield from _each(f"up.{level}.{ours}", f"{rise}.up_{theirs}", CONVOLUTION)
        yield from _each(f"up.{level}.high_norm", f"{rise}.BN_H", NORM)
        yield from _each(f"up.{level}.low_norm", f"{rise}.BN_L", NORM)
    yield from _branch("exit.high_high", "FinalOct", "high_high")
    yield from _low_high("exit.low_high", "FinalOct")
    yield from _each("out", "FinalOct.FinalConv", CONVOLUTION)


def _octave(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    for branch in BRANCHES:
        yield from _branch(f"{ours}.{branch}", theirs, branch)
    yield from _low_high(f"{ours}.low_high", theirs)


def _branch(ours: str, theirs: str, branch: str) -> Iterator[tuple[str, str]]:
    convolution, norm = BRANCHES[branch]
    yield from _each(f"{ours}.0", f"{theirs}.{convolution}", CONVOLUTION)
    yield from _each(f"{ours}.1", f"{theirs}.{norm}", NORM)


def _low_high(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    yield from _each(f"{ours}.0", f"{theirs}.convLH", CONVOLUTION)
    yield from _each(f"{ours}.1", f"{theirs}.up", CONVOLUTION)
    yield from _each(f"{ours}.2", f"{theirs}.BN_LH", NORM)


def _each(ours: str, theirs: str, kinds: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    yield from ((f"{ours}.{kind}", f"{theirs}.{kind}") for kind in kinds)
