"""Adaptation to the case as an option of the inversions by a network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qsmprep.inversion.inputs import checked_image, radians_per_ppm
from qsmprep.nets.adaptation import Adapted, adapt
from qsmprep.nets.adaptation.options import METHODS, AdaptOptions
from qsmprep.nets.inference_options import InferenceOptions
from qsmprep.nets.seen import PhaseTerm, Seen
from qsmprep.numerics.progress import Progress
from qsmprep.options import option
from qsmprep.scan import Scan

if TYPE_CHECKING:
    from qsmprep.nets.network import Network

DEFAULTS = AdaptOptions()


@dataclass(frozen=True)
class AdaptingOptions(InferenceOptions):
    """Options of an inversion whose network may be adapted to the case, and its map returned to the field."""

    returns: int = option(
        0,
        "times the network's map returns to the tissue field in k-space; 3 suffice, 1 where the scan is noisy",
        low=0,
        high=20,
    )
    adapt: str = option(
        "none",
        "adapt the network's weights to each case, which takes minutes; fine: by the field of the case, which helps "
        "where a scan is unlike the training, and not where it is like it; dann: by simulated heads and the case "
        "together, then by its field",
        choices=METHODS,
    )
    adapt_iterations: int = option(
        DEFAULTS.iterations, "cap on iterations on the case", low=1, high=10000, when=("adapt", ("fine", "dann"))
    )
    adapt_learning_rate: float = option(
        DEFAULTS.learning_rate,
        "largest learning rate of the adaptation; published are 1e-4 to 1e-3",
        low=1e-7,
        high=0.1,
        when=("adapt", ("fine", "dann")),
    )
    adapt_tolerance: float = option(
        DEFAULTS.tolerance,
        "relative change of the loss over ten iterations at which to stop early",
        low=0,
        high=1,
        when=("adapt", ("fine", "dann")),
    )
    adapt_tv_weight: float = option(
        DEFAULTS.tv_weight,
        "weight of total variation in the adaptation",
        unit="ppm mm (fine), mm (dann)",
        low=0,
        when=("adapt", ("fine", "dann")),
    )
    adapt_crop: int = option(
        DEFAULTS.crop,
        "edge of the patch on which an iteration runs the network, to save memory; 0: the whole volume",
        unit="voxels", low=0,
        when=("adapt", ("fine", "dann")),
    )  # fmt: skip

    def adaptation(self) -> AdaptOptions:
        """What the adaptation itself takes."""
        return AdaptOptions(
            method=self.adapt, iterations=self.adapt_iterations, learning_rate=self.adapt_learning_rate,
            tolerance=self.adapt_tolerance, tv_weight=self.adapt_tv_weight, crop=self.adapt_crop,
        )  # fmt: skip


class Adapter:
    """Adapts a network to what it sees of a scan, and keeps how that ended in `outcome`.

    Parameters
    ----------
    options : of the adaptation.
    synthetic : pairs for DANN.
    device : "cpu", or a torch device.
    progress : called as progress(iteration, iterations).
    """

    def __init__(
        self,
        options: AdaptOptions,
        synthetic: Iterator[tuple[Any, Any, Any]] | None,
        device: str,
        progress: Progress | None,
    ):
        self.options, self.synthetic, self.device, self.progress = options, synthetic, device, progress
        self.outcome: Adapted | None = None

    def __call__(self, network: Network, seen: Seen) -> Network:
        """The network adapted to the scan."""
        self.outcome = adapt(
            network, seen, options=self.options, synthetic=self.synthetic, device=self.device, progress=self.progress
        )
        return self.outcome.network


def adapter_for(
    options: AdaptingOptions,
    *,
    synthetic: Iterator[tuple[Any, Any, Any]] | None,
    device: str,
    progress: Progress | None,
) -> Adapter | None:
    """What adapts the network, or None where the options ask for none."""
    return None if options.adapt == "none" else Adapter(options.adaptation(), synthetic, device, progress)


def phase_term(scan: Scan, weights: np.ndarray | None, mask: np.ndarray) -> PhaseTerm:
    """The data term of an adaptation: data weights (n0, n1, n2) or None, and the phase of one echo spacing.

    Raises
    ------
    ValueError : a scan whose centre frequency or echo times are not known, weights below 0 or of another shape.
    """
    radians = radians_per_ppm(scan)
    return PhaseTerm(checked_image(weights, np.asarray(mask) > 0, "The data weights"), radians)
