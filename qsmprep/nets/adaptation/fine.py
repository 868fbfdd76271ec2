"""Descent on the misfit of one case over a network's weights (FINE)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import nn

from qsmprep.nets.adaptation.case import Case, frugal
from qsmprep.nets.adaptation.data_term import total_variation
from qsmprep.nets.adaptation.options import AdaptOptions
from qsmprep.nets.patches import within
from qsmprep.numerics.progress import Progress

FRUGAL_VOXELS = 128**3  # volumes above this are computed twice to save memory
Loss = Callable[[], torch.Tensor]
Penalty = Callable[[torch.Tensor], torch.Tensor]


def fine(
    module: nn.Module, case: Case, options: AdaptOptions, progress: Progress | None = None
) -> tuple[list[float], bool]:
    """Change a network's weights so that its map explains the case's field: losses, and whether they settled.

    Minimises |W (exp(i r d*N(f)) - exp(i r f))|^2 / (r^2 |W|^2) + tv_weight TV(N(f))
    + anchor |(1 - W) (N(f) - N0(f))|^2 / |W|^2 over all weights of N by Adam, N0 being the network as it was trained,
    with the batch normalisation's running statistics as trained. Losses are over the mean square of the field: 1 is
    what a map of zeros has.

    Measured on two simulated heads with a calcification, where there is no signal and W is about 0.02. The trained map
    had an error of 19.7 % on a head like those of the training, of 28 % on that head at half its size. Without the
    anchor, 100 iterations made it 25.0 % and 18.5 %: most voxels gained in both, but the core of the calcification was
    free to go anywhere. With the anchor it is 19.1 % and 25.7 %: it does no harm, and what the trained network has
    wrong in such voxels stays wrong. Without the anchor, a third of the rate came to 25 % in 30 iterations on the
    second head, three times the rate diverged, and total variation of 0.5 to 2e-4 (FANSI's consensus settings are
    there) came to the same, 5e-4 to 20.9, 1e-3 to 24.1 %: the network is then held back from the field. The gradient
    of a part is noisy, so parts are for where memory is short.

    On heads unlike the training, whose maps are far from explaining the field, it helps as it is: 45.7 to 41.5 % in 10
    iterations (ellipsoids), 45.4 to 41.6 % in 20 (ICBM152). No rule stops it better: the misfit was still four times
    the noise then, and error and misfit fell together. On cubes of 48 voxels 30 iterations took 50.0 to 42.4 %
    (ellipsoids) and 63.6 to 55.5 % (qsm-forward); without the anchor 20 came to 38.7 and 56.1 %. What a return to the
    field in k-space does at once (`numerics.data_return`), descent over the weights has not done by then.

    Parameters
    ----------
    module : changed in place; put into evaluation mode.
    case : what to adapt to.
    options : of the adaptation.
    progress : called as progress(iteration, iterations).

    References
    ----------
    Zhang 2020 (FINE). The total variation, the anchor and the descent by parts are ours.
    """
    module.eval()
    scale = case.data.squared(torch.zeros_like(case.mask)).item()
    with torch.no_grad():
        trained_ppm = case.outputs(module)[:, :1]
    free = (1 - case.data.weights).square() * case.mask * (options.anchor / case.data.weights.square().sum())

    def misfit_and_anchor(outputs_ppm: torch.Tensor) -> torch.Tensor:
        moved = (free * (outputs_ppm[:, :1] - trained_ppm).square()).sum()
        return options.data_weight * case.data.squared(outputs_ppm) + moved

    penalty = penalty_of_map(case, misfit_and_anchor, 1 / scale, options.tv_weight / scale)
    loss = loss_of_case(module, case, penalty, options)
    return descend(module.parameters(), loss, options.iterations, options, progress, tolerance=options.tolerance)


def penalty_of_map(case: Case, misfit: Penalty, data_weight: float, tv_weight: float) -> Penalty:
    """The function data_weight misfit(outputs) + tv_weight TV(susceptibility) of a map of the whole case."""

    def penalty(outputs_ppm: torch.Tensor) -> torch.Tensor:
        loss = data_weight * misfit(outputs_ppm)
        if not tv_weight:
            return loss
        return loss + tv_weight * total_variation(outputs_ppm[:, :1], case.mask, case.scan.voxel_size_mm)

    return penalty


def loss_of_case(module: nn.Module, case: Case, penalty: Penalty, options: AdaptOptions) -> Loss:
    """A function whose every call is the penalty of the network's map of the whole case.

    With `options.crop`, a call runs the network only on a box around a random voxel of the mask; the rest of the map
    is what the calls before left there. The field is always that of the whole map, so that sources outside the box
    are not missed, and the gradient is the whole gradient's share of that box.
    """
    if not options.crop or all(n <= options.crop for n in case.shape):
        return lambda: _whole(module, case, penalty)
    random = np.random.default_rng(options.seed)
    with torch.no_grad():
        kept = [case.outputs(module)]

    def by_parts() -> torch.Tensor:
        box, inner = case.random_box(random, options.crop)
        found = case.outputs(module, box)
        inside = tuple(slice(i.start - b.start, i.stop - b.start) for i, b in zip(inner, box, strict=True))
        outputs_ppm = kept[0].clone()
        outputs_ppm[within(inner)] = found[within(inside)]
        kept[0] = outputs_ppm.detach()
        return penalty(outputs_ppm)

    return by_parts


def _whole(module: nn.Module, case: Case, penalty: Penalty) -> torch.Tensor:
    with frugal(module) if case.mask.numel() > FRUGAL_VOXELS else contextlib.nullcontext():
        return penalty(case.outputs(module))


def descend(
    parameters: Iterable[nn.Parameter],
    loss: Loss,
    iterations: int,
    options: AdaptOptions,
    progress: Progress | None,
    *,
    tolerance: float,
) -> tuple[list[float], bool]:
    """Adam until the mean loss of a window is that of the window before, within the tolerance.

    The rate rises over the first tenth of the iterations and falls to 0 at the last, along a cosine.

    Returns
    -------
    Losses, each before its step, and whether the tolerance was met.
    """
    optimiser = torch.optim.Adam(list(parameters), lr=options.learning_rate)
    losses: list[float] = []
    for iteration in range(iterations):
        with torch.enable_grad():
            optimiser.zero_grad()
            now = loss()
            now.backward()  # type: ignore[no-untyped-call]
        for group in optimiser.param_groups:
            group["lr"] = options.learning_rate * share_of_rate(iteration, iterations)
        optimiser.step()
        losses.append(now.item())
        if progress is not None:
            progress(iteration + 1, iterations)
        if settled(losses, options.window, tolerance):
            return losses, True
    return losses, False


def share_of_rate(iteration: int, iterations: int) -> float:
    """Share of the learning rate at an iteration, counted from 0.

    >>> [round(share_of_rate(k, 20), 2) for k in (0, 1, 10, 19)]
    [0.5, 0.99, 0.5, 0.01]
    """
    rise = min(1.0, (iteration + 1) / max(iterations // 10, 1))
    return rise * 0.5 * (1 + math.cos(math.pi * iteration / iterations))


def settled(losses: list[float], window: int, tolerance: float) -> bool:
    """Whether the mean over the last window differs from that of the window before by less than the tolerance."""
    if len(losses) < 2 * window or len(losses) % window:
        return False
    now, before = np.mean(losses[-window:]), np.mean(losses[-2 * window : -window])
    return bool(abs(before - now) < tolerance * abs(before))
