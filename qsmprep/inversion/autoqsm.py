"""AutoQSM: susceptibility from the total field in one step, by a U-net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from qsmprep.background.vsharp_channel import vsharp_channel
from qsmprep.inversion import Inversion
from qsmprep.inversion.network_inversion import invert_by_network
from qsmprep.nets.inference_options import InferenceOptions, weights_option
from qsmprep.nets.role import Role
from qsmprep.numerics.progress import Progress
from qsmprep.scan import Scan

if TYPE_CHECKING:
    from qsmprep.nets.network import Network


@dataclass(frozen=True)
class AutoqsmOptions(InferenceOptions):
    """Options of AutoQSM."""

    role: ClassVar[Role] = Role("total-inversion")
    weights: str = weights_option("autoqsm")


def autoqsm(
    total_field_ppm: np.ndarray,
    total_mask: np.ndarray,
    *,
    network: Network,
    scan: Scan,
    options: AutoqsmOptions = AutoqsmOptions(),
    memory_gb: float = 0.0,
    progress: Progress | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility from the total field, the background left to the network.

    Parameters
    ----------
    total_field_ppm : (n0, n1, n2) unwrapped total field in ppm; its offset does not matter.
    total_mask : (n0, n1, n2) where it is valid.
    network : a U-net from the total field to susceptibility.
    scan : voxel size and direction of B0.
    options : weights, grid, precision and patches.
    memory_gb : that may be taken, in GiB; 0: no limit.
    progress : called as progress(done, total).
    device : "cpu", or a torch device.

    Returns
    -------
    Inversion with chi in ppm, 0 outside the mask; reference it afterwards.

    Raises
    ------
    ValueError : a network for another task, a field that is not in ppm, shapes that differ, an empty mask.

    References
    ----------
    Wei 2019.
    """
    return invert_by_network(
        network, "autoqsm", {"total-field": total_field_ppm}, total_mask, scan=scan, options=options,
        vsharp=vsharp_channel, memory_gb=memory_gb, progress=progress, device=device,
    )  # fmt: skip
