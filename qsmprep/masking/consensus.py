"""The masks of the QSM consensus, from the brain mask to what background removal works on.

Mask 1 is the brain, mask 2 the voxels whose phase can be trusted, mask 3 their overlap with its holes filled. Mask 4
is what background removal leaves of mask 3, and comes from there.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from qsmprep.masking.morphology import ellipsoid, erode, fill_holes, largest_component, majority
from qsmprep.numerics.volume import bounding_box
from qsmprep.options import check_options, option

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReliableMaskOptions:
    """Options of `reliable_mask`."""

    source: str = option("quality", "map by which voxels are reliable or not", choices=("quality", "noise"))
    quality_threshold: float = option(
        0.2, "smallest phase quality of a reliable voxel", low=0.0, high=1.0, when=("source", "quality")
    )
    noise_factor: float = option(
        1.0, "threshold of 1/noise over its mean in the field of view", low=0.0, high=1.2, when=("source", "noise")
    )
    majority: bool = option(True, "give each voxel the value of most of its 3x3x3 neighbours, against speckle")


@dataclass(frozen=True)
class BackgroundMaskOptions:
    """Options of `background_mask`."""

    fill_holes: bool = option(True, "add the voxels that the mask encloses")
    erosion_voxels: int = option(1, "layers of voxels removed before background removal", unit="voxels", low=0, high=20)


@dataclass(frozen=True)
class BackgroundMask:
    """Mask 3 and what was gained and lost on the way to it.

    Attributes
    ----------
    mask : (n0, n1, n2) bool, mask 3: what is shown.
    eroded : bool, mask 3 less `erosion_voxels` layers: what background removal takes.
    brain_voxels : number of voxels of the brain mask.
    unreliable_voxels : brain voxels that are not reliable.
    detached_voxels : reliable brain voxels that do not hang together with the largest piece.
    filled_voxels : voxels that filling holes put back.
    mask_voxels, eroded_voxels : numbers of voxels of the two masks.
    """

    mask: np.ndarray
    eroded: np.ndarray
    brain_voxels: int
    unreliable_voxels: int
    detached_voxels: int
    filled_voxels: int
    mask_voxels: int
    eroded_voxels: int


def reliable_mask(
    quality: np.ndarray | None = None,
    noise: np.ndarray | None = None,
    *,
    options: ReliableMaskOptions = ReliableMaskOptions(),
) -> np.ndarray:
    """Voxels whose phase can be trusted (mask 2 of the consensus).

    Parameters
    ----------
    quality : (n0, n1, n2) quality map of the unwrapping in [0, 1]; needed by source "quality".
    noise : (n0, n1, n2) standard deviation of the field, any unit; needed by source "noise". Voxels that are not
        finite or not above 0 are not trusted.
    options : see `ReliableMaskOptions`. With "noise" the threshold is `noise_factor` times the mean of 1/noise over
        the whole field of view.

    Returns
    -------
    (n0, n1, n2) bool, over the whole field of view, not cut to the brain.

    Raises
    ------
    ValueError : the map that `source` names is missing.

    References
    ----------
    QSM Consensus Organization Committee (2024). Recommended implementation of quantitative susceptibility mapping for
    clinical research in the brain. Magn Reson Med 91:1834-1862.
    """
    check_options(options)
    if options.source == "quality":
        if quality is None:
            raise ValueError("The reliable mask is to come from a quality map, but the unwrapping gave none.")
        # NaN compares as False.
        reliable = quality >= options.quality_threshold
    else:
        if noise is None:
            raise ValueError("The reliable mask is to come from a noise map, but the echo combination gave none.")
        certainty = np.zeros(noise.shape, dtype=np.float32)
        with np.errstate(over="ignore"):
            np.divide(1, noise, out=certainty, where=np.isfinite(noise) & (noise > 0), casting="same_kind")
        certainty[~np.isfinite(certainty)] = 0
        reliable = certainty > options.noise_factor * certainty.mean(dtype=np.float64)
    return majority(reliable) if options.majority else reliable


def background_mask(
    brain_mask: np.ndarray,
    reliable: np.ndarray | None = None,
    *,
    options: BackgroundMaskOptions = BackgroundMaskOptions(),
) -> BackgroundMask:
    """The region of background removal (mask 3 of the consensus): brain and reliable, one piece, its holes filled.

    Unreliable voxels deep in the brain (a vein, a bleed) are holes and come back; unreliable voxels open to the rim
    (above the sinuses) stay out.

    Parameters
    ----------
    brain_mask : (n0, n1, n2) bool, mask 1.
    reliable : (n0, n1, n2) bool, mask 2; None trusts every voxel.
    options : see `BackgroundMaskOptions`.

    Returns
    -------
    BackgroundMask

    Raises
    ------
    ValueError : the masks differ in shape, do not overlap, or nothing is left after erosion.

    References
    ----------
    QSM Consensus Organization Committee (2024). Magn Reson Med 91:1834-1862.

    Examples
    --------
    An unreliable voxel deep in the brain is a hole and comes back; one at its rim stays out.

    >>> brain = np.zeros((7, 7, 7), bool)
    >>> brain[1:6, 1:6, 1:6] = True
    >>> reliable = np.ones_like(brain)
    >>> reliable[3, 3, 3] = reliable[1, 3, 3] = False
    >>> found = background_mask(brain, reliable)
    >>> int(brain.sum()), found.unreliable_voxels, found.filled_voxels, found.mask_voxels, found.eroded_voxels
    (125, 2, 1, 124, 26)
    """
    check_options(options)
    brain_mask = brain_mask.astype(bool, copy=False)
    if reliable is not None and reliable.shape != brain_mask.shape:
        raise ValueError(f"The reliable mask has shape {reliable.shape}, the brain mask {brain_mask.shape}.")
    both = brain_mask if reliable is None else brain_mask & reliable.astype(bool, copy=False)
    brain_voxels, both_voxels = int(np.count_nonzero(brain_mask)), int(np.count_nonzero(both))
    if not brain_voxels:
        raise ValueError("The brain mask is empty.")
    if not both_voxels:
        raise ValueError("No voxel of the brain mask is reliable; lower the threshold of the reliable mask.")
    if both_voxels < 0.5 * brain_voxels:
        _LOGGER.warning("Only %.0f %% of the brain mask is reliable.", 100 * both_voxels / brain_voxels)
    piece = largest_component(both)
    mask = fill_holes(piece) if options.fill_holes else piece
    piece_voxels, mask_voxels = int(np.count_nonzero(piece)), int(np.count_nonzero(mask))
    eroded = erode(mask, options.erosion_voxels)
    eroded_voxels = int(np.count_nonzero(eroded))
    if not eroded_voxels:
        raise ValueError(f"Nothing is left of the mask after an erosion of {options.erosion_voxels} voxels.")
    return BackgroundMask(
        mask=mask,
        eroded=eroded,
        brain_voxels=brain_voxels,
        unreliable_voxels=brain_voxels - both_voxels,
        detached_voxels=both_voxels - piece_voxels,
        filled_voxels=mask_voxels - piece_voxels,
        mask_voxels=mask_voxels,
        eroded_voxels=eroded_voxels,
    )


def trim_by_r2star(
    mask: np.ndarray, r2star: np.ndarray, *, voxel_size_mm: tuple[float, float, float], spread: float = 3.0
) -> np.ndarray:
    """Take voxels of very fast decay off the rim of a mask (air next to it, veins of the surface).

    Voxels above median + spread * interquartile range go; then opening (1 mm, at least a voxel), largest piece,
    closing (2 mm) and filling of holes, so that fast decay deep inside stays.

    Parameters
    ----------
    mask : (n0, n1, n2) bool.
    r2star : (n0, n1, n2), 1/s; its smallest value inside the mask, which marks failed fits, is left out of median
        and quartiles.
    voxel_size_mm : of the three axes.
    spread : number of interquartile ranges.

    Returns
    -------
    (n0, n1, n2) bool, part of `mask`.

    Raises
    ------
    ValueError : the mask is empty, or no voxel is left.
    """
    from scipy.ndimage import binary_closing, binary_opening

    values = r2star[mask]
    values = values[np.isfinite(values)]
    if not values.size:
        raise ValueError("The mask holds no voxel with a finite R2*.")
    valid = values[values > values.min()] if values.max() > values.min() else values
    low, middle, high = np.percentile(valid, (25, 50, 75))
    box = bounding_box(mask)
    # Closing reaches two millimetres beyond the mask; the box leaves room for it.
    closing = ellipsoid(2, voxel_size_mm)
    room = [(size // 2, size // 2) for size in closing.shape]
    kept = np.pad(mask[box] & (r2star[box] <= middle + spread * (high - low)), room)
    kept = largest_component(binary_opening(kept, ellipsoid(1, voxel_size_mm)))
    kept = fill_holes(binary_closing(kept, closing))
    trimmed = np.zeros_like(mask)
    trimmed[box] = kept[tuple(slice(before, -before) for before, _ in room)] & mask[box]
    if not trimmed.any():
        raise ValueError("Trimming the mask by R2* leaves nothing of it.")
    return trimmed
