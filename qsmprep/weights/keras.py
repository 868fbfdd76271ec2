"""The released weights of MoDL-QSM: a Keras HDF5 file, laid out anew for torch.

Kernels are (k0, k1, k2, in, out) in Keras and (out, in, k0, k1, k2) in torch. The image axes stay as they are: MoDL-QSM
reads volumes as (x, y, z) arrays with B0 near the third axis, as qsmprep does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from qsmprep.nets.network import Network
from qsmprep.nets.spec import Channel, Domain, NetworkSpec
from qsmprep.nets.unrolled_spec import UnrolledSpec
from qsmprep.weights.factors import channel, read_factors
from qsmprep.weights.store import expected_shapes, module_with

EPSILON = 1e-3  # of Keras' batch normalisation
# Published normalisation factors in ppm: quantity -> (mean, deviation).
PUBLISHED = {"chi33": (-0.00225653, 0.02607500), "off-diagonal-field": (-0.00048529, 0.00408228)}
FACTOR_NAMES = ("CosTrnMean", "CosTrnStd")  # in the released NormFactor.mat, each of both unknowns
NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
LARGEST = 50_000_000  # numbers of one tensor
Layers = dict[str, dict[str, np.ndarray]]


def read_modl(path: Path, factors: Path | None = None, *, name: str = "modl-qsm") -> Network:
    """The released MoDL-QSM network from its Keras file.

    Parameters
    ----------
    path : .h5 file of Keras 2: weights alone or a whole model. Layers are told by their order and their shapes, so
        their names and the way they are nested do not matter; width and number of blocks are read from the shapes.
    factors : .mat or JSON file with CosTrnMean and CosTrnStd, two numbers each, in ppm; None: the published ones.
    name : of the network.

    Returns
    -------
    The network: tissue field (n, 1, ...) in ppm to chi33 and off-diagonal field (n, 2, ...) in ppm, three iterations.

    Raises
    ------
    ValueError : the file is damaged, or a layer is missing, left over or of another shape than MoDL-QSM's.
    """
    layers = read_layers(path)
    architecture = _architecture(layers, path)
    spec = NetworkSpec(
        name=name,
        task="inversion",
        architecture=architecture,
        inputs=(Channel("tissue-field"),),
        outputs=_outputs(factors),
        domain=Domain(voxel_size_mm=1.0, largest_tilt_degrees=180.0),
    )
    return Network(spec, module_with(spec, _state(layers, spec, path, architecture.blocks)).eval())


def read_layers(path: Path) -> Layers:
    """The weights of a Keras 2 file: layer -> kind of weight -> array, in the order in which the network runs.

    Raises
    ------
    ValueError : it is not such a file, or it refers to other files.
    """
    import h5py

    layers: Layers = {}
    try:
        with h5py.File(path, "r") as file:
            root = _inside(file, "model_weights") if "model_weights" in file else file
            for group in _names(root, "layer_names", path):
                for weight in _names(_inside(root, group), "weight_names", path):
                    layer, _, kind = weight.rpartition("/")
                    kind = re.sub(r"(_\d+)?(:\d+)?$", "", kind)
                    kinds = layers.setdefault(f"{group}/{layer}", {})
                    if kind in kinds:
                        raise ValueError(f"{path}: {group}/{weight} is there twice.")
                    kinds[kind] = _array(_inside(root, group), weight)
    except (OSError, KeyError, RuntimeError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a file of Keras weights that can be read ({error}). Give the released .h5 "
                         "file.") from None  # fmt: skip
    return layers


def _names(group, attribute: str, path: Path) -> list[str]:
    """A list of names that Keras keeps in one attribute, or in numbered parts where it is long."""
    parts = [attribute] if attribute in group.attrs else []
    while not parts or parts[0] != attribute:
        if f"{attribute}{len(parts)}" not in group.attrs:
            break
        parts.append(f"{attribute}{len(parts)}")
    if not parts:
        raise ValueError(f"{path}: {group.name} has no {attribute}, so this is not a file of Keras 2 weights.")
    names = [name for part in parts for name in group.attrs[part]]
    return [name.decode("utf-8") if isinstance(name, bytes) else str(name) for name in names]


def _inside(group, name: str):
    """A group or array stored in this very file."""
    import h5py

    here = group
    for part in name.split("/"):
        link = here.get(part, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise KeyError(f"{name} is missing" if link is None else f"{name} is a link")
        here = here[part]
    return here


def _array(group, name: str) -> np.ndarray:
    item = _inside(group, name)
    if item.external is not None or item.is_virtual:
        raise TypeError(f"{name} is kept in another file")
    if item.dtype.kind != "f" or item.size > LARGEST:
        raise TypeError(f"{name} is not an array of weights")
    return np.asarray(item[()], np.float32)


def _architecture(layers: Layers, path: Path) -> UnrolledSpec:
    first = next((kinds["kernel"] for kinds in layers.values() if "kernel" in kinds), np.zeros(0))
    norms = sum("gamma" in kinds for kinds in layers.values())
    if first.ndim != 5 or norms < 2:
        raise ValueError(f"{path}: the first layer is no three-dimensional convolution or there is no batch "
                         "normalisation, so these are not the weights of MoDL-QSM.")  # fmt: skip
    return UnrolledSpec(width=first.shape[-1], blocks=norms // 2, norm_epsilon=EPSILON)


def _outputs(factors: Path | None) -> tuple[Channel, ...]:
    if factors is None:
        return tuple(Channel(quantity, *numbers) for quantity, numbers in PUBLISHED.items())
    found = read_factors(factors)
    return tuple(channel(quantity, found, *FACTOR_NAMES, factors, place) for place, quantity in enumerate(PUBLISHED))


def _state(layers: Layers, spec: NetworkSpec, path: Path, blocks: int) -> dict[str, torch.Tensor]:
    """Our tensors from Keras' arrays, each array used exactly once."""
    shapes = expected_shapes(spec)
    left = {(layer, kind): array for layer, kinds in layers.items() for kind, array in kinds.items()}
    state = {}
    for ours, kind, layer in _pairs(layers, blocks):
        array = left.pop((layer, kind), None)
        if array is None:
            where = f"{layer} has no {kind}" if layer else f"there is no layer for it with a {kind}"
            raise ValueError(f"{path}: {ours} of MoDL-QSM is missing: {where}.")
        if kind == "kernel":
            array = array.transpose(4, 3, 0, 1, 2) if array.ndim == 5 else array
        array = array.reshape(1) if ours == "step" and array.size == 1 else array
        if array.shape != shapes[ours]:
            raise ValueError(f"{path}: {layer} {kind} has the shape {array.shape} in torch's order, but {ours} of "
                             f"MoDL-QSM needs {shapes[ours]}.")  # fmt: skip
        if not np.isfinite(array).all():
            raise ValueError(f"{path}: {layer} {kind} holds numbers that are not finite.")
        state[ours] = torch.from_numpy(np.ascontiguousarray(array))
    if left:
        raise ValueError(f"{path}: {len(left)} arrays are left over, the first is {' '.join(next(iter(left)))}; these "
                         "are not the weights of MoDL-QSM.")  # fmt: skip
    return state


def _pairs(layers: Layers, blocks: int) -> Iterator[tuple[str, str, str]]:
    """(name of our tensor, kind of Keras' weight, Keras' layer or "" where the file has too few), in forward order."""
    kernels = iter([layer for layer, kinds in layers.items() if "kernel" in kinds])
    norms = iter([layer for layer, kinds in layers.items() if "gamma" in kinds])
    plain = [layer for layer, kinds in layers.items() if not {"kernel", "gamma"} & set(kinds)]
    numbers = iter([(layer, kind) for layer in plain for kind, array in layers[layer].items() if array.size == 1])
    yield "nets.0.head.weight", "kernel", next(kernels, "")
    for block in range(blocks):
        for half in ("first", "second"):
            yield f"nets.0.blocks.{block}.{half}.weight", "kernel", next(kernels, "")
            layer = next(norms, "")
            for kind, ours in NORM.items():
                yield f"nets.0.blocks.{block}.{half}_norm.{ours}", kind, layer
    for mix in range(2):
        yield f"nets.0.mix.{mix}.weight", "kernel", next(kernels, "")
    last = next(kernels, "")
    yield "nets.0.out.weight", "kernel", last
    yield "nets.0.out.bias", "bias", last
    layer, kind = next(numbers, ("", "step"))
    yield "step", kind, layer
