"""R2PRIMEnet: R2' from R2* by a U-net, for scans without spin echoes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from qsmprep.findings import Fact, Warning
from qsmprep.nets.inference_options import InferenceOptions, weights_option
from qsmprep.nets.rates import rate_per_ppm
from qsmprep.nets.role import Role
from qsmprep.numerics.progress import Progress
from qsmprep.scan import Scan

if TYPE_CHECKING:
    from qsmprep.nets.network import Network


@dataclass(frozen=True)
class R2primenetOptions(InferenceOptions):
    """Options of R2PRIMEnet."""

    role: ClassVar[Role] = Role("r2prime")
    weights: str = weights_option("r2primenet")


@dataclass(frozen=True)
class PredictedR2prime:
    """R2' in 1/s, (n0, n1, n2) float32, between 0 and R2*, 0 outside the mask; facts and warnings of the network."""

    r2prime: np.ndarray
    facts: tuple[Fact, ...] = ()
    warnings: tuple[Warning, ...] = ()


def r2primenet(
    r2star: np.ndarray,
    mask: np.ndarray,
    *,
    network: Network,
    scan: Scan,
    options: R2primenetOptions = R2primenetOptions(),
    memory_gb: float = 0.0,
    progress: Progress | None = None,
    device: str = "cpu",
) -> PredictedR2prime:
    """R2' as a network learned it from the look of R2*: a guess, not a measurement.

    Parameters
    ----------
    r2star : (n0, n1, n2) in 1/s; divided by 114 1/s/ppm at 3 T, in proportion to the field strength, for the network.
    mask : (n0, n1, n2) of the brain.
    network : a U-net from R2* to R2'.
    scan : with its centre frequency; this network does not mind the direction of B0.
    options : weights, grid, precision and patches.
    memory_gb : that may be taken, in GiB; 0: no limit.
    progress : called as progress(done, total).
    device : "cpu", or a torch device.

    Raises
    ------
    ValueError : a network for another task, shapes that differ, an empty mask.

    References
    ----------
    Kim 2025.
    """
    from qsmprep.nets.inference import predict

    options.role.check(network.spec, "r2prime")
    constant = np.float32(rate_per_ppm(scan.frequency_mhz))
    inside = np.asarray(mask) > 0
    rate = np.where(inside & np.isfinite(r2star), r2star, 0).astype(np.float32)
    found = predict(
        network, {"r2star": rate / constant}, inside, scan=scan, options=options, memory_gb=memory_gb,
        progress=progress, device=device,
    )  # fmt: skip
    return PredictedR2prime(np.minimum(found.maps["r2prime"] * constant, rate), found.facts, found.warnings)
