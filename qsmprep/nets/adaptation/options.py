"""Options of the adaptation to one case; read at every start of the program, so torch stays out of this module."""

from __future__ import annotations

from dataclasses import dataclass

from qsmprep.nets.inference_options import PRECISIONS
from qsmprep.options import option

METHODS = ("none", "fine", "dann")


@dataclass(frozen=True)
class AdaptOptions:
    """Options of the adaptation of a trained network to one case."""

    method: str = option("none", "how weights are adapted to each case", choices=METHODS)
    iterations: int = option(100, "cap on iterations on the case", low=1, high=10000)
    synthetic_iterations: int = option(
        100, "iterations on synthetic pairs and the case together, before those on the case (DANN)", low=1, high=100000
    )
    learning_rate: float = option(1e-3, "largest learning rate of Adam; published are 1e-4 to 1e-3", low=1e-7, high=0.1)
    tolerance: float = option(
        5e-3, "relative change of the mean loss from one window to the next at which to stop", low=0, high=1
    )
    window: int = option(10, "number of iterations over which the loss is averaged", low=1, high=1000)
    data_weight: float = option(1.0, "weight of the misfit to the field", low=0, high=1e6)
    tv_weight: float = option(1e-4, "weight of the total variation", unit="ppm mm (FINE), mm (DANN)", low=0, high=100)
    anchor: float = option(1.0, "weight of the trained network's map where the data have none (FINE)", low=0, high=1e6)
    nonlinear: bool = option(True, "compare complex phases instead of fields, so that wraps and noise count less")
    crop: int = option(
        0, "edge of the patch on which an iteration runs the network; 0: the whole volume", unit="voxels", low=0
    )
    precision: str = option(
        "auto",
        "number format inside the network while it adapts; auto: bfloat16 where it is fast; the field stays float32",
        choices=PRECISIONS,
    )
    seed: int = option(0, "seed of the choice of the patches", low=0)
