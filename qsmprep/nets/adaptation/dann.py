"""Two domains, one network: synthetic pairs with labels, and one case without (2019 challenge)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from qsmprep.nets.adaptation.case import Case
from qsmprep.nets.adaptation.fine import descend, loss_of_case, penalty_of_map
from qsmprep.nets.adaptation.options import AdaptOptions
from qsmprep.numerics.progress import Progress, continued


def dann(
    module: nn.Module,
    case: Case,
    options: AdaptOptions,
    synthetic: Iterator[tuple[Any, Any, Any]] | None,
    progress: Progress | None = None,
) -> tuple[list[float], bool]:
    """Train on synthetic pairs and on the case together, then on the case alone: losses, and whether they settled.

    The domains share all weights but those of the batch normalisations, which have statistics and weights of their
    own in each. Minimises |N_s(f_s) - label|_1 + data_weight |W (exp(i r d*N_t(f_t)) - exp(i r f_t))|_1 / r
    + tv_weight TV(N_t(f_t)), each a mean over its mask, and then the last two terms alone, with the batch
    normalisation's statistics fixed. Losses are over the deviation of the first output. The published weights are not
    known to us, and ours (1 and 0) are not tuned.

    Parameters
    ----------
    module : changed in place into that of the case's domain; put into evaluation mode.
    case : what to adapt to.
    options : of the adaptation.
    synthetic : pairs, one an iteration: inputs (n, channels, ...) and labels (n, outputs, ...) in ppm, and the mask
        (n, 1, ...); on the voxels of the case and, for an unrolled network, with its direction of B0.
    progress : called as progress(iteration, all iterations of both phases).

    Raises
    ------
    ValueError : no pairs.

    References
    ----------
    Entry of a domain-adapted network to the 2019 challenge (QSM Challenge 2.0).
    """
    if synthetic is None:
        raise ValueError("DANN needs synthetic pairs.")
    deviation = case.spec.outputs[0].deviation
    penalty = penalty_of_map(case, case.data.absolute, options.data_weight / deviation, options.tv_weight / deviation)
    labelled = other_domain(module)
    before, total = options.synthetic_iterations, options.synthetic_iterations + options.iterations
    module.eval()
    of_case = loss_of_case(module, case, penalty, options)

    def of_both() -> torch.Tensor:
        inputs, labels, mask = (torch.as_tensor(a, dtype=torch.float32, device=case.mask.device)
                                for a in next(synthetic))  # fmt: skip
        found = case.of(labelled, inputs, mask)
        wrong = (found - labels[:, : found.shape[1]]) * mask
        return wrong.abs().sum() / (mask.sum() * found.shape[1] * deviation) + of_case()

    learn_statistics(module)
    learn_statistics(labelled)
    shared_once = dict.fromkeys([*module.parameters(), *labelled.parameters()])
    first, _ = descend(shared_once, of_both, before, options, continued(progress, 0, total), tolerance=0)
    module.eval()
    of_case = loss_of_case(module, case, penalty, options)
    rest = continued(progress, before, total)
    second, converged = descend(
        module.parameters(), of_case, options.iterations, options, rest, tolerance=options.tolerance
    )
    return first + second, converged


def other_domain(module: nn.Module) -> nn.Module:
    """A network that shares every weight with this one but has batch normalisations of its own, equal at first."""
    other = copy.deepcopy(module)
    mine = dict(module.named_modules())
    for name, part in other.named_modules():
        if not isinstance(part, nn.BatchNorm3d):
            for weight, _ in list(part.named_parameters(recurse=False)):
                setattr(part, weight, getattr(mine[name], weight))
    return other


def learn_statistics(module: nn.Module) -> None:
    """Let the batch normalisations learn their statistics; all else, dropout too, stays in evaluation mode."""
    module.eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm3d):
            part.train()
