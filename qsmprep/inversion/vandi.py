"""VaNDI: non-linear dipole inversion unrolled, with learned steps between those on the data term."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from qsmprep.inversion import Inversion
from qsmprep.inversion.inputs import checked_image, radians_per_ppm, unit_weights
from qsmprep.inversion.network_inversion import invert_by_network
from qsmprep.nets.inference_options import InferenceOptions, weights_option
from qsmprep.nets.role import Role
from qsmprep.nets.seen import PhaseTerm
from qsmprep.numerics.progress import Progress
from qsmprep.scan import Scan

if TYPE_CHECKING:
    from qsmprep.nets.network import Network


@dataclass(frozen=True)
class VandiOptions(InferenceOptions):
    """Options of VaNDI."""

    role: ClassVar[Role] = Role("inversion", "vandi")
    weights: str = weights_option("vandi")


# More than 8 parameters: a keyword for each thing that the pipeline can hand to a method.
def vandi(
    field_ppm: np.ndarray,
    mask: np.ndarray,
    *,
    network: Network,
    scan: Scan,
    weights: np.ndarray | None = None,
    magnitude_rss: np.ndarray | None = None,
    options: VandiOptions = VandiOptions(),
    memory_gb: float = 0.0,
    progress: Progress | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility by steps on a non-linear data term, each followed by a network of its own.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    network : an unrolled network of the kind "vandi".
    scan : with centre frequency and echo times: the phase of the data term is that of one echo spacing.
    weights : (n0, n1, n2) data weights >= 0, scaled here to at most 1; None: the magnitude, or the mask without it.
    magnitude_rss : (n0, n1, n2), used where `weights` is None.
    options : weights of the network, grid and precision.
    memory_gb : not used: the data term needs the whole volume.
    progress : called as progress(done, total).
    device : "cpu", or a torch device.

    Returns
    -------
    Inversion with chi in ppm, 0 outside the mask; reference it afterwards.

    Raises
    ------
    ValueError : another network, a field that is not in ppm, shapes that differ, an empty mask, negative weights,
        patches asked for, a scan whose centre frequency or echo times are not known.

    References
    ----------
    Polak 2020.
    """
    inside = np.asarray(mask) > 0
    given = checked_image(weights if weights is not None else magnitude_rss, inside, "The data weights")
    term = PhaseTerm(unit_weights(given, inside), radians_per_ppm(scan))
    return invert_by_network(
        network, "vandi", {"tissue-field": field_ppm}, mask, scan=scan, options=options, term=term, memory_gb=memory_gb,
        progress=progress, device=device,
    )  # fmt: skip
