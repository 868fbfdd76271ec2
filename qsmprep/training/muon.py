"""Muon: momentum whose every matrix is made orthogonal before it is added, so that all directions are learnt alike."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

MOMENTUM = 0.95
BETAS = (0.9, 0.99)  # of Adam, for what is no matrix
ROUNDS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic of Newton and Schulz
AS_ADAM = 0.2  # r.m.s. of an update over the learning rate, about that of Adam, so that its learning rates serve
SMALLEST_SIDE = 9  # kernels with fewer channels on either side are no matrices worth it


class Muon(torch.optim.Optimizer):
    """Orthogonal momentum for the kernels of convolutions, output channels by all the rest; Adam for other weights.

    References
    ----------
    Jordan 2024 (Muon); Liu 2025 (the size of an update). torch.optim.Muon takes matrices only.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float):
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        """Update all weights by their gradients."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if min(weight.shape[:2], default=0) >= SMALLEST_SIDE and weight.ndim > 2:
                    weight.add_(_orthogonal_update(weight.grad, state), alpha=-group["lr"])
                else:
                    weight.add_(_adam_update(weight.grad, state), alpha=-group["lr"])


def _orthogonal_update(gradient: torch.Tensor, state: dict[str, torch.Tensor]) -> torch.Tensor:
    if not state:
        state["momentum"] = torch.zeros_like(gradient)
    state["momentum"].mul_(MOMENTUM).add_(gradient)
    matrix = (gradient + MOMENTUM * state["momentum"]).flatten(1)
    size = AS_ADAM * max(matrix.shape) ** 0.5
    return (orthogonal(matrix) * size).view_as(gradient)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """The matrix (n, m) with all singular values brought near 1 (0.7 to 1.2), by a polynomial iteration."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).bfloat16()
    x = x / x.norm().clamp_min(1e-7)
    for _ in range(ROUNDS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if tall else x).to(matrix.dtype)


def _adam_update(gradient: torch.Tensor, state: dict[str, torch.Tensor]) -> torch.Tensor:
    if not state:
        state |= {"mean": torch.zeros_like(gradient), "square": torch.zeros_like(gradient), "step": torch.zeros(())}
    state["step"] += 1
    state["mean"].lerp_(gradient, 1 - BETAS[0])
    state["square"].lerp_(gradient**2, 1 - BETAS[1])
    mean, square = (state[name] / (1 - b ** state["step"]) for name, b in zip(("mean", "square"), BETAS, strict=True))
    return mean / (square.sqrt() + 1e-8)
