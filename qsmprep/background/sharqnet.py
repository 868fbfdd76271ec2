"""SHARQnet: background field removal by a U-net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from qsmprep.background import BackgroundRemoval, check_background_input
from qsmprep.background.vsharp_channel import vsharp_channel
from qsmprep.nets.inference_options import InferenceOptions, weights_option
from qsmprep.nets.role import Role
from qsmprep.numerics.progress import Progress
from qsmprep.scan import Scan

if TYPE_CHECKING:
    from qsmprep.nets.network import Network


@dataclass(frozen=True)
class SharqnetOptions(InferenceOptions):
    """Options of SHARQnet."""

    role: ClassVar[Role] = Role("background")
    weights: str = weights_option("sharqnet")


def sharqnet(
    total_field: np.ndarray,
    mask: np.ndarray,
    *,
    network: Network,
    scan: Scan,
    options: SharqnetOptions = SharqnetOptions(),
    memory_gb: float = 0.0,
    progress: Progress | None = None,
    device: str = "cpu",
) -> BackgroundRemoval:
    """Tissue field by a network that learned to tell it from backgrounds.

    Parameters
    ----------
    total_field : (n0, n1, n2) unwrapped field in Hz; its offset does not matter.
    mask : (n0, n1, n2) where it can be trusted.
    network : a U-net from the total to the tissue field, which works in ppm.
    scan : with its centre frequency, which makes ppm of Hz.
    options : weights, grid, precision and patches.
    memory_gb : that may be taken, in GiB; 0: no limit.
    progress : called as progress(done, total).
    device : "cpu", or a torch device.

    Returns
    -------
    BackgroundRemoval in Hz, valid in the whole mask.

    Raises
    ------
    ValueError : a network for another task, an empty mask, shapes that differ, a field that is not finite in the mask
        or too strong to be in Hz, a scan whose centre frequency is not known.

    References
    ----------
    Bollmann 2019 (SHARQnet).
    """
    from qsmprep.nets.inference import predict

    options.role.check(network.spec, "sharqnet")
    total_field, inside = check_background_input(total_field, mask)
    frequency = np.float32(scan.frequency_mhz)
    seen = np.where(inside, total_field, 0) if network.spec.masked else total_field
    found = predict(
        network, {"total-field": seen / frequency}, inside, scan=scan, options=options,
        vsharp=vsharp_channel, memory_gb=memory_gb, progress=progress, device=device,
    )  # fmt: skip
    tissue = found.maps["tissue-field"] * frequency
    return BackgroundRemoval(tissue, inside, None, found.warnings, found.facts)
