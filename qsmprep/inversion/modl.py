"""MoDL-QSM: an unrolled network that knows the dipole kernel and lets the susceptibility tensor speak."""

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
class ModlOptions(AdaptingOptions):
    """Options of MoDL-QSM."""

    role: ClassVar[Role] = Role("inversion", "modl")
    weights: str = weights_option("modl-qsm")


# More than 8 parameters: a keyword for each thing that the pipeline can hand to a method.
def modl(
    field_ppm: np.ndarray,
    mask: np.ndarray,
    *,
    network: Network,
    scan: Scan,
    weights: np.ndarray | None = None,
    synthetic: Iterator[tuple[Any, Any, Any]] | None = None,
    options: ModlOptions = ModlOptions(),
    memory_gb: float = 0.0,
    progress: Progress | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility along B0 by steps on the data term, each followed by a network.

    The kernel is that of the scan, so that B0 may have any direction; voxels are brought to the size of the training.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    network : an unrolled network of the kind "modl".
    scan : voxel size and direction of B0; adaptation needs the centre frequency and the echo times too.
    weights : (n0, n1, n2) data weights >= 0 of the adaptation and of the return to the field; None: the mask.
    synthetic : simulated pairs (inputs, labels, mask) for the adaptation by DANN.
    options : weights, grid and precision.
    memory_gb : not used: the data term needs the whole volume.
    progress : called as progress(done, total).
    device : "cpu", or a torch device.

    Returns
    -------
    Inversion with chi33 in ppm, 0 outside the mask; the size of the field of the tensor's other elements is a fact.

    Raises
    ------
    ValueError : another network, a field that is not in ppm, shapes that differ, an empty mask, patches asked for.

    References
    ----------
    Feng 2021.
    """
    adapt = adapter_for(options, synthetic=synthetic, device=device, progress=progress)
    weighted = options.returns and weights is not None
    term = phase_term(scan, weights, mask) if adapt or weighted else None
    return invert_by_network(
        network, "modl", {"tissue-field": field_ppm}, mask, scan=scan, options=options, term=term, adapt=adapt,
        memory_gb=memory_gb, progress=progress, device=device,
    )  # fmt: skip
