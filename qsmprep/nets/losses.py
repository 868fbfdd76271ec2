"""Losses of the published networks, on batches (n, channels, n0, n1, n2)."""

from __future__ import annotations

import itertools
import math

import torch

from qsmprep.nets.unrolled import convolve


def gradient_loss(found: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Mean difference of the rise to the 26 neighbours, each over its distance; voxels at the border are left out.

    References
    ----------
    Yoon 2018 (QSMnet): G(u) = sum over neighbours of relu(u_neighbour - u) / distance.
    """
    return (_rise(found) - _rise(label)).abs().mean()


def _rise(u: torch.Tensor) -> torch.Tensor:
    middle = u[..., 1:-1, 1:-1, 1:-1]
    total = torch.zeros_like(middle)
    sizes = u.shape[-3:]
    for shift in itertools.product((-1, 0, 1), repeat=3):
        if any(shift):
            x, y, z = (slice(1 + s, n - 1 + s) for s, n in zip(shift, sizes, strict=True))
            total = total + torch.relu(u[..., x, y, z] - middle) / math.sqrt(sum(s * s for s in shift))
    return total


def source_model_loss(
    sources_ppm: torch.Tensor,
    field_ppm: torch.Tensor,
    chi_ppm: torch.Tensor,
    sum_ppm: torch.Tensor,
    dipole: torch.Tensor,
    mask: torch.Tensor,
) -> torch.Tensor:
    """Sum of the mean absolute misfits of two sources (n, 2, ...) to field, susceptibility and R2'/D_r, all in ppm.

    References
    ----------
    Kim 2025 (chi-sepnet).
    """
    para, dia = sources_ppm[:, :1], sources_ppm[:, 1:]
    parts = (convolve(para - dia, dipole) - field_ppm, para - dia - chi_ppm, para + dia - sum_ppm)
    field, chi, rate = ((mask * part).abs().mean() for part in parts)
    return field + chi + rate
