"""Regions without a segmentation: the package's own template is registered to the magnitude and the susceptibility.

The template is the simulated head without variation (tissue maps of ICBM152, nuclei placed by hand), so that it shows
both contrasts. `benchmarks/brain_template.py` makes it; its notice lies beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qsmprep.analysis.brain_registration import (
    FINE_MM,
    Deformation,
    grid_places,
    on_even_grid,
    register_brains,
)
from qsmprep.analysis.deformation import warp
from qsmprep.numerics.arrays import DoubleArray, FloatImage, Labels, Mask
from qsmprep.numerics.progress import Progress

PAIRED = ("caudate", "globus_pallidus", "putamen", "thalamus", "red_nucleus", "substantia_nigra", "dentate_nucleus",
          "internal_capsule")  # fmt: skip
NAMES: Mapping[int, str] = {
    **{2 * i + s + 1: f"{side}_{name}" for i, name in enumerate(PAIRED) for s, side in enumerate(("left", "right"))},
    2 * len(PAIRED) + 1: "white_matter",
    2 * len(PAIRED) + 2: "lateral_ventricles",
}  # fmt: skip
LAST_NUCLEUS = 2 * (len(PAIRED) - 1)
NEIGHBOURHOOD_MM = 6.0  # around a region, where its contrast to what surrounds it shows
BRAIN_ML = (750.0, 2200.0)  # of an adult, with fluid as the mask holds it
SMALLEST_EXTENT_MM = 90.0  # of a whole brain, along each axis of the patient
RESIDUAL_MM = 1.0  # by how much a laid region may be beside its true place
LARGEST_VOXEL_MM3, LONGEST_EDGE_MM = 26.0, 4.0  # beyond them nuclei are a few voxels
# Of susceptibility around all nuclei, and around one region: below it the template does not lie on the head. Heads of
# the template's anatomy reach 0.9, a scan of a person with voxels of 2.8 mm 0.7, heads of another anatomy 0.
SMALLEST_CORRELATION, SMALLEST_OF_REGION = 0.5, 0.3


@dataclass(frozen=True, eq=False)
class BrainTemplate:
    """The template: `magnitude` and `chi_ppm` in `mask` on one grid, `labels` (as `NAMES`) on a finer one."""

    magnitude: FloatImage
    chi_ppm: FloatImage
    mask: Mask
    affine: DoubleArray
    labels: Labels
    labels_affine: DoubleArray


@dataclass(frozen=True, eq=False)
class LaidTemplate:
    """The template as it was laid over a head.

    Attributes
    ----------
    labels : (n0, n1, n2) uint8 as `NAMES`, on the head's grid.
    correlation : of susceptibility in the nuclei and around them, of head and template; 0 where none is on the grid.
    region_correlations : the same of each region, by number; 0 where none of it is on the grid.
    """

    labels: Labels
    correlation: float
    region_correlations: Mapping[int, float]


def check_whole_brain(mask: np.ndarray, affine: np.ndarray) -> None:
    """Refuse what is no whole brain of an adult.

    Parameters
    ----------
    mask : (n0, n1, n2) brain.
    affine : (4, 4) voxel to world, mm.

    Raises
    ------
    ValueError : the mask is too small or too large, or an edge of its box is too short: an animal, a phantom, a slab.
    """
    matrix = np.asarray(affine, float)[:3, :3]
    places = np.argwhere(np.asarray(mask) > 0)
    volume = len(places) * abs(float(np.linalg.det(matrix))) / 1000
    low, high = BRAIN_ML
    if not low <= volume <= high:
        raise ValueError(
            f"The brain mask holds {volume:.0f} ml, while a whole brain of an adult has {low:g} to {high:g}."
        )
    extent = np.ptp(places @ matrix.T, axis=0)
    if extent.min() < SMALLEST_EXTENT_MM:
        axis = ("left to right", "back to front", "foot to head")[int(extent.argmin())]
        raise ValueError(f"The brain mask is only {extent.min():.0f} mm long from {axis}: it holds no whole brain.")


def lay_brain_template(
    template: BrainTemplate,
    magnitude: np.ndarray,
    chi_ppm: np.ndarray,
    mask: np.ndarray,
    affine: np.ndarray,
    *,
    progress: Progress | None = None,
) -> LaidTemplate:
    """Lay the regions of the template over a head.

    An affine registration of a mixture of both contrasts, from several ways in which the head may lie, then a
    deformation by the local correlation of magnitude and susceptibility, each in its own channel.

    Parameters
    ----------
    template : what is laid.
    magnitude : (n0, n1, n2) root sum of squares of the echoes.
    chi_ppm : (n0, n1, n2) susceptibility, 0 where it is not known.
    mask : (n0, n1, n2) brain.
    affine : (4, 4) voxel to world, mm; the axes of the world must be the patient's.
    progress : called with the step and how many there are.

    Raises
    ------
    ValueError : no whole brain of an adult, an image without contrast, or images that do not overlap.
    """
    check_whole_brain(mask, affine)
    head = on_even_grid(magnitude, chi_ppm, mask, affine)
    own = on_even_grid(template.magnitude, template.chi_ppm, template.mask, template.affine)
    assert head.magnitude is not None and head.chi_ppm is not None and own.chi_ppm is not None
    if not np.ptp(head.magnitude[head.mask]) > 0 or not np.ptp(head.chi_ppm[head.mask]) > 0:
        raise ValueError("The magnitude or the susceptibility has no contrast in the brain.")
    found = register_brains(head, own, progress=progress)
    inside = found.places_in(own.affine)
    both = head.mask & (warp(own.mask.astype(np.float32), inside) > 0.5)
    labels = _labels(template, found, affine, np.shape(mask))
    coarse = warp(template.labels, found.places_in(template.labels_affine), order=0)
    each = region_correlations(head.chi_ppm, warp(own.chi_ppm, inside), np.rint(coarse).astype(np.uint8), both)
    return LaidTemplate(labels, *each)


def _labels(template: BrainTemplate, found: Deformation, affine: np.ndarray, shape: tuple[int, ...]) -> Labels:
    """The template's labels on the head's own grid, slab by slab; the nearest label counts."""
    laid = np.zeros(shape, np.uint8)
    for start in range(0, shape[0], 16):
        places = grid_places((min(16, shape[0] - start), *shape[1:]))
        places[0] += start
        at = found.moved(places, affine, template.labels_affine)
        laid[start : start + 16] = np.rint(warp(template.labels, at, order=0))
    return laid


def region_correlations(
    chi: np.ndarray, other: np.ndarray, labels: Labels, valid: Mask
) -> tuple[float, dict[int, float]]:
    """Correlation of both maps in all nuclei and around them, and the same of each region.

    Parameters
    ----------
    chi, other : two maps on the grid of the registration.
    labels : regions on that grid, as `NAMES`.
    valid : where both maps are known.
    """
    from scipy.ndimage import binary_dilation

    layers = round(NEIGHBOURHOOD_MM / FINE_MM)
    around = {n: binary_dilation(labels == n, iterations=layers) & valid for n in NAMES if (labels == n).any()}
    each = {n: _correlation(chi[around[n]], other[around[n]]) if n in around else 0.0 for n in NAMES}
    nuclei = np.any([place for n, place in around.items() if n <= LAST_NUCLEUS] or [np.zeros_like(valid)], axis=0)
    return _correlation(chi[nuclei], other[nuclei]), each


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Of the values; 0 where one of them does not vary."""
    if first.size < 2 or not np.ptp(first) > 0 or not np.ptp(second) > 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
