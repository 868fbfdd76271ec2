"""Registration of two brains by whatever contrasts both have: magnitude, susceptibility, T1-weighted.

An affine registration of a mixture of the contrasts, from several ways in which the head may lie, then a deformation by
the local correlation of each contrast in its own channel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.analysis.deformation import compose, register_deformable
from qsmprep.analysis.linear_start import register_affine
from qsmprep.numerics.arrays import DoubleArray, FloatImage, Mask
from qsmprep.numerics.progress import Progress, continued

FINE_MM = 2.0  # the grid of the registration; its coarse one is twice as wide
COARSE_STEPS, FINE_STEPS = 50, 12
MAGNITUDE_WEIGHT, CHI_WEIGHT, T1W_WEIGHT = 1.0, 3.0, 2.0
CHI_SMOOTHING = 0.7  # voxels of the registration's grid: noise has no place in the template
RANGE_PPM = 0.3  # beyond it lie vessels, bleeds and calcifications, which no template has
SHADE_MM = 20.0  # smoother changes of the magnitude are the coils'
HYBRID_PER_PPM, HYBRID_RANGE_PPM = 4.0, 0.2
MARGIN_MM = 8.0


@dataclass(frozen=True, eq=False)
class BrainImages:
    """The contrasts that are known of a brain, 0 outside of it, on one grid along the axes of the world (mm)."""

    magnitude: FloatImage | None
    chi_ppm: FloatImage | None
    mask: Mask
    affine: DoubleArray
    t1w: FloatImage | None = None

    @property
    def hybrid(self) -> FloatImage:
        """1 + magnitude without shade - 4/ppm chi in the brain, 0 outside: fluid, nuclei and the brain's shape.

        Where they are not known, 1 + T1w without shade, which is as bright in white matter.
        """
        from scipy.ndimage import gaussian_filter

        anatomy = self.t1w if self.magnitude is None else self.magnitude
        if anatomy is None:
            raise ValueError("No contrast is known of the brain.")
        width = SHADE_MM / FINE_MM
        inside = self.mask.astype(np.float32)
        shade = gaussian_filter(anatomy, width) / np.maximum(gaussian_filter(inside, width), 1e-3)
        mixed = 1 + np.clip(anatomy / np.maximum(shade, 1e-6), 0, 1.6)
        if self.magnitude is not None and self.chi_ppm is not None:
            mixed = mixed - HYBRID_PER_PPM * np.clip(self.chi_ppm, -HYBRID_RANGE_PPM, HYBRID_RANGE_PPM)
        return np.where(self.mask, mixed, 0).astype(np.float32)

    def halved(self) -> BrainImages:
        """The images on a grid of twice the width."""
        share = _thinned(self.mask.astype(np.float32))
        inside = share > 0.5
        parts = [
            None if image is None else np.where(inside, _thinned(image) / np.maximum(share, 0.1), 0).astype(np.float32)
            for image in (self.magnitude, self.chi_ppm, self.t1w)
        ]
        return BrainImages(parts[0], parts[1], inside, self.affine @ np.diag([2.0, 2.0, 2.0, 1.0]), parts[2])


@dataclass(frozen=True, eq=False)
class Deformation:
    """Where each point of one head, the fixed one, lies in another.

    Attributes
    ----------
    displacement : (3, n0, n1, n2) in voxels of its grid: x is taken to x + displacement before it leaves the head.
    affine : (4, 4) of its grid, voxel to the fixed head's world, mm.
    world : (4, 4) from the fixed head's world to the other's.
    likeness : mean of the local correlation, squared, over the brain and the contrasts.
    """

    displacement: FloatImage
    affine: DoubleArray
    world: DoubleArray
    likeness: float = 0.0

    def places_in(self, other: np.ndarray) -> FloatImage:
        """Voxels (3, n0, n1, n2) of a grid of the other head, by its affine, where each voxel of this grid lies."""
        here = grid_places(self.displacement.shape[1:]) + self.displacement
        return mapped(np.linalg.inv(other) @ self.world @ self.affine, here)

    def moved(self, places: np.ndarray, affine: np.ndarray, other: np.ndarray) -> FloatImage:
        """The same for places (3, ...) in voxels of any grid of the fixed head, by its affine."""
        here = mapped(np.linalg.inv(self.affine) @ affine, places)
        there = np.linalg.inv(other) @ self.world @ self.affine
        return mapped(there, here + compose(self.displacement, here))


# More than 8 parameters would follow from taking the images apart: these are all contrasts of one head.
def on_even_grid(
    magnitude: np.ndarray | None,
    chi_ppm: np.ndarray | None,
    mask: np.ndarray,
    affine: np.ndarray,
    *,
    t1w: np.ndarray | None = None,
) -> BrainImages:
    """The images on an even grid along the world's axes, in the brain's box, 0 outside the brain.

    Parameters
    ----------
    magnitude, chi_ppm, t1w : (n0, n1, n2) each; None where there is none.
    mask : (n0, n1, n2) brain.
    affine : (4, 4) voxel to world, mm.
    """
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

    def within(image: np.ndarray | None) -> FloatImage | None:
        if image is None:
            return None
        return np.where(inside, taken(np.nan_to_num(image) * brain) / np.maximum(share, 0.1), 0).astype(np.float32)

    chi = within(None if chi_ppm is None else np.clip(np.nan_to_num(chi_ppm), -RANGE_PPM, RANGE_PPM))
    if chi is not None:
        weight = np.maximum(gaussian_filter(inside.astype(np.float32), CHI_SMOOTHING), 0.1)
        chi = np.where(inside, gaussian_filter(chi, CHI_SMOOTHING) / weight, 0).astype(np.float32)
    return BrainImages(within(magnitude), chi, inside, grid, within(t1w))


def register_brains(
    fixed: BrainImages, moving: BrainImages, *, ignored: np.ndarray | None = None, progress: Progress | None = None
) -> Deformation:
    """Register two brains by the contrasts that both have, on a coarse grid and then on the fine one.

    Parameters
    ----------
    fixed, moving : on grids of `FINE_MM` (`on_even_grid`). Where they share no contrast, the susceptibility of one
        and the T1w image of the other are held against each other, as local correlation knows no sign.
    ignored : mask on the grid of `moving` where its contrast tells nothing; the deformation goes on smoothly there.
    progress : called with the step and how many there are.

    Raises
    ------
    ValueError : the brains share nothing, or do not overlap.
    """
    world, _ = register_affine(fixed.hybrid, fixed.affine, fixed.mask, moving.hybrid, moving.affine, moving.mask)
    matrix = np.linalg.inv(moving.affine) @ world @ fixed.affine
    found, likeness = None, 0.0
    total = COARSE_STEPS + FINE_STEPS
    known = moving.mask if ignored is None else moving.mask & ~np.asarray(ignored, bool)
    coarse = moving.halved()
    for done, steps, first, second, seen, scale in (
        (
            0,
            COARSE_STEPS,
            fixed.halved(),
            coarse,
            coarse.mask if ignored is None else coarse.mask & known[::2, ::2, ::2],
            2.0,
        ),
        (COARSE_STEPS, FINE_STEPS, fixed, moving, known, 1.0),
    ):
        widths = np.diag([scale, scale, scale, 1.0])
        if found is not None:
            found = 2 * compose(found, grid_places(first.mask.shape) / 2)
        pairs = _pairs(first, second)
        found, likeness = register_deformable(
            [one for one, _, _ in pairs],
            [other for _, other, _ in pairs],
            mask=first.mask,
            moving_mask=seen,
            coordinates=mapped(np.linalg.inv(widths) @ matrix @ widths, grid_places(first.mask.shape)),
            weights=[weight for _, _, weight in pairs],
            iterations=steps,
            displacement=found,
            progress=continued(progress, done, total),
        )
    assert found is not None
    return Deformation(found, fixed.affine, world, likeness)


def grid_places(shape: tuple[int, ...]) -> FloatImage:
    """Every voxel (3, n0, n1, n2) of a grid of that shape."""
    return np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij"))


def mapped(matrix: np.ndarray, places: np.ndarray) -> FloatImage:
    """Places (3, ...) through a (4, 4) matrix."""
    turned = np.tensordot(matrix[:3, :3].astype(np.float32), places, 1)
    return np.asarray(turned + matrix[:3, 3].astype(np.float32).reshape(3, 1, 1, 1), np.float32)


def _pairs(first: BrainImages, second: BrainImages) -> list[tuple[FloatImage, FloatImage, float]]:
    """The images that are held against each other, and how much each pair counts."""
    contrasts = (
        (first.magnitude, second.magnitude, MAGNITUDE_WEIGHT),
        (first.chi_ppm, second.chi_ppm, CHI_WEIGHT),
        (first.t1w, second.t1w, T1W_WEIGHT),
    )
    found = [(one, other, weight) for one, other, weight in contrasts if one is not None and other is not None]
    # White matter is bright in T1w images and dark in susceptibility; the magnitude hardly tells it from grey matter.
    crossed = ((first.chi_ppm, second.t1w), (first.t1w, second.chi_ppm))
    found = found or [(one, other, 1.0) for one, other in crossed if one is not None and other is not None]
    if not found:
        raise ValueError("The brains share no contrast.")
    return found


def _thinned(image: np.ndarray) -> FloatImage:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(image, 0.7)[::2, ::2, ::2], np.float32)
