"""chi-sepnet: both sources from susceptibility, field and R2' or R2*, by a U-net."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from qsmprep.nets.inference_options import InferenceOptions, weights_option
from qsmprep.nets.rates import rate_per_ppm
from qsmprep.nets.role import Role
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


def chisepnet_r2p(
    field_ppm: np.ndarray,
    mask: np.ndarray,
    *,
    chi_ppm: np.ndarray,
    r2prime: np.ndarray,
    network: Network,
    voxel_size_mm: tuple[float, float, float],
    b0_direction: tuple[float, float, float],
    centre_frequency_mhz: float,
    options: ChisepnetR2pOptions = ChisepnetR2pOptions(),
    memory_gb: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
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
    voxel_size_mm : edge lengths in mm.
    b0_direction : direction of B0 in voxel axes.
    centre_frequency_mhz : of the scanner.
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
        "chi-sepnet-r2p", network, field_ppm, mask, chi_ppm, ("r2prime", r2prime), centre_frequency_mhz,
        voxel_size_mm=voxel_size_mm, b0_direction=b0_direction, options=options, memory_gb=memory_gb,
        progress=progress, device=device,
    )  # fmt: skip


def chisepnet_r2s(
    field_ppm: np.ndarray,
    mask: np.ndarray,
    *,
    chi_ppm: np.ndarray,
    r2star: np.ndarray,
    network: Network,
    voxel_size_mm: tuple[float, float, float],
    b0_direction: tuple[float, float, float],
    centre_frequency_mhz: float,
    options: ChisepnetR2sOptions = ChisepnetR2sOptions(),
    memory_gb: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
    device: str = "cpu",
) -> Separation:
    """Both sources by a network that was trained with R2*; else as `chisepnet_r2p`, which explains the parameters.

    Parameters
    ----------
    r2star : (n0, n1, n2) in 1/s.
    """
    return _separate(
        "chi-sepnet-r2s", network, field_ppm, mask, chi_ppm, ("r2star", r2star), centre_frequency_mhz,
        voxel_size_mm=voxel_size_mm, b0_direction=b0_direction, options=options, memory_gb=memory_gb,
        progress=progress, device=device,
    )  # fmt: skip


def _separate(
    method: str, network, field_ppm, mask, chi_ppm, rate: tuple[str, np.ndarray], centre_frequency_mhz, **how
) -> Separation:
    from qsmprep.nets.inference import predict

    how["options"].role.check(network.spec, method)
    constant = rate_per_ppm(centre_frequency_mhz)
    inside, field, chi, decay = checked_maps(mask, field_ppm=field_ppm, chi_ppm=chi_ppm, rate=rate[1])
    images = {"tissue-field": field, "chi": chi, rate[0]: decay / np.float32(constant)}
    found = predict(network, images, inside, **how)
    facts = (*found.facts, ("relaxometric constant of the network (1/s/ppm)", constant))
    return Separation(found.maps["chi-para"], found.maps["chi-dia"], inside, None, facts, found.warnings)
