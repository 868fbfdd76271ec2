"""Unrolled networks: iterations of a physical model with a learned step between them."""

from __future__ import annotations

import torch
from torch import nn

from qsmprep.nets.unrolled_spec import PUBLISHED_STEP, UnrolledSpec

SMALLEST_STEP = 0.003  # of a return to the data: noise is amplified by at most 9


class ResidualNet(nn.Module):
    """Convolution, residual blocks, three 1x1x1 convolutions, as released with MoDL-QSM."""

    def __init__(self, channels: int, spec: UnrolledSpec):
        super().__init__()
        width = spec.width
        self.shortcut = nn.Conv3d(channels, channels, 1, bias=False) if spec.residual else None
        self.head = nn.Conv3d(channels, width, 3, padding=1, bias=spec.bias)
        self.blocks = nn.ModuleList(_Block(spec) for _ in range(spec.blocks))
        self.mix = nn.ModuleList(nn.Conv3d(width, width, 1, bias=spec.bias) for _ in range(2))
        self.out = nn.Conv3d(width, channels, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                if spec.bias and module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.shortcut is not None:
            with torch.no_grad():  # start as the data term alone
                for numbers in (*self.out.parameters(), self.shortcut.weight):
                    numbers.zero_()
                self.shortcut.weight[0, 0] = 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same shape as the input."""
        direct = None if self.shortcut is None else self.shortcut(x).float()
        x = torch.relu(self.head(x))
        for block in self.blocks:
            x = block(x)
        for mix in self.mix:
            x = torch.relu(mix(x))
        found: torch.Tensor = self.out(x)
        return found if direct is None else found.float() + direct


class _Block(nn.Module):
    def __init__(self, spec: UnrolledSpec):
        super().__init__()
        width, epsilon = spec.width, spec.norm_epsilon
        self.first = nn.Conv3d(width, width, 3, padding=1, bias=spec.bias)
        self.first_norm = nn.BatchNorm3d(width, eps=epsilon) if spec.norm == "batch" else nn.Identity()
        self.dropout = nn.Dropout(spec.dropout)
        self.second = nn.Conv3d(width, width, 3, padding=1, bias=spec.bias)
        self.second_norm = nn.BatchNorm3d(width, eps=epsilon) if spec.norm == "batch" else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.dropout(torch.relu(self.first_norm(self.first(x))))
        return torch.relu(x + self.second_norm(self.second(inner)))


class Unrolled(nn.Module):
    """Iterations of gradient steps on the data term, each followed by a network.

    References
    ----------
    Feng 2021 (MoDL-QSM): X = (chi33, dB), A X = F^-1 [D F chi33 + F dB], input_1 = t A'y, X = N(input),
    input_k+1 = X - t A'A X + t A'y. Lai 2020 (LPCNN): chi = 0, then chi <- N(chi - t D M (D chi - f)), so that the
    network first sees t D f; the released code leaves the mask M out of the data term, and has no bias in its last
    convolution.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, spec: UnrolledSpec):
        super().__init__()
        self.spec = spec
        self.nets = nn.ModuleList([ResidualNet(spec.unknowns, spec)])
        steps = spec.iterations if spec.data_term == "proximal" else 1
        self.step = nn.Parameter(torch.full((steps,), spec.first_step or PUBLISHED_STEP))
        # Mean and s.d. of each unknown in ppm, set from the training data and kept with the weights.
        self.register_buffer("mean", torch.zeros(spec.unknowns), persistent=False)
        self.register_buffer("deviation", torch.ones(spec.unknowns), persistent=False)

    def normalise_by(self, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        """Set what the unknowns are normalised by, each (unknowns,) in ppm."""
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

    def forward(self, field: torch.Tensor, dipole: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Unknowns (n, unknowns, n0, n1, n2) in ppm.

        Parameters
        ----------
        field : (n, 1, n0, n1, n2) tissue field in ppm.
        dipole : (n0, n1, n2 // 2 + 1) half spectrum of the kernel.
        mask : (n, 1, n0, n1, n2), 1 inside.
        """
        if self.spec.kind == "lpcnn":
            return self._lpcnn(field, dipole, mask)
        adjoint = modl_adjoint(field, dipole)
        if self.spec.start == "division":
            x = torch.cat((truncated_division(field, dipole), torch.zeros_like(field)), dim=1)
        else:
            x = self.step[0] * adjoint
        for iteration in range(self.spec.iterations):
            x = self._regularised(self.nets[0], x, mask)
            if self.spec.data_term == "proximal":
                x = _nearest_explaining(x, field, dipole, mask, self.step[iteration])
            elif iteration + 1 < self.spec.iterations:
                explained = modl_forward(x, dipole) * (mask if self.spec.masked else 1)
                x = x - self.step[0] * modl_adjoint(explained, dipole) + self.step[0] * adjoint
        return x

    def _lpcnn(self, field: torch.Tensor, dipole: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.spec.start == "division":
            x = truncated_division(mask * field, dipole)
        else:
            x = self.step[0] * convolve(mask * field, dipole)
        inside = torch.ones_like(mask) if self.spec.data_term == "unmasked-gradient" else mask
        for iteration in range(self.spec.iterations):
            x = self._regularised(self.nets[0], x, mask)
            if self.spec.data_term == "proximal":
                x = nearest_explaining(x, field, dipole, mask, self.step[iteration])
            elif iteration + 1 < self.spec.iterations:
                x = x - self.step[0] * convolve(inside * (convolve(x, dipole) - mask * field), dipole)
        return x

    def _regularised(self, net: nn.Module, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The network's answer to the normalised unknowns, in ppm."""
        shape = (1, -1, 1, 1, 1)
        mean, deviation = self.mean.view(shape), self.deviation.view(shape)
        answer: torch.Tensor = net((x - mean) / deviation * mask)
        return (answer * mask * deviation + mean) * mask


def convolve(x: torch.Tensor, spectrum: torch.Tensor) -> torch.Tensor:
    """Real images times a real half spectrum, in single precision whatever the networks run in.

    A spectrum of a larger grid, whose last axis must be even, pads the images with zeros and crops the result.
    """
    axes = (-3, -2, -1)
    sizes = tuple(x.shape[-3:])
    n0, n1, half = spectrum.shape[-3:]
    grid = sizes if (n0, n1, half) == (*sizes[:2], sizes[2] // 2 + 1) else (n0, n1, 2 * (half - 1))
    if any(n > g for n, g in zip(sizes, grid, strict=True)):
        raise ValueError(f"A kernel of {grid} voxels is smaller than the image of {sizes}.")
    product = torch.fft.rfftn(x.float(), s=grid, dim=axes) * spectrum
    result: torch.Tensor = torch.fft.irfftn(product, s=grid, dim=axes)
    return result if grid == sizes else result[..., : sizes[0], : sizes[1], : sizes[2]]


def _nearest_explaining(
    x: torch.Tensor, field: torch.Tensor, dipole: torch.Tensor, mask: torch.Tensor, step: torch.Tensor
) -> torch.Tensor:
    """`nearest_explaining` for (n, 2, ...), the other channel, a field of its own, being kept."""
    chi = nearest_explaining(x[:, :1], field - x[:, 1:].float(), dipole, mask, step)
    return torch.cat((chi, x[:, 1:].float()), dim=1)


def nearest_explaining(
    chi: torch.Tensor, field: torch.Tensor, dipole: torch.Tensor, mask: torch.Tensor, step: torch.Tensor
) -> torch.Tensor:
    """The susceptibility (n, 1, ...) near `chi` that explains the field in the mask, 0 outside.

    Outside the mask the field is taken to be that of `chi`, so chi + F^-1 [D F r / (D^2 + step)], r = M (f - D chi).
    A learned step may come to 0 or below it, where noise would pass without bound: it acts as the root of the sum of
    its square and that of `SMALLEST_STEP`.
    """
    step = torch.sqrt(step**2 + SMALLEST_STEP**2)
    missing = mask * (field - convolve(chi, dipole))
    return (chi + convolve(missing, dipole / (dipole**2 + step))) * mask


def truncated_division(field: torch.Tensor, dipole: torch.Tensor, threshold: float = 0.15) -> torch.Tensor:
    """Field over the kernel, whose values below the threshold are lifted to it; (n, 1, ...) in ppm."""
    lifted = torch.where(dipole.abs() > threshold, dipole, torch.where(dipole < 0, -threshold, threshold))
    inverse = 1 / lifted
    inverse[..., 0, 0, 0] = 0
    response = (dipole * inverse).mean(dim=(-3, -2, -1), keepdim=True)
    return convolve(field, inverse / response)


def modl_forward(x: torch.Tensor, dipole: torch.Tensor) -> torch.Tensor:
    """Field (n, 1, ...) of chi33 and the off-diagonal field (n, 2, ...)."""
    return convolve(x[:, :1], dipole) + x[:, 1:]


def modl_adjoint(field: torch.Tensor, dipole: torch.Tensor) -> torch.Tensor:
    """Adjoint of `modl_forward`: (n, 1, ...) -> (n, 2, ...)."""
    return torch.cat((convolve(field, dipole), field.float()), dim=1)
