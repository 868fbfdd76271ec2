"""A head in the space of a template: where each point of the template lies in the head, and how sure that is.

The template fixes the grid, so that the deformation found is the one by which images are resampled: from each point of
the template to a point of the head. By the T1w image where there is one; else by magnitude and susceptibility, for
which the package's own template of both is laid over the T1w image of the template first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qsmprep.analysis.brain_registration import (
    FINE_MM,
    BrainImages,
    Deformation,
    grid_places,
    mapped,
    on_even_grid,
    register_brains,
)
from qsmprep.analysis.brain_template import LAST_NUCLEUS, BrainTemplate, check_whole_brain, region_correlations
from qsmprep.analysis.deformation import warp
from qsmprep.numerics.arrays import DoubleArray, Mask
from qsmprep.numerics.progress import Progress

OWN_SPACE = "MNI152NLin2009aSym"  # that of the package's own template
# Place of its file's origin there, mm: it is drawn about the middle of a field of view.
OWN_ORIGIN_MM = (0.0, -17.0, 0.0)
# The grid of the ICBM 152 files of 2009: shape and first voxel at 1 mm.
OWN_SHAPE, OWN_FIRST_MM = (197, 233, 189), (-98.0, -134.0, -72.0)
BY_T1W, BY_MAPS = "the T1w image", "magnitude and susceptibility"
NUCLEI_MM = 4.0  # around nuclei, which were placed by hand, own template and T1w image are not held against each other
# Of the brains' overlap (Dice): whole brains that lie on each other reach 0.95.
SMALLEST_OVERLAP = 0.9


@dataclass(frozen=True, eq=False)
class SpaceTemplate:
    """What is known of a template's space: contrasts on the grid of the registration, and the regions of nuclei.

    `nuclei` are labels of the package's own template on that grid, by which the susceptibility is judged.
    """

    images: BrainImages
    nuclei: np.ndarray
    own_likeness: float | None = None


@dataclass(frozen=True, eq=False)
class InTemplate:
    """A head in a template.

    Attributes
    ----------
    deformation : from the template's world to the head's.
    by : `BY_T1W` or `BY_MAPS`.
    overlap : Dice coefficient of both brains in the template.
    nuclei_correlation : of the susceptibility around the nuclei, of head and own template.
    smallest_jacobian : of the deformation in the brain, the affine part apart: at 0 or below it folds.
    """

    deformation: Deformation
    by: str
    overlap: float
    nuclei_correlation: float
    smallest_jacobian: float


def own_affine(affine: np.ndarray) -> DoubleArray:
    """An affine of the package's own template in the millimetres of `OWN_SPACE`."""
    shift = np.eye(4)
    shift[:3, 3] = OWN_ORIGIN_MM
    return np.asarray(shift @ affine, float)


def own_space(own: BrainTemplate) -> SpaceTemplate:
    """The package's own template as a space: magnitude and susceptibility, no T1w image."""
    images = on_even_grid(own.magnitude, own.chi_ppm, own.mask, own_affine(own.affine))
    return SpaceTemplate(images, _laid(own.labels, own_affine(own.labels_affine), images))


def space_of_t1w(
    t1w: np.ndarray, mask: np.ndarray, affine: np.ndarray, own: BrainTemplate, *, progress: Progress | None = None
) -> SpaceTemplate:
    """The space of a template's T1w image, with the contrasts of the package's own template laid over it.

    Parameters
    ----------
    t1w, mask : (n0, n1, n2) the image and its brain.
    affine : (4, 4) voxel to the template's world, mm.
    own : the package's own template.
    progress : called with the step and how many there are.

    Raises
    ------
    ValueError : an image without contrast, or the own template does not lie on it.
    """
    images = on_even_grid(None, None, mask, affine, t1w=t1w)
    if images.t1w is None or not images.mask.any() or not np.ptp(images.t1w[images.mask]) > 0:
        raise ValueError("The template has no contrast in its brain.")
    here = own_space(own)
    found = register_brains(images, here.images, ignored=_near(here.nuclei), progress=progress)
    places = found.places_in(here.images.affine)
    inside = images.mask & (warp(here.images.mask.astype(np.float32), places) > 0.5)
    assert here.images.magnitude is not None and here.images.chi_ppm is not None
    contrasts = [
        np.where(inside, warp(image, places), 0).astype(np.float32)
        for image in (here.images.magnitude, here.images.chi_ppm)
    ]
    nuclei = np.rint(warp(here.nuclei, places, order=0)).astype(np.uint8)
    full = BrainImages(contrasts[0], contrasts[1], images.mask, images.affine, images.t1w)
    return SpaceTemplate(full, nuclei, found.likeness)


# More than 8 parameters would follow from taking the images apart: these are all of one head.
def lay_in_template(
    space: SpaceTemplate,
    magnitude: np.ndarray,
    chi_ppm: np.ndarray,
    mask: np.ndarray,
    affine: np.ndarray,
    *,
    t1w: np.ndarray | None = None,
    progress: Progress | None = None,
) -> InTemplate:
    """Find where each point of a template lies in a head.

    Parameters
    ----------
    space : of the template.
    magnitude, chi_ppm, mask : (n0, n1, n2) root sum of squares of the echoes, susceptibility (0 where it is not known),
        brain.
    affine : (4, 4) voxel to world, mm; the axes of the world must be the patient's.
    t1w : (n0, n1, n2) T1w image on the same grid; it alone decides where the template has one too.
    progress : called with the step and how many there are.

    Raises
    ------
    ValueError : no whole brain of an adult, an image without contrast, or images that do not overlap.
    """
    check_whole_brain(mask, affine)
    head = on_even_grid(magnitude, chi_ppm, mask, affine, t1w=t1w)
    target = space.images
    by_t1w = head.t1w is not None and target.t1w is not None
    seen = [head.t1w] if by_t1w else [head.magnitude, head.chi_ppm]
    if any(image is None or not np.ptp(image[head.mask]) > 0 for image in seen):
        raise ValueError(f"The {'T1w image' if by_t1w else 'magnitude or the susceptibility'} has no contrast in the "
                         "brain.")  # fmt: skip
    if by_t1w:
        first, second = (replace(images, magnitude=None, chi_ppm=None) for images in (target, head))
    else:
        first, second = (replace(images, t1w=None) for images in (target, head))
    found = register_brains(first, second, progress=progress)
    places = found.places_in(head.affine)
    brain = warp(head.mask.astype(np.float32), places) > 0.5
    overlap = 2 * float((brain & target.mask).sum()) / float(brain.sum() + target.mask.sum())
    assert head.chi_ppm is not None and target.chi_ppm is not None
    correlation, _ = region_correlations(
        target.chi_ppm, warp(head.chi_ppm, places), np.where(space.nuclei <= LAST_NUCLEUS, space.nuclei, 0),
        brain & target.mask,
    )  # fmt: skip
    jacobian = _jacobian(found, brain & target.mask)
    return InTemplate(found, BY_T1W if by_t1w else BY_MAPS, overlap, correlation, jacobian)


def _laid(labels: np.ndarray, affine: np.ndarray, images: BrainImages) -> np.ndarray:
    """Labels on the grid of the registration; the nearest label counts."""
    places = mapped(np.linalg.inv(affine) @ images.affine, grid_places(images.mask.shape))
    return np.rint(warp(labels, places, order=0)).astype(np.uint8)


def _near(nuclei: np.ndarray) -> Mask:
    """The nuclei and what is near them."""
    from scipy.ndimage import binary_dilation

    inside = (nuclei > 0) & (nuclei <= LAST_NUCLEUS)
    return np.asarray(binary_dilation(inside, iterations=max(1, round(NUCLEI_MM / FINE_MM))), bool)


def _jacobian(found: Deformation, inside: Mask) -> float:
    """Smallest determinant of the derivative of x + displacement there; 0 where nothing is inside."""
    slopes = [np.gradient(component) for component in found.displacement]
    matrix = np.moveaxis(np.array(slopes), (0, 1), (-2, -1)) + np.eye(3)
    determinants = np.linalg.det(matrix[inside])
    return float(determinants.min()) if determinants.size else 0.0
