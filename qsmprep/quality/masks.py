"""Quality numbers of the masks: size, holes, what erosion took, air inside, brain left outside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qsmprep.quality.regions import DARK, dilated, eroded, local_mean, opened

REACH_MM = 20.0  # how far outside a brain mask brain is looked for
OPENING_MM = 2.0  # half of what skull, vessels and partial volume may be thick without counting
DARKEST_BRAIN = 0.6  # of the brain's median magnitude, which brain left out must at least have
_NAN = float("nan")


def mask_numbers(
    voxel_size_mm: Sequence[float],
    *,
    magnitude: np.ndarray | None,
    brain: np.ndarray,
    reliable: np.ndarray | None,
    qsm: np.ndarray | None,
) -> dict[str, float]:
    """Numbers about consensus masks 1 (brain), 2 (reliable) and 4 (qsm), all (n0, n1, n2) bool.

    Parameters
    ----------
    magnitude : (n0, n1, n2) of the first echo.

    Returns
    -------
    mask_volume (ml); unreliable, mask_lost, mask_holes, air_in_mask, brain_outside_mask (% of the brain mask): NaN
    where an input is missing.
    """
    voxels = np.count_nonzero(brain)
    numbers = dict.fromkeys(
        ("mask_volume", "unreliable", "mask_lost", "mask_holes", "air_in_mask", "brain_outside_mask"), _NAN
    )
    if not voxels:
        return numbers
    numbers["mask_volume"] = voxels * float(np.prod(voxel_size_mm)) / 1000
    if reliable is not None:
        numbers["unreliable"] = 100 * np.count_nonzero(brain & ~reliable) / voxels
    if qsm is not None:
        numbers["mask_lost"] = 100 * np.count_nonzero(brain & ~qsm) / voxels
        numbers["mask_holes"] = 100 * holes(qsm) / voxels
    if magnitude is not None:
        median = float(np.median(magnitude[brain]))
        dark = brain & (magnitude < np.float32(DARK * median))
        dark &= local_mean(dark, (3, 3, 3)) > 0.5  # a rim of one layer does not count, nor do veins
        numbers["air_in_mask"] = 100 * np.count_nonzero(dark) / voxels
        outside = brain_outside(magnitude / np.float32(median or 1), brain, voxel_size_mm)
        numbers["brain_outside_mask"] = 100 * np.count_nonzero(outside) / voxels
    return numbers


def holes(mask: np.ndarray) -> int:
    """Number of voxels that a mask encloses without holding them."""
    from scipy.ndimage import label

    pieces, _ = label(np.pad(~mask, 1, constant_values=True))
    return int(np.count_nonzero(pieces) - np.count_nonzero(pieces == pieces[0, 0, 0]))


def brain_outside(magnitude: np.ndarray, brain: np.ndarray, voxel_size_mm: Sequence[float]) -> np.ndarray:
    """Voxels (bool) outside a brain mask that look like brain and hang together with it.

    Bright voxels (0.6 of the brain's median and more, which `magnitude` is given in) within 20 mm of the mask, thicker
    than 4 mm, reached from the mask without a step through anything dark: skull keeps the scalp out, thin layers such
    as the fluid around a well fitting mask do not count.
    """
    near = dilated(brain, REACH_MM, voxel_size_mm)
    body = opened((magnitude > DARKEST_BRAIN) & near | brain, OPENING_MM, voxel_size_mm)
    reached = brain & body
    for _ in range(1 + round(REACH_MM / min(voxel_size_mm))):
        grown = _face_neighbours(reached) & body
        if np.count_nonzero(grown) == np.count_nonzero(reached):
            break
        reached = grown
    return opened(reached & ~brain, 0.0, voxel_size_mm)


def rim_of(mask: np.ndarray, layers: int = 3) -> np.ndarray:
    """The outermost layers of voxels of a mask."""
    inner = mask
    for _ in range(layers):
        inner = eroded(inner, 0.0, (1.0, 1.0, 1.0))
    return np.asarray(mask & ~inner)


def _face_neighbours(mask: np.ndarray) -> np.ndarray:
    grown = mask.copy()
    for axis in range(3):
        here, there = [slice(None)] * 3, [slice(None)] * 3
        here[axis], there[axis] = slice(1, None), slice(None, -1)
        grown[tuple(here)] |= mask[tuple(there)]
        grown[tuple(there)] |= mask[tuple(here)]
    return grown
