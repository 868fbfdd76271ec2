"""Adaptation of a trained inversion network to one case, by the physics of its field."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qsmprep.nets.adaptation.options import AdaptOptions
from qsmprep.nets.seen import Seen
from qsmprep.numerics.convergence import Convergence
from qsmprep.numerics.progress import Progress
from qsmprep.options import check_options

if TYPE_CHECKING:
    from qsmprep.nets.network import Network

__all__ = ["AdaptOptions", "Adapted", "adapt"]

DIVERGED = 10.0  # times the first loss


@dataclass(frozen=True)
class Adapted:
    """A network adapted to one case.

    Attributes
    ----------
    network : with weights of its own, in evaluation mode; the trained one where `improved` is false.
    improved : whether the loss ended no higher than it began, and never rose beyond ten times that on the way, after
        which little of the training is left.
    convergence : its history is the loss before each step.
    seconds : wall time of all.
    """

    network: Network
    convergence: Convergence
    seconds: float
    improved: bool = True


def adapt(
    network: Network,
    seen: Seen,
    *,
    options: AdaptOptions = AdaptOptions(),  # noqa: B008
    synthetic: Iterator[tuple[Any, Any, Any]] | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Adapted:
    """A copy of a network with weights adapted to one case, so that its map explains that case's field.

    Parameters
    ----------
    network : trained for the inversion of a tissue field; it is not changed.
    seen : the case on the voxels that the network knows. The tissue field is the data; other channels are given and
        stay as they are. Data weights are scaled here so that the 99.9th percentile in the mask is 1, and clipped
        there; the phase of 1 ppm is 2 pi times the centre frequency in MHz times a time in s.
    options : the method and its parameters.
    synthetic : pairs for DANN (see `dann`).
    device : "cpu", or a torch device.
    progress : called as progress(iteration, iterations).

    Returns
    -------
    Adapted. The same input gives the same weights for the same number of threads.

    Raises
    ------
    ValueError : options outside their range; shapes or values that do not fit; no synthetic pairs for DANN.

    References
    ----------
    Zhang 2020 (FINE); the domain-adapted entry to the 2019 challenge (DANN).
    """
    check_options(options)
    begin = time.perf_counter()
    # Here, as the options of this package are read at every start of the program, and these modules load torch.
    from qsmprep.nets.adaptation.case import make_case
    from qsmprep.nets.adaptation.dann import dann
    from qsmprep.nets.adaptation.fine import fine
    from qsmprep.nets.network import channels_last
    from qsmprep.nets.precision import bfloat16_is_fast, bounded_threads

    if options.method == "none":
        return Adapted(network, Convergence(0, True, (), "loss", 0.0), 0.0)
    device = device.removeprefix("torch:")
    case = make_case(
        network.spec,
        seen,
        nonlinear=options.nonlinear,
        half_precision=options.precision == "bfloat16" or (options.precision == "auto" and bfloat16_is_fast(device)),
        device=device,
    )
    home = next(network.module.parameters()).device
    module = channels_last(copy.deepcopy(network.module).to(case.mask.device))
    module.requires_grad_(True)
    with bounded_threads():
        if options.method == "fine":
            losses, converged = fine(module, case, options, progress)
        else:
            losses, converged = dann(module, case, options, synthetic, progress)
    module.zero_grad(set_to_none=True)
    seconds = time.perf_counter() - begin
    improved = bool(losses[-1] <= losses[0] and max(losses) <= DIVERGED * losses[0])  # false where one is no number
    convergence = Convergence(len(losses), converged and improved, tuple(losses), "loss", seconds)
    found = dataclasses.replace(network, module=module.to(home).eval()) if improved else network
    return Adapted(found, convergence, seconds, improved)
