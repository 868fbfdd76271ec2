"""A network with its weights: built from its description, fed and read in physical units."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from qsmprep.nets.octave import OctaveUnet
from qsmprep.nets.spec import NOT_NEGATIVE, Channel, NetworkSpec, quantities
from qsmprep.nets.unet import Unet
from qsmprep.nets.unet_spec import UnetSpec
from qsmprep.nets.unrolled import Unrolled, nearest_explaining
from qsmprep.numerics.arrays import FloatImage
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import fast_shape
from qsmprep.scan import Scan

UNROLLED_KERNEL, CONSISTENT_KERNEL = "continuous", "integrated"
PADDING = 32  # zeros beyond a volume that returns to its data, in voxels


@dataclass(frozen=True)
class Network:
    """A network ready to use.

    Attributes
    ----------
    spec : its description.
    module : torch module with the weights.
    card : what is known of its training and scores, as the weight file's card says.
    """

    spec: NetworkSpec
    module: nn.Module
    card: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def build_module(spec: NetworkSpec) -> nn.Module:
    """The module of a description, with random weights drawn from torch's generator."""
    if isinstance(spec.architecture, UnetSpec):
        return OctaveUnet(spec.architecture) if spec.architecture.octave else Unet(spec.architecture)
    module = Unrolled(spec.architecture)
    module.normalise_by(*_statistics(spec.outputs, torch.float32, torch.device("cpu")))
    return module


def channels_last(module: nn.Module) -> nn.Module:
    """The module with its memory laid out for convolutions of volumes: voxels apart, the channels of each together."""
    return module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload, no-any-return]


def normalised(channels: tuple[Channel, ...], images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(images - mean) / deviation inside the mask, 0 outside: (n, channels, n0, n1, n2)."""
    mean, deviation = _statistics(channels, images.dtype, images.device)
    return (images - _spread(mean)) / _spread(deviation) * mask


def physical(channels: tuple[Channel, ...], values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The inverse of `normalised`, in ppm; quantities that cannot be negative are not clipped here."""
    mean, deviation = _statistics(channels, values.dtype, values.device)
    return (values * _spread(deviation) + _spread(mean)) * mask


def forward(
    spec: NetworkSpec,
    module: nn.Module,
    inputs_ppm: torch.Tensor,
    mask: torch.Tensor,
    dipole: torch.Tensor | None = None,
) -> torch.Tensor:
    """Outputs in ppm of inputs in ppm, inside the mask.

    Parameters
    ----------
    spec, module : the network.
    inputs_ppm : (n, channels, n0, n1, n2) float32 in the order of `spec.inputs`.
    mask : (n, 1, n0, n1, n2) float32, 1 inside.
    dipole : (n0, n1, n2 // 2 + 1) half spectrum of the kernel; networks that know the kernel need it.

    Returns
    -------
    (n, channels, n0, n1, n2) float32 in the order of `spec.outputs`, 0 outside the mask; not clipped.
    """
    if spec.works_with_kernel and dipole is None:
        raise ValueError(f"{spec.name} needs the dipole kernel.")
    if spec.unrolled:
        found: torch.Tensor = module(inputs_ppm, dipole, mask) * mask
        return found
    outputs = answer(spec, module, inputs_ppm, mask)
    if dipole is None or not spec.consistent:
        return outputs
    return returned_to_data(spec, module, outputs, inputs_ppm, mask, dipole)


def answer(spec: NetworkSpec, module: nn.Module, inputs_ppm: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What a U-net says in ppm, before it returns to the data; arguments and result as those of `forward`.

    One that is given no mask sees its input wherever there is one, and 0 is what says that there is none.
    """
    shown = mask if spec.masked else (inputs_ppm != 0).to(inputs_ppm.dtype)
    values = module(normalised(spec.inputs, inputs_ppm, shown)).float()
    if spec.expects_error:
        values = torch.cat((values[:, :-1], nn.functional.softplus(values[:, -1:])), dim=1)
    return physical(spec.outputs, values, mask)


def kernel_of(spec: NetworkSpec, shape: tuple[int, ...], scan: Scan) -> FloatImage:
    """The half spectrum that a network which knows the kernel is given with a volume of a shape.

    An unrolled one works on the volume as it is; the return to the data pads it against the periodic images.
    """
    if spec.unrolled:
        return dipole_kernel(shape, scan.voxel_size_mm, scan.b0_direction, kind=UNROLLED_KERNEL)
    n0, n1, n2 = fast_shape(tuple(n + PADDING for n in shape))
    return dipole_kernel((n0, n1, n2 + n2 % 2), scan.voxel_size_mm, scan.b0_direction, kind=CONSISTENT_KERNEL)


def returned_to_data(
    spec: NetworkSpec,
    module: nn.Module,
    outputs_ppm: torch.Tensor,
    inputs_ppm: torch.Tensor,
    mask: torch.Tensor,
    dipole: torch.Tensor,
) -> torch.Tensor:
    """The susceptibility near a U-net's answer that explains the tissue field, other outputs as they are, in ppm."""
    at = quantities(spec.inputs).index("tissue-field")
    step: Any = module.step
    answered = outputs_ppm.float()
    chi = nearest_explaining(answered[:, :1], inputs_ppm[:, at : at + 1], dipole, mask, step)
    return torch.cat((chi, answered[:, 1:]), dim=1)


def clipped(spec: NetworkSpec, outputs_ppm: torch.Tensor) -> torch.Tensor:
    """The outputs with what cannot be negative set to 0 where it is."""
    parts = [
        torch.relu(outputs_ppm[:, i : i + 1]) if channel.quantity in NOT_NEGATIVE else outputs_ppm[:, i : i + 1]
        for i, channel in enumerate(spec.outputs)
    ]
    return torch.cat(parts, dim=1)


def _statistics(
    channels: tuple[Channel, ...], dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    mean = torch.tensor([channel.mean for channel in channels], dtype=dtype, device=device)
    return mean, torch.tensor([channel.deviation for channel in channels], dtype=dtype, device=device)


def _spread(values: torch.Tensor) -> torch.Tensor:
    return values.view(1, -1, 1, 1, 1)
