"""Regions without a segmentation: the package's own template is registered to the magnitude and the susceptibility.

The template is the simulated head without variation (tissue maps of ICBM152, nuclei placed by hand), so that it shows
both contrasts. `benchmarks/brain_template.py` makes it; its notice lies beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qsmprep.analysis.deformation import compose, register_deformable, warp
from qsmprep.analysis.linear_start import register_affine
from qsmprep.numerics.arrays import DoubleArray, FloatImage, Labels, Mask
from qsmprep.numerics.progress import Progress, continued

PAIRED = ("caudate", "globus_pallidus", "putamen", "thalamus", "red_nucleus", "substantia_nigra", "dentate_nucleus",
          "internal_capsule")  # fmt: skip
NAMES: Mapping[int, str] = {
    **{2 * i + s + 1: f"{side}_{name}" for i, name in enumerate(PAIRED) for s, side in enumerate(("left", "right"))},
    2 * len(PAIRED) + 1: "white_matter",
    2 * len(PAIRED) + 2: "lateral_ventricles",
}  # fmt: skip
LAST_NUCLEUS = 2 * (len(PAIRED) - 1)
FINE_MM = 2.0  # the grid of the registration; its coarse one is twice as wide
COARSE_STEPS, FINE_STEPS = 50, 12
MAGNITUDE_WEIGHT, CHI_WEIGHT = 1.0, 3.0
CHI_SMOOTHING = 0.7  # voxels of the registration's grid: noise has no place in the template
RANGE_PPM = 0.3  # beyond it lie vessels, bleeds and calcifications, which no template has
SHADE_MM = 20.0  # smoother changes of the magnitude are the coils'
HYBRID_PER_PPM, HYBRID_RANGE_PPM = 4.0, 0.2
MARGIN_MM = 8.0
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
    head = _on_grid(magnitude, chi_ppm, mask, affine)
    own = _on_grid(template.magnitude, template.chi_ppm, template.mask, template.affine)
    if not np.ptp(head.magnitude[head.mask]) > 0 or not np.ptp(head.chi_ppm[head.mask]) > 0:
        raise ValueError("The magnitude or the susceptibility has no contrast in the brain.")
    world, _ = register_affine(head.hybrid, head.affine, head.mask, own.hybrid, own.affine, own.mask)
    displacement = _deformed(head, own, np.linalg.inv(own.affine) @ world @ head.affine, progress)
    inside = _places(head.affine, displacement, world, own.affine)
    both = head.mask & (warp(own.mask.astype(np.float32), inside) > 0.5)
    labels = _labels(template, head, displacement, world, affine, np.shape(mask))
    coarse = warp(template.labels, _places(head.affine, displacement, world, template.labels_affine), order=0)
    found = _region_correlations(head.chi_ppm, warp(own.chi_ppm, inside), np.rint(coarse).astype(np.uint8), both)
    return LaidTemplate(labels, *found)


@dataclass(frozen=True, eq=False)
class _Images:
    """Both contrasts and the brain on one grid, and their mixture."""

    magnitude: FloatImage
    chi_ppm: FloatImage
    mask: Mask
    affine: DoubleArray

    @property
    def hybrid(self) -> FloatImage:
        """1 + magnitude without shade - 4/ppm chi in the brain, 0 outside: fluid, nuclei and the brain's shape."""
        from scipy.ndimage import gaussian_filter

        width = SHADE_MM / FINE_MM
        inside = self.mask.astype(np.float32)
        shade = gaussian_filter(self.magnitude, width) / np.maximum(gaussian_filter(inside, width), 1e-3)
        flat = np.clip(self.magnitude / np.maximum(shade, 1e-6), 0, 1.6)
        mixed = 1 + flat - HYBRID_PER_PPM * np.clip(self.chi_ppm, -HYBRID_RANGE_PPM, HYBRID_RANGE_PPM)
        return np.where(self.mask, mixed, 0).astype(np.float32)

    def halved(self) -> _Images:
        """The images on a grid of twice the width."""
        share = _thinned(self.mask.astype(np.float32))
        inside = share > 0.5
        parts = [np.where(inside, _thinned(image) / np.maximum(share, 0.1), 0).astype(np.float32)
                 for image in (self.magnitude, self.chi_ppm)]  # fmt: skip
        return _Images(parts[0], parts[1], inside, self.affine @ np.diag([2.0, 2.0, 2.0, 1.0]))


def _thinned(image: np.ndarray) -> FloatImage:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(image, 0.7)[::2, ::2, ::2], np.float32)


def _on_grid(magnitude: np.ndarray, chi_ppm: np.ndarray, mask: np.ndarray, affine: np.ndarray) -> _Images:
    """The images on an even grid along the world's axes, in the brain's box, 0 outside the brain."""
    from scipy.ndimage import affine_transform, gaussian_filter

    matrix = np.asarray(affine, float)
    brain = np.asarray(mask) > 0
    places = np.argwhere(brain) @ matrix[:3, :3].T + matrix[:3, 3]
    low, high = places.min(0) - MARGIN_MM, places.max(0) + MARGIN_MM
    grid = np.diag([FINE_MM, FINE_MM, FINE_MM, 1.0])
    grid[:3, 3] = low
    shape = tuple(int(n) for n in np.ceil((high - low) / FINE_MM))
    way = np.linalg.inv(matrix) @ grid
    width = 0.5 * np.maximum(FINE_MM / np.linalg.norm(matrix[:3, :3], axis=0) - 1, 0)

    def taken(image: np.ndarray) -> FloatImage:
        smooth = gaussian_filter(np.asarray(image, np.float32), width)
        moved: FloatImage = affine_transform(smooth, way[:3, :3], way[:3, 3], output_shape=shape, order=1,
                                             output=np.float32)  # fmt: skip
        return moved

    share = taken(brain)
    inside = share > 0.5
    chi = np.clip(np.nan_to_num(chi_ppm), -RANGE_PPM, RANGE_PPM) * brain
    anatomy = np.nan_to_num(magnitude) * brain
    parts = [np.where(inside, taken(image) / np.maximum(share, 0.1), 0) for image in (anatomy, chi)]
    weight = np.maximum(gaussian_filter(inside.astype(np.float32), CHI_SMOOTHING), 0.1)
    smooth = np.where(inside, gaussian_filter(parts[1], CHI_SMOOTHING) / weight, 0)
    return _Images(parts[0].astype(np.float32), smooth.astype(np.float32), inside, grid)


def _deformed(head: _Images, own: _Images, matrix: np.ndarray, progress: Progress | None) -> FloatImage:
    """Displacement in voxels of the head's grid, found on the coarse grid and then on the fine one."""
    found = None
    total = COARSE_STEPS + FINE_STEPS
    for done, steps, first, second, scale in (
        (0, COARSE_STEPS, head.halved(), own.halved(), 2.0), (COARSE_STEPS, FINE_STEPS, head, own, 1.0),
    ):  # fmt: skip
        widths = np.diag([scale, scale, scale, 1.0])
        if found is not None:
            found = 2 * compose(found, _grid(first.mask.shape) / 2)
        found, _ = register_deformable(
            (first.magnitude, first.chi_ppm),
            (second.magnitude, second.chi_ppm),
            mask=first.mask,
            moving_mask=second.mask,
            coordinates=_mapped(np.linalg.inv(widths) @ matrix @ widths, _grid(first.mask.shape)),
            weights=(MAGNITUDE_WEIGHT, CHI_WEIGHT),
            iterations=steps,
            displacement=found,
            progress=continued(progress, done, total),
        )
    assert found is not None
    return found


def _grid(shape: tuple[int, ...]) -> FloatImage:
    return np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij"))


def _mapped(matrix: np.ndarray, places: np.ndarray) -> FloatImage:
    """Places (3, ...) through a (4, 4) matrix."""
    turned = np.tensordot(matrix[:3, :3].astype(np.float32), places, 1)
    return np.asarray(turned + matrix[:3, 3].astype(np.float32).reshape(3, 1, 1, 1), np.float32)


def _places(affine: np.ndarray, displacement: np.ndarray, world: np.ndarray, other: np.ndarray) -> FloatImage:
    """Where each voxel of the registration's grid lies in an image of the template, in its voxels."""
    return _mapped(np.linalg.inv(other) @ world @ affine, _grid(displacement.shape[1:]) + displacement)


# More than 8 parameters would follow from taking the images apart: what is laid, by what, and where.
def _labels(
    template: BrainTemplate,
    head: _Images,
    displacement: np.ndarray,
    world: np.ndarray,
    affine: np.ndarray,
    shape: tuple[int, ...],
) -> Labels:
    """The template's labels on the head's own grid, slab by slab; the nearest label counts."""
    laid = np.zeros(shape, np.uint8)
    way, back = np.linalg.inv(head.affine) @ affine, np.linalg.inv(template.labels_affine) @ world @ head.affine
    for start in range(0, shape[0], 16):
        places = _grid((min(16, shape[0] - start), *shape[1:]))
        places[0] += start
        on_grid = _mapped(way, places)
        taken = warp(template.labels, _mapped(back, on_grid + compose(displacement, on_grid)), order=0)
        laid[start : start + 16] = np.rint(taken)
    return laid


def _region_correlations(
    chi: np.ndarray, other: np.ndarray, labels: Labels, valid: Mask
) -> tuple[float, dict[int, float]]:
    """Correlation of both maps in all nuclei and around them, and the same of each region."""
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
