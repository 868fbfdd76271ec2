"""chi-sepnet: both sources from susceptibility, field and R2' or R2*, by a U-net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from qsmprep.findings import Fact
from qsmprep.nets.inference_options import InferenceOptions, weights_option
from qsmprep.nets.rates import rate_per_ppm
from qsmprep.nets.role import Role
from qsmprep.numerics.progress import Progress
from qsmprep.scan import Scan
from qsmprep.separation import Separation, checked_maps

if TYPE_CHECKING:
    from qsmprep.nets.network import Network


@dataclass(frozen=True)
class ChisepnetR2pOptions(InferenceOptions):
    """Options of chi-sepnet with R2'."""

    role: ClassVar[Role] = Role("separation", needs=("r2prime",), lacks=("r2star",))
    weights: str = weights_option("chi-sepnet-r2p")


@dataclass(frozen=True)
class ChisepnetR2sOptions(InferenceOptions):
    """Options of chi-sepnet with R2*."""

    role: ClassVar[Role] = Role("separation", needs=("r2star",), lacks=("r2prime",))
    weights: str = weights_option("chi-sepnet-r2s")


# More than 8 parameters: a keyword for each thing that the pipeline can hand to a method.
def chisepnet_r2p(
    field_ppm: np.ndarray,
    mask: np.ndarray,
    *,
    chi_ppm: np.ndarray,
    r2prime: np.ndarray,
    network: Network,
    scan: Scan,
    options: ChisepnetR2pOptions = ChisepnetR2pOptions(),
    memory_gb: float = 0.0,
    progress: Progress | None = None,
    device: str = "cpu",
) -> Separation:
    """Both sources by a network that was trained with R2'.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where all images are valid.
    chi_ppm : (n0, n1, n2) susceptibility in ppm, 0 where there are no sources or as many of either kind.
    r2prime : (n0, n1, n2) in 1/s; divided by 114 1/s/ppm at 3 T, in proportion to the field strength.
    network : a U-net for separation with R2' among its inputs.
    scan : with its centre frequency.
    options : weights, grid, precision and patches.
    memory_gb : that may be taken, in GiB; 0: no limit.
    progress : called as progress(done, total).
    device : "cpu", or a torch device.

    Returns
    -------
    Separation in ppm.

    Raises
    ------
    ValueError : another network, images of wrong unit or shape, a mask without a finite voxel.

    References
    ----------
    Kim 2025.
    """
    return _separate(
        "chi-sepnet-r2p", network, field_ppm, mask, chi_ppm, ("r2prime", r2prime), scan=scan,
        options=options, memory_gb=memory_gb, progress=progress, device=device,
    )  # fmt: skip


# More than 8 parameters: a keyword for each thing that the pipeline can hand to a method.
def chisepnet_r2s(
    field_ppm: np.ndarray,
    mask: np.ndarray,
    *,
    chi_ppm: np.ndarray,
    r2star: np.ndarray,
    network: Network,
    scan: Scan,
    options: ChisepnetR2sOptions = ChisepnetR2sOptions(),
    memory_gb: float = 0.0,
    progress: Progress | None = None,
    device: str = "cpu",
) -> Separation:
    """Both sources by a network that was trained with R2*; else as `chisepnet_r2p`, which explains the parameters.

    Parameters
    ----------
    r2star : (n0, n1, n2) in 1/s.
    """
    return _separate(
        "chi-sepnet-r2s", network, field_ppm, mask, chi_ppm, ("r2star", r2star), scan=scan,
        options=options, memory_gb=memory_gb, progress=progress, device=device,
    )  # fmt: skip


def _separate(
    method: str,
    network: Network,
    field_ppm: np.ndarray,
    mask: np.ndarray,
    chi_ppm: np.ndarray,
    rate: tuple[str, np.ndarray],
    *,
    scan: Scan,
    options: InferenceOptions,
    **how: Any,
) -> Separation:
    from qsmprep.nets.inference import predict

    options.role.check(network.spec, method)
    constant = rate_per_ppm(scan.frequency_mhz)
    inside, field, chi, decay = checked_maps(mask, field_ppm=field_ppm, chi_ppm=chi_ppm, rate=rate[1])
    images = {"tissue-field": field, "chi": chi, rate[0]: decay / np.float32(constant)}
    found = predict(network, images, inside, scan=scan, options=options, **how)
    facts = (*found.facts, Fact("relaxometric_constant", "relaxometric constant of the network", "1/s/ppm", constant))
    return Separation(found.maps["chi-para"], found.maps["chi-dia"], inside, None, facts, found.warnings)
