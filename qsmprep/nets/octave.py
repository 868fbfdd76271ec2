"""A U-net of octave convolutions: part of its channels live at half the resolution, where they see twice as far."""

from __future__ import annotations

import torch
from torch import nn

from qsmprep.nets.unet import activation, check_size, in_single_precision, initialise, normalisation, pack, unpack
from qsmprep.nets.unet_spec import UnetSpec

Pair = tuple[torch.Tensor, torch.Tensor]  # channels at the full and at half the resolution


def split(channels: int, spec: UnetSpec) -> tuple[int, int]:
    """Channels at the full and at half the resolution."""
    high = int(channels * (1 - spec.octave))
    return high, channels - high


class OctaveUnet(nn.Module):
    """Two octave convolutions for the input, on each level down, below, and on each level up; one at the end.

    Input (n, channels_in, n0, n1, n2) with sizes that are multiples of 2^(levels + 1); output (n, channels_out, n0, n1,
    n2). The first level has the width of the input's layers; below the last pooling it is doubled and halved again.

    References
    ----------
    Gao 2021 (xQSM). Layers and their order are those released with it: two levels, width 64, half of the channels at
    half the resolution, the input added to the output (here times a factor that is learnt).
    """

    def __init__(self, spec: UnetSpec):
        super().__init__()
        self.spec = spec
        packed = spec.packing**3
        widths = [spec.width * 2**level for level in range(spec.levels)]
        self.entry = _Entry(spec.channels_in * packed, spec.width, spec)
        self.encoder = nn.ModuleList(_Two(i, o, o, spec) for i, o in zip([spec.width, *widths], widths, strict=False))
        self.middle = _Two(widths[-1], 2 * widths[-1], widths[-1], spec)
        ups = widths[::-1]
        self.up = nn.ModuleList(_Rise(width, spec) for width in ups)
        after = [*ups[1:], spec.width]
        self.decoder = nn.ModuleList(_Two(2 * i, i, o, spec) for i, o in zip(ups, after, strict=True))
        self.exit = _Exit(spec.width, spec)
        self.out = nn.Conv3d(spec.width, spec.channels_out * packed, 1)
        self.shortcut = nn.Conv3d(spec.channels_in, spec.channels_out, 1) if spec.shortcut else None
        self.step = nn.Parameter(torch.tensor([spec.consistency])) if spec.consistency else None
        initialise(self, spec)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The network's output."""
        check_size(x, self.spec.multiple)
        direct = None if self.shortcut is None else in_single_precision(self.shortcut, x)
        pair, kept = self.entry(pack(x, self.spec.packing)), []
        for convolve in self.encoder:
            pair = convolve(pair)
            kept.append(pair)
            pair = tuple(nn.functional.max_pool3d(part, 2) for part in pair)
        pair = self.middle(pair)
        for rise, convolve, skip in zip(self.up, self.decoder, kept[::-1], strict=True):
            pair = convolve(tuple(torch.cat(parts, 1) for parts in zip(rise(pair), skip, strict=True)))
        x = unpack(self.out(self.exit(pair)), self.spec.packing)
        return x if direct is None else x.float() + direct


class _Octave(nn.Module):
    """high = act(N(A high) + N(up(B low))), low = act(N(C low) + N(D mean(high))): A..D kernels, N normalisations."""

    def __init__(self, channels_in: int, channels_out: int, spec: UnetSpec):
        super().__init__()
        (high_in, low_in), (high_out, low_out) = split(channels_in, spec), split(channels_out, spec)
        self.high_high = _convolved(high_in, high_out, spec)
        self.low_high = _risen(low_in, high_out, spec)
        self.low_low = _convolved(low_in, low_out, spec)
        self.high_low = _convolved(high_in, low_out, spec)
        self.activation = activation(spec)

    def forward(self, pair: Pair) -> Pair:
        high, low = pair
        return (
            self.activation(self.high_high(high) + self.low_high(low)),
            self.activation(self.low_low(low) + self.high_low(nn.functional.avg_pool3d(high, 2))),
        )


class _Two(nn.Module):
    def __init__(self, channels_in: int, between: int, channels_out: int, spec: UnetSpec):
        super().__init__()
        self.first, self.second = _Octave(channels_in, between, spec), _Octave(between, channels_out, spec)

    def forward(self, pair: Pair) -> Pair:
        both: Pair = self.second(self.first(pair))
        return both


class _Entry(nn.Module):
    """From channels of one resolution to both."""

    def __init__(self, channels_in: int, width: int, spec: UnetSpec):
        super().__init__()
        high, low = split(width, spec)
        self.high_high, self.high_low = _convolved(channels_in, high, spec), _convolved(channels_in, low, spec)
        self.activation = activation(spec)
        self.second = _Octave(width, width, spec)

    def forward(self, x: torch.Tensor) -> Pair:
        low = self.high_low(nn.functional.avg_pool3d(x, 2))
        both: Pair = self.second((self.activation(self.high_high(x)), self.activation(low)))
        return both


class _Exit(nn.Module):
    """From both resolutions to as many channels of the full one."""

    def __init__(self, width: int, spec: UnetSpec):
        super().__init__()
        high, low = split(width, spec)
        self.high_high, self.low_high = _convolved(high, width, spec), _risen(low, width, spec)
        self.activation = activation(spec)

    def forward(self, pair: Pair) -> torch.Tensor:
        high, low = pair
        found: torch.Tensor = self.activation(self.high_high(high) + self.low_high(low))
        return found


class _Rise(nn.Module):
    """Both resolutions doubled, each with a share of the other."""

    def __init__(self, width: int, spec: UnetSpec):
        super().__init__()
        high, low = split(width, spec)
        self.high_high = nn.ConvTranspose3d(high, high, 2, stride=2)
        self.low_high = nn.ConvTranspose3d(low, high, 4, stride=4)
        self.low_low = nn.ConvTranspose3d(low, low, 2, stride=2)
        self.high_low = nn.Conv3d(high, low, spec.kernel, padding=spec.kernel // 2)
        self.high_norm, self.low_norm = normalisation(high, spec), normalisation(low, spec)
        self.activation = activation(spec)

    def forward(self, pair: Pair) -> Pair:
        high, low = pair
        return (
            self.activation(self.high_norm(self.high_high(high) + self.low_high(low))),
            self.activation(self.low_norm(self.low_low(low) + self.high_low(high))),
        )


def _convolved(channels_in: int, channels_out: int, spec: UnetSpec) -> nn.Sequential:
    convolution = nn.Conv3d(channels_in, channels_out, spec.kernel, padding=spec.kernel // 2)
    return nn.Sequential(convolution, normalisation(channels_out, spec))


def _risen(channels_in: int, channels_out: int, spec: UnetSpec) -> nn.Sequential:
    """Convolved at half the resolution, then brought to the full one."""
    convolution = nn.Conv3d(channels_in, channels_out, spec.kernel, padding=spec.kernel // 2)
    rise = nn.ConvTranspose3d(channels_out, channels_out, 2, stride=2)
    return nn.Sequential(convolution, rise, normalisation(channels_out, spec))
