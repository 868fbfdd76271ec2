"""A critic that learns to tell a network's maps from true ones, and so teaches the network what true ones look like."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import nn

WIDTH = 16
HALVINGS = 3
SMALLEST_EDGE = 2 * 2**HALVINGS  # voxels of a map that it can judge
PENALTY = 10.0  # as published
BETAS = (0.0, 0.9)  # of its optimizer, as published


class Critic(nn.Module):
    """Convolutions of stride two and no normalisation: a score for each patch of a map, high where it looks true."""

    def __init__(self, channels: int):
        super().__init__()
        widths = [channels, *(WIDTH * 2**level for level in range(HALVINGS))]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv3d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv3d(widths[-1], 1, 1))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Mean score of each map: (n, channels, n0, n1, n2) -> (n,)."""
        scores: torch.Tensor = self.layers(maps)
        return scores.mean((1, 2, 3, 4))


@dataclass(frozen=True)
class Adversary:
    """The critic and the rule by which it learns."""

    critic: Critic
    optimizer: torch.optim.Optimizer


def adversary(channels: int, learning_rate: float, device: str) -> Adversary:
    """A critic of maps with some channels, its weights drawn from torch's generator."""
    critic = Critic(channels).to(device)
    return Adversary(critic, torch.optim.Adam(critic.parameters(), lr=learning_rate, betas=BETAS))


def judged(opponent: Adversary, found: torch.Tensor, label: torch.Tensor, updates: int) -> torch.Tensor:
    """Let the critic learn from maps and their labels, and tell what it then thinks of the maps: low is good.

    The critic's score may change by no more than the root mean square by which a map does, so that what is told is
    hardly above the root mean squared error that a loss would name, whatever the size of the patch.

    Parameters
    ----------
    opponent : whose critic is changed in place.
    found, label : (n, channels, n0, n1, n2), normalised; the gradient of the result reaches `found`.
    updates : of the critic.

    References
    ----------
    Gulrajani 2017 (Wasserstein distance with gradient penalty); Chen 2020 (QSMGAN).
    """
    with torch.autocast(found.device.type, enabled=False):
        maps, truth = found.float(), label.float()
        opponent.critic.requires_grad_(True)
        for _ in range(updates):
            _learn(opponent, maps.detach(), truth)
        opponent.critic.requires_grad_(False)
        told: torch.Tensor = opponent.critic(truth).mean() - opponent.critic(maps).mean()
        return told


def _learn(opponent: Adversary, maps: torch.Tensor, truth: torch.Tensor) -> None:
    critic = opponent.critic
    opponent.optimizer.zero_grad(set_to_none=True)
    loss = critic(maps).mean() - critic(truth).mean() + PENALTY * ((slopes(critic, maps, truth) - 1) ** 2).mean()
    loss.backward()
    opponent.optimizer.step()


def slopes(critic: Critic, maps: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Change of scores over the root mean square of a map's change, at random points between maps and truth: (n,)."""
    share = torch.rand(len(maps), 1, 1, 1, 1, device=maps.device)
    between = (share * maps + (1 - share) * truth).requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    flat = gradient.flatten(1)
    return flat.norm(dim=1) * flat.shape[1] ** 0.5
