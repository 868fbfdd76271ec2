"""LPCNN: projected gradient descent on the field's misfit, with a network in place of the proximal operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.network_inversion import invert_by_network
from qsmprep.nets.inference_options import InferenceOptions, weights_option
from qsmprep.nets.role import Role
from qsmprep.numerics.progress import Progress
from qsmprep.scan import Scan

if TYPE_CHECKING:
    from qsmprep.nets.network import Network


@dataclass(frozen=True)
class LpcnnOptions(InferenceOptions):
    """Options of the learned proximal network."""

    role: ClassVar[Role] = Role("inversion", "lpcnn")
    weights: str = weights_option("lpcnn", shipped=False)


def lpcnn(
    field_ppm: np.ndarray,
    mask: np.ndarray,
    *,
    network: Network,
    scan: Scan,
    options: LpcnnOptions = LpcnnOptions(),
    memory_gb: float = 0.0,
    progress: Progress | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility by gradient steps on the misfit inside the mask, each followed by one and the same network.

    chi <- network(chi - step D'(M (D chi - field))), from chi = 0. The kernel D is that of the scan, so that B0 may
    have any direction; voxels are brought to the size of the training.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    network : an unrolled network of the kind "lpcnn".
    scan : voxel size and direction of B0.
    options : weights, grid and precision.
    memory_gb : not used: the data term needs the whole volume.
    progress : called as progress(done, total).
    device : "cpu", or a torch device.

    Returns
    -------
    Inversion with chi in ppm, 0 outside the mask; reference it afterwards.

    Raises
    ------
    ValueError : another network, a field that is not in ppm, shapes that differ, an empty mask, patches asked for.

    References
    ----------
    Lai 2020.
    """
    return invert_by_network(
        network, "lpcnn", {"tissue-field": field_ppm}, mask, scan=scan, options=options, memory_gb=memory_gb,
        progress=progress, device=device,
    )  # fmt: skip
