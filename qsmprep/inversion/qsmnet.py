"""Inversion by a U-net: QSMnet and every network of its kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.network_adaptation import AdaptingOptions, adapter_for, phase_term
from qsmprep.inversion.network_inversion import invert_by_network
from qsmprep.nets.inference_options import weights_option
from qsmprep.nets.role import Role
from qsmprep.numerics.progress import Progress
from qsmprep.scan import Scan

if TYPE_CHECKING:
    from qsmprep.nets.network import Network


@dataclass(frozen=True)
class QsmnetOptions(AdaptingOptions):
    """Options of the inversion by a U-net."""

    role: ClassVar[Role] = Role("inversion")
    weights: str = weights_option("qsmnet")


# More than 8 parameters: a keyword for each thing that the pipeline can hand to a method.
def qsmnet(
    field_ppm: np.ndarray,
    mask: np.ndarray,
    *,
    network: Network,
    scan: Scan,
    weights: np.ndarray | None = None,
    synthetic: Iterator[tuple[Any, Any, Any]] | None = None,
    options: QsmnetOptions = QsmnetOptions(),
    memory_gb: float = 0.0,
    progress: Progress | None = None,
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
    scan : voxel size and direction of B0; adaptation needs the centre frequency and the echo times too.
    weights : (n0, n1, n2) data weights >= 0 of the adaptation and of the return to the field; None: the mask.
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
    adapt = adapter_for(options, synthetic=synthetic, device=device, progress=progress)
    weighted = options.returns and weights is not None
    term = phase_term(scan, weights, mask) if adapt or weighted else None
    return invert_by_network(
        network, "qsmnet", {"tissue-field": field_ppm}, mask, scan=scan, options=options, term=term, adapt=adapt,
        memory_gb=memory_gb, progress=progress, device=device,
    )  # fmt: skip
