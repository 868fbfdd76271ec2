"""Adaptation to the case as an option of the inversions by a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qsmprep.inversion.inputs import radians_per_ppm
from qsmprep.nets.adaptation.options import METHODS, AdaptOptions
from qsmprep.nets.inference_options import InferenceOptions
from qsmprep.options import option

if TYPE_CHECKING:
    from qsmprep.nets.adaptation import Adapted
    from qsmprep.nets.inference import Seen
    from qsmprep.nets.network import Network

DEFAULTS = AdaptOptions()


@dataclass(frozen=True)
class AdaptingOptions(InferenceOptions):
    """Options of an inversion whose network may be adapted to the case."""

    adapt: str = option(
        "none",
        "adapt the network's weights to each case, which takes minutes; fine: by the field of the case; dann: by "
        "simulated heads and the case together, then by its field",
        choices=METHODS,
    )
    adapt_iterations: int = option(DEFAULTS.iterations, "cap on iterations on the case", low=1, high=10000)
    adapt_learning_rate: float = option(
        DEFAULTS.learning_rate,
        "largest learning rate of the adaptation; published are 1e-4 to 1e-3",
        low=1e-7,
        high=0.1,
    )
    adapt_tolerance: float = option(
        DEFAULTS.tolerance, "relative change of the loss over ten iterations at which to stop early", low=0, high=1
    )
    adapt_tv_weight: float = option(
        DEFAULTS.tv_weight, "weight of total variation in the adaptation", unit="ppm mm (fine), mm (dann)", low=0
    )
    adapt_crop: int = option(
        DEFAULTS.crop,
        "edge of the patch on which an iteration runs the network, to save memory; 0: the whole volume",
        unit="voxels", low=0,
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
    centre_frequency_mhz : of the scanner.
    echo_times_s : (n_echo,) ascending; the phase of the data term is that of one echo spacing.
    synthetic : pairs for DANN.
    device : "cpu", or a torch device.
    progress : called as progress(iteration, iterations).
    """

    def __init__(
        self,
        options: AdaptOptions,
        centre_frequency_mhz: float,
        echo_times_s: np.ndarray,
        synthetic: Iterator[tuple[Any, Any, Any]] | None,
        device: str,
        progress: Callable[[int, int], None] | None,
    ):
        self.options, self.synthetic, self.device, self.progress = options, synthetic, device, progress
        self.radians = radians_per_ppm(centre_frequency_mhz, echo_times_s)
        self.outcome: Adapted | None = None

    def __call__(self, network: Network, seen: Seen) -> Network:
        """The network adapted to the scan."""
        from qsmprep.nets.adaptation import adapt

        self.outcome = adapt(
            network, seen.inputs_ppm, seen.mask, weights=seen.weights, radians_per_ppm=self.radians,
            voxel_size_mm=seen.voxel_size_mm, b0_direction=seen.b0_direction, options=self.options,
            synthetic=self.synthetic, device=self.device, progress=self.progress,
        )  # fmt: skip
        return self.outcome.network


def adapter_for(
    options: AdaptingOptions,
    *,
    centre_frequency_mhz: float | None,
    echo_times_s: np.ndarray | None,
    synthetic: Iterator[tuple[Any, Any, Any]] | None,
    device: str,
    progress: Callable[[int, int], None] | None,
) -> Adapter | None:
    """What adapts the network, or None where the options ask for none.

    Raises
    ------
    ValueError : no centre frequency or echo times, or no simulated pairs for DANN.
    """
    if options.adapt == "none":
        return None
    if centre_frequency_mhz is None or echo_times_s is None:
        raise ValueError("Adaptation to the case needs the centre frequency and the echo times.")
    return Adapter(options.adaptation(), centre_frequency_mhz, echo_times_s, synthetic, device, progress)
