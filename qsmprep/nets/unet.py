"""The three-dimensional U-net that most published networks of QSM are: one module, many descriptions."""

from __future__ import annotations

import torch
from torch import nn

from qsmprep.nets.unet_spec import UnetSpec


class Unet(nn.Module):
    """Levels of two convolutions each (five as published), joined by pooling down and transposed convolutions up.

    Input (n, channels_in, n0, n1, n2) with sizes that are multiples of 16 (2^levels); output (n, channels_out, n0, n1,
    n2).

    References
    ----------
    Yoon 2018 (QSMnet); Kim 2025 (chi-sepnet). Layers and their order are the published ones.
    """

    def __init__(self, spec: UnetSpec):
        super().__init__()
        self.spec = spec
        widths = [spec.width * 2**level for level in range(spec.levels + 1)]
        packed = spec.packing**3
        before = [spec.channels_in * packed, *widths[:-1]]
        self.encoder = nn.ModuleList(_two(i, o, spec) for i, o in zip(before, widths, strict=True))
        self.pool = nn.MaxPool3d(2)
        steps = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose3d(low, high, 2, stride=2) for low, high in steps)
        self.decoder = nn.ModuleList(_two(2 * high, high, spec) for _, high in steps)
        self.out = nn.Conv3d(spec.width, spec.channels_out * packed, 1)
        self.shortcut = nn.Conv3d(spec.channels_in, spec.channels_out, 1) if spec.shortcut else None
        self.step = nn.Parameter(torch.tensor([spec.consistency])) if spec.consistency else None
        initialise(self, spec)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The network's output."""
        check_size(x, self.spec.multiple)
        direct = None if self.shortcut is None else in_single_precision(self.shortcut, x)
        x, kept = pack(x, self.spec.packing), []
        for level, convolve in enumerate(self.encoder):
            x = convolve(x if level == 0 else self.pool(x))
            kept.append(x)
        for rise, convolve, skip in zip(self.up, self.decoder, kept[-2::-1], strict=True):
            risen = rise(x)
            x = convolve(torch.cat((skip, risen) if self.spec.concatenation == "skip-first" else (risen, skip), 1))
        x = unpack(self.out(x), self.spec.packing)
        return x if direct is None else x.float() + direct


def initialise(net: nn.Module, spec: UnetSpec) -> None:
    """Draw the kernels of all convolutions, and set their biases to nought."""
    for module in net.modules():
        if not isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            continue
        if isinstance(module, nn.Conv3d) and spec.norm == "none":
            nn.init.kaiming_uniform_(module.weight, 0.1, nonlinearity="leaky_relu")
        else:
            nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def in_single_precision(shortcut: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The inputs' own share, whatever the rest of the network runs in."""
    with torch.autocast(x.device.type, enabled=False):
        direct: torch.Tensor = shortcut(x.float())
    return direct


def pack(x: torch.Tensor, edge: int) -> torch.Tensor:
    """Cubes of `edge` voxels as channels: (n, c, n0, n1, n2) -> (n, c edge^3, n0 / edge, n1 / edge, n2 / edge)."""
    if edge == 1:
        return x
    n, c, *sizes = x.shape
    split = [part for size in sizes for part in (size // edge, edge)]
    x = x.reshape(n, c, *split).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return x.reshape(n, c * edge**3, *(size // edge for size in sizes)).contiguous(memory_format=torch.channels_last_3d)


def unpack(x: torch.Tensor, edge: int) -> torch.Tensor:
    """The inverse of `pack`."""
    if edge == 1:
        return x
    n, c, *sizes = x.shape
    x = x.reshape(n, c // edge**3, edge, edge, edge, *sizes).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(n, c // edge**3, *(size * edge for size in sizes))


def check_size(x: torch.Tensor, multiple: int) -> None:
    """Raise ValueError where an image cannot be halved as often as the network does."""
    if any(n % multiple for n in x.shape[2:]):
        raise ValueError(f"The image has {tuple(x.shape[2:])} voxels; each axis must be a multiple of {multiple}.")


def _two(channels_in: int, channels_out: int, spec: UnetSpec) -> nn.Sequential:
    return nn.Sequential(*_one(channels_in, channels_out, spec), *_one(channels_out, channels_out, spec))


def _one(channels_in: int, channels_out: int, spec: UnetSpec) -> tuple[nn.Module, ...]:
    """Convolution, normalisation, activation."""
    convolution = nn.Conv3d(channels_in, channels_out, spec.kernel, padding=spec.kernel // 2)
    return convolution, normalisation(channels_out, spec), activation(spec)


def normalisation(channels: int, spec: UnetSpec) -> nn.Module:
    """What follows a convolution: batch normalisation, or nothing."""
    batch_norm = nn.BatchNorm3d(channels, eps=spec.norm_epsilon, momentum=spec.norm_momentum)
    return batch_norm if spec.norm == "batch" else nn.Identity()


def activation(spec: UnetSpec) -> nn.Module:
    """The nonlinear step of a layer."""
    return nn.LeakyReLU(0.1, inplace=True) if spec.activation == "leaky-relu" else nn.ReLU(inplace=True)
