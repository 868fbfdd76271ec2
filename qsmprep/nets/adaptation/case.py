"""One case in a network's view: the box around its mask, whole or by parts."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from qsmprep.nets.adaptation.data_term import PADDING, DataTerm, data_term, largest_weight_one
from qsmprep.nets.network import forward, kernel_of
from qsmprep.nets.patches import Box, within
from qsmprep.nets.seen import Seen
from qsmprep.nets.spec import NetworkSpec, quantities
from qsmprep.numerics.fourier import fast_shape
from qsmprep.numerics.volume import Frame, bounding_box
from qsmprep.scan import Scan


@dataclass(frozen=True)
class Case:
    """Images of one case on the device where it is adapted to, cropped to the mask.

    Attributes
    ----------
    spec : of the network.
    inputs_ppm : (1, channels, n0, n1, n2).
    mask : (1, 1, n0, n1, n2) float32.
    data : its data term.
    scan : geometry.
    half_precision : whether the network's inner numbers are bfloat16.
    """

    spec: NetworkSpec
    inputs_ppm: torch.Tensor
    mask: torch.Tensor
    data: DataTerm
    scan: Scan
    half_precision: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the cropped volume."""
        return tuple(self.mask.shape[-3:])

    def outputs(self, module: nn.Module, box: Box = ()) -> torch.Tensor:
        """The network's outputs in ppm but for an expected error, of a box of the volume; without one of all of it."""
        part = within(box)
        return self.of(module, self.inputs_ppm[part], self.mask[part])

    def of(self, module: nn.Module, inputs_ppm: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """What `outputs` gives, of any inputs on the case's grid; the kernel, if known, is that of their shape."""
        dipole = _kernel(self.spec, tuple(mask.shape[-3:]), self.scan) if self.spec.knows_kernel else None
        dipole = None if dipole is None else dipole.to(mask.device)
        with torch.autocast(mask.device.type, dtype=torch.bfloat16, enabled=self.half_precision):
            found = forward(self.spec, module, inputs_ppm, mask, dipole).float()
        return found[:, :-1] if self.spec.expects_error else found

    def random_box(self, random: np.random.Generator, edge: int) -> tuple[Box, Box]:
        """A box around a random voxel of the mask, and the part of it that is far enough from what was cut off.

        The box starts on the grid of the poolings. A sixth of its edge is left out at each side, unless the volume
        ends there.
        """
        voxels = self.mask.nonzero()
        centre = voxels[random.integers(len(voxels))][-3:].tolist()
        multiple, box, inner = self.spec.multiple, [], []
        for middle, size in zip(centre, self.shape, strict=True):
            length = min(-(-edge // multiple) * multiple, size)
            start = min(max(middle - length // 2, 0), size - length) // multiple * multiple
            stop, margin = start + length, length // 6
            box.append(slice(start, stop))
            inner.append(slice(start + margin if start else 0, stop - margin if stop < size else size))
        return tuple(box), tuple(inner)


@functools.lru_cache(maxsize=4)
def _kernel(spec: NetworkSpec, shape: tuple[int, ...], scan: Scan) -> torch.Tensor:
    return torch.as_tensor(kernel_of(spec, shape, scan))


def make_case(spec: NetworkSpec, seen: Seen, *, nonlinear: bool, half_precision: bool, device: str) -> Case:
    """The case of what a network sees of a scan.

    Raises
    ------
    ValueError : shapes that do not fit, values that are not finite, no phase of 1 ppm, or a network that does not
        invert a tissue field.
    """
    if seen.term is None:
        raise ValueError("Adaptation to a case needs the phase of 1 ppm.")
    inputs_ppm, mask, weights = seen.inputs_ppm, np.asarray(seen.mask) > 0, seen.term.weights
    _check(spec, inputs_ppm, mask, weights)
    # An unrolled network convolves the volume it is given, so that this needs the zeros itself.
    box = bounding_box(mask)
    sizes = tuple(part.stop - part.start for part in box)
    padded = fast_shape(tuple(n + PADDING for n in sizes)) if spec.unrolled else _multiples(sizes, spec.multiple)
    frame = Frame(tuple(mask.shape), box, padded)

    def tensor(image: np.ndarray) -> torch.Tensor:
        inside = np.where(mask, image, 0).astype(np.float32)
        return torch.as_tensor(frame.crop(inside), device=device)[None, None]

    inputs = torch.cat([tensor(channel) for channel in inputs_ppm], dim=1)
    inside = tensor(mask)
    at = quantities(spec.inputs).index("tissue-field")
    data = data_term(
        inputs[:, at : at + 1],
        inside,
        scan=seen.scan,
        weights=None if weights is None else tensor(largest_weight_one(np.asarray(weights), mask)),
        radians_per_ppm=seen.term.radians,
        nonlinear=nonlinear,
    )
    return Case(spec, inputs, inside, data, seen.scan, half_precision)


def _multiples(sizes: tuple[int, ...], multiple: int) -> tuple[int, ...]:
    return tuple(-(-n // multiple) * multiple for n in sizes)


def _check(spec: NetworkSpec, inputs_ppm: np.ndarray, mask: np.ndarray, weights: np.ndarray | None) -> None:
    if spec.task != "inversion" or "tissue-field" not in quantities(spec.inputs):
        raise ValueError(f"Only a network that inverts a tissue field can be adapted to a case; {spec.name!r} is for "
                         f"{spec.task} of {', '.join(quantities(spec.inputs))}.")  # fmt: skip
    expected = (len(spec.inputs), *mask.shape)
    if mask.ndim != 3 or np.shape(inputs_ppm) != expected:
        raise ValueError(f"{spec.name!r} needs inputs of shape {expected}; got {np.shape(inputs_ppm)}.")
    if weights is not None and np.shape(weights) != mask.shape:
        raise ValueError(f"The weights have shape {np.shape(weights)}, the mask {mask.shape}.")
    if not mask.any():
        raise ValueError("The mask is empty: no voxel to adapt to.")
    if not np.isfinite(np.asarray(inputs_ppm)[:, mask]).all():
        raise ValueError("The inputs hold values that are not finite inside the mask.")
    if not np.asarray(inputs_ppm)[quantities(spec.inputs).index("tissue-field")][mask].any():
        raise ValueError("The tissue field is 0 everywhere inside the mask: nothing to adapt to.")


@contextlib.contextmanager
def frugal(module: nn.Module) -> Iterator[None]:
    """Within it, levels of a U-net and blocks of an unrolled network are computed again rather than kept for descent.

    A third more time for about half the memory. A batch normalisation that learns its statistics takes in each volume
    twice, which is only a larger momentum.
    """
    layers: Any = module  # torch does not say what an attribute of a module is
    if hasattr(layers, "encoder"):
        parts = [*layers.encoder, *layers.decoder]
    else:
        parts = [block for net in layers.nets for block in net.blocks]
    for part in parts:
        part.forward = functools.partial(checkpoint, part.forward, use_reentrant=False, preserve_rng_state=False)
    try:
        yield
    finally:
        for part in parts:
            del part.forward
