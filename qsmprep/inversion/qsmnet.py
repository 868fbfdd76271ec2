"""Inversion by a U-net: QSMnet and every network of its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.inputs import checked_image
from qsmprep.inversion.network_adaptation import AdaptingOptions, adapter_for
from qsmprep.inversion.network_inversion import invert_by_network
from qsmprep.nets.inference_options import weights_option
from qsmprep.nets.role import Role

if TYPE_CHECKING:
    from qsmprep.nets.network import Network


@dataclass(frozen=True)
class QsmnetOptions(AdaptingOptions):
    """Options of the inversion by a U-net."""

    role: ClassVar[Role] = Role("inversion")
    weights: str = weights_option("qsmnet")


def qsmnet(
    field_ppm: np.ndarray,
    mask: np.ndarray,
    *,
    network: Network,
    voxel_size_mm: tuple[float, float, float],
    b0_direction: tuple[float, float, float],
    centre_frequency_mhz: float | None = None,
    echo_times_s: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    synthetic: Iterator[tuple[Any, Any, Any]] | None = None,
    options: QsmnetOptions = QsmnetOptions(),
    memory_gb: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility from the tissue field by a U-net trained with known pairs.

    The network knows B0 along the third axis and voxels of one size: a scan is turned and resampled to that, and the
    map brought back. It tells nothing of how sure it is, and little of scans unlike its training data.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    network : a U-net for inversion, from the tissue field, with or without truncated division as a second channel.
    voxel_size_mm : edge lengths in mm.
    b0_direction : direction of B0 in voxel axes.
    centre_frequency_mhz, echo_times_s, weights : of the data term of adaptation; the weights are (n0, n1, n2), >= 0,
        None for the mask.
    synthetic : simulated pairs (inputs, labels, mask) for the adaptation by DANN.
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
    Yoon 2018 (QSMnet); Jung 2020 (QSMnet+).
    """
    adapt = adapter_for(
        options, centre_frequency_mhz=centre_frequency_mhz, echo_times_s=echo_times_s, synthetic=synthetic,
        device=device, progress=progress,
    )  # fmt: skip
    given = checked_image(weights, np.asarray(mask) > 0, "The data weights") if adapt else None
    return invert_by_network(
        network, "qsmnet", {"tissue-field": field_ppm}, mask, voxel_size_mm=voxel_size_mm, b0_direction=b0_direction,
        options=options, weights=given, adapt=adapt, memory_gb=memory_gb, progress=progress, device=device,
    )  # fmt: skip
