"""Brain extraction with a deformable surface, after the Brain Extraction Tool (BET)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qsmprep.masking.deformation import Forces, swell
from qsmprep.masking.head import FLOOR_MM, HeadEstimate, above, estimate_head, head_axes, human_scale
from qsmprep.masking.morphology import fill_holes, largest_component
from qsmprep.masking.surface import Tessellation, tessellated_sphere
from qsmprep.masking.tissue import Tissue, find_tissue
from qsmprep.numerics.arrays import DoubleArray, Mask, RealArray
from qsmprep.options import check_options, option
from qsmprep.scan import Scan, Triple

SUBDIVISIONS = 4
START = 0.5  # share of the head's radius, as published

# The first of two passes: fewer and larger triangles, a lower threshold so that nothing of the brain is missed.
FIRST_SUBDIVISIONS = 3
FIRST_ITERATIONS = 600
FIRST_FRACTION = 0.7  # of the fractional intensity
RESTARTS = 2
SETTLED_MM = 12.0  # a centre that moved less needs no restart
# The surface of the second pass starts at this share of the core's rim and may go that far beyond the core. Brain
# thinner than the ball (gyri, temporal poles, the brain stem) reaches beyond it, and so does the room.
SECOND_START = 0.7
CORE_RADIUS_MM = 10.0
ROOM_MM = 10.0
# What hangs on the final mask by less than this ball is no brain; voxels so far beyond the opened mask stay.
TRIM_RADIUS_MM = 6.0
TRIM_ROOM_MM = 1.0
LONGEST_RAY_MM = 130
SMOOTHINGS = 6
# Digits after the point of directions. Files round them differently (NIfTI to 7 figures, DICOM as its writer likes),
# and a thousand steps of the surface would make whole voxels of that; edges of voxels are rounded in `Scan`.
DIGITS = 5


@dataclass(frozen=True)
class BetOptions:
    """Options of `bet` and `brain_image`."""

    image: str = option(
        "first-echo",
        "magnitude image the brain is extracted from",
        choices=("first-echo", "root-sum-of-squares"),
    )
    fractional_intensity: float = option(
        0.5, "fractional intensity threshold; smaller gives a larger brain", low=0.0, high=1.0
    )
    vertical_gradient: float = option(
        0.0,
        "change of the threshold from bottom to top; positive gives a larger brain at the bottom and a "
        "smaller one at the top",
        low=-1.0,
        high=1.0,
    )
    dark_depth_mm: float = option(
        20.0, "depth within which the darkest voxel is searched for", unit="mm", low=1, high=40
    )
    # The paper searches 20 mm for the darkest voxel and 10 mm for the brightest; FSL's BET looks 7 and 3 mm deep.
    # Twenty keeps the surface out of neck and orbits, three keeps it from losing cortex where coils see less.
    bright_depth_mm: float = option(
        3.0, "depth within which the brightest voxel is searched for", unit="mm", low=1, high=40
    )
    iterations: int = option(1000, "number of iterations of the surface", low=1, high=20000)
    robust: bool = option(
        True,
        "two passes: the first finds the brain without the neck, the second keeps near its core; what is dark, decays "
        "fast or hangs on by a thin bridge is then taken off",
    )


def brain_image(magnitude: np.ndarray, *, options: BetOptions = BetOptions()) -> np.ndarray:
    """The magnitude image that `bet` should see.

    Parameters
    ----------
    magnitude : (n_echo, n0, n1, n2), or (n0, n1, n2) for one echo.
    options : `image` chooses the first echo or the root sum of squares over the echoes.

    Returns
    -------
    (n0, n1, n2) float32.
    """
    check_options(options)
    if magnitude.ndim == 3:
        return np.asarray(magnitude, dtype=np.float32)
    if options.image == "first-echo":
        return np.asarray(magnitude[0], dtype=np.float32)
    total = np.zeros(magnitude.shape[1:], dtype=np.float32)
    for echo in magnitude:
        total += np.square(echo, dtype=np.float32)
    return np.sqrt(total, out=total)


def bet(
    image: np.ndarray,
    *,
    scan: Scan,
    superior_direction: Triple = (0.0, 0.0, 1.0),
    anterior_direction: Triple = (0.0, 1.0, 0.0),
    decay: np.ndarray | None = None,
    options: BetOptions = BetOptions(),
) -> np.ndarray:
    """Brain mask by a surface that swells from inside the head until it meets the dark rim of the brain.

    A tessellated sphere of half the head's radius moves by u = 0.5 s_t + f2 s_n + 0.05 f3 l n: s is the way to the
    mean of a vertex's neighbours, split along the normal n; f2 smooths where the surface bends more sharply than a
    brain does; f3 = 2 (I_min - t_l) / (I_max - t_2) pushes outwards while the darkest voxel below the vertex is
    brighter than t_l = t_2 + b (I_max - t_2), and inwards otherwise; b is the fractional intensity to the power 0.275,
    changed linearly with height by the vertical gradient.

    With `robust` that is done twice. The first pass leaves out what lies more than 180 mm below the top of the head,
    and starts anew from the centre of what it found while that centre moves. Its core, the bright and slowly decaying
    part opened with a ball of 10 mm, lacks what entered through a canal or an orbit; the second pass starts inside it
    and sees nothing more than 10 mm outside it. An opening with a ball of 6 mm ends.

    All lengths are those of a human head. One that is less than 80 mm long, a small animal's, is seen enlarged to the
    length of a human one.

    Parameters
    ----------
    image : (n0, n1, n2) magnitude of a head, any scale; voxels that are not finite count as dark.
    scan : its voxel size.
    superior_direction, anterior_direction : towards the top of the head and the face, along the voxel axes, in mm.
    decay : (n0, n1, n2) R2* in 1/s, as `decay_rate` makes it; tells marrow and bone from brain. None where unknown.
    options : see `BetOptions`.

    Returns
    -------
    (n0, n1, n2) bool, one piece without holes.

    Raises
    ------
    ValueError : the image is not 3D or shows no head, or the surface collapsed.

    References
    ----------
    Smith SM (2002). Fast robust automated brain extraction. Hum Brain Mapp 17:143-155.

    Examples
    --------
    Brain, dark skull and scalp in voxels of 6 mm; the surface, stopped early, is on its way to the rim of the brain.

    >>> x, y, z = 6 * (np.indices((33, 33, 33)) - 16)
    >>> depth = np.sqrt((x / 60) ** 2 + (y / 75) ** 2 + (z / 60) ** 2)
    >>> head = np.select([depth < 1, depth < 1.15, depth < 1.3], [100.0, 5.0, 80.0])
    >>> found = bet(head, scan=Scan((6, 6, 6)), options=BetOptions(iterations=200, robust=False))
    >>> bool(found[16, 16, 16]), bool(found[depth > 1].any())
    (True, False)
    """
    check_options(options)
    if image.ndim != 3:
        raise ValueError(f"BET needs one 3D image, but this one has shape {image.shape}.")
    if decay is not None and decay.shape != image.shape:
        raise ValueError(f"The decay map has shape {decay.shape}, the image {image.shape}.")
    image = np.ascontiguousarray(image, dtype=np.float32)
    if not np.isfinite(image).all():
        image = np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0)
    superior = np.asarray(superior_direction, dtype=np.float64)
    if not np.linalg.norm(superior) > 0:
        raise ValueError("superior_direction must not be the null vector.")
    superior = np.asarray(np.round(superior / np.linalg.norm(superior), DIGITS), dtype=np.float64)
    superior = superior / np.linalg.norm(superior)
    # The tessellated sphere is not the same along all axes: a head lies in it in one way, however it is stored.
    axes = head_axes([float(part) for part in superior], anterior_direction)
    image, voxel = np.ascontiguousarray(image.transpose(axes)), np.array(scan.voxel_size_mm, np.float64)[list(axes)]
    if decay is not None:
        decay = np.ascontiguousarray(decay.transpose(axes))
    extraction = _Extraction(image, voxel * human_scale(image, voxel), superior[list(axes)], decay, options)
    mask = extraction.twice() if options.robust else extraction.once()
    if not mask.any():
        raise ValueError("Brain extraction found no brain: the surface collapsed. Give a mask, or try another image.")
    return np.ascontiguousarray(fill_holes(largest_component(mask)).transpose(np.argsort(axes)))


@dataclass(frozen=True)
class _Extraction:
    """One head and how its brain is looked for; the attributes are those of `bet`, `superior` of length one."""

    image: RealArray
    voxel: DoubleArray
    superior: DoubleArray
    decay: RealArray | None
    options: BetOptions

    def once(self) -> Mask:
        head = estimate_head(self.image, self.voxel)
        sphere = tessellated_sphere(SUBDIVISIONS)
        return swell(self.image, self.voxel, head, sphere, START * head.radius_mm, self._forces(head))

    def twice(self) -> Mask:
        head = estimate_head(self.image, self.voxel, self.superior)
        mask, head = self._first_pass(head)
        tissue = self._tissue(mask, head)
        distance = tissue.core_distance(CORE_RADIUS_MM)
        if distance is None:  # a brain without depth, as of a small animal or a thin slab
            return self.once()
        inside = tissue.near(distance, CORE_RADIUS_MM)
        seen = np.where(tissue.near(distance, CORE_RADIUS_MM + ROOM_MM), self.image, np.float32(head.darkest))
        sphere = tessellated_sphere(SUBDIVISIONS)
        radii = SECOND_START * _radii(inside, self.voxel, head.centre_mm, sphere)
        mask = fill_holes(swell(seen, self.voxel, head, sphere, radii, self._forces(head)))
        if not mask.any():
            return mask
        tissue = self._tissue(mask, head)
        distance = tissue.core_distance(TRIM_RADIUS_MM)
        return mask if distance is None else mask & tissue.near(distance, TRIM_RADIUS_MM + TRIM_ROOM_MM)

    def _first_pass(self, head: HeadEstimate) -> tuple[Mask, HeadEstimate]:
        """A rough mask, and the head with centre and radius of the core of that mask."""
        assert head.top_mm is not None
        seen = above(self.image, head.top_mm - FLOOR_MM, head.darkest, self.voxel, self.superior)
        sphere = tessellated_sphere(FIRST_SUBDIVISIONS)
        for _ in range(1 + RESTARTS):
            forces = self._forces(head, first=True)
            mask = largest_component(swell(seen, self.voxel, head, sphere, START * head.radius_mm, forces))
            tissue = self._tissue(mask, head)
            distance = tissue.core_distance(CORE_RADIUS_MM)
            if distance is None:
                break
            before = head.centre_mm
            head = _centred(head, tissue.near(distance, CORE_RADIUS_MM), self.voxel)
            if np.linalg.norm(head.centre_mm - before) < SETTLED_MM:
                break
        return mask, head

    def _tissue(self, mask: Mask, head: HeadEstimate) -> Tissue:
        return find_tissue(mask, self.image, self.decay, self.voxel, (head.darkest, head.median))

    def _forces(self, head: HeadEstimate, first: bool = False) -> Forces:
        options = self.options
        fraction, iterations = options.fractional_intensity, options.iterations
        if first:
            fraction, iterations = FIRST_FRACTION * fraction, min(FIRST_ITERATIONS, iterations)
        # The local fraction is linear in the position: fraction + gradient * (height above the centre) / radius.
        slope = options.vertical_gradient * self.superior / head.radius_mm
        depths = (int(options.dark_depth_mm), int(options.bright_depth_mm))
        # FSL's BET raises its threshold to this power, so that "f 0.5" means the same here as there.
        return Forces(fraction**0.275, slope, depths, iterations)


def _centred(head: HeadEstimate, inside: Mask, voxel: DoubleArray) -> HeadEstimate:
    counts = [inside.sum(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    centre = np.array([np.average(np.arange(count.size), weights=count) for count in counts]) * voxel
    radius = (0.75 / np.pi * np.count_nonzero(inside) * np.prod(voxel)) ** (1 / 3)
    return replace(head, centre_mm=centre, radius_mm=float(1.1 * radius))


def _radii(inside: Mask, voxel: DoubleArray, centre_mm: DoubleArray, sphere: Tessellation) -> DoubleArray:
    """Distance in mm from the centre to where each vertex's ray leaves a mask, smoothed over neighbours."""
    reach = np.arange(1.0, LONGEST_RAY_MM)
    places = np.rint((sphere.vertices[:, None] * reach[:, None] + centre_mm) / voxel).astype(np.int64)
    last = np.array(inside.shape) - 1
    within = ((places >= 0) & (places <= last)).all(axis=2)
    left = ~(inside[tuple(np.clip(places, 0, last).T)].T & within)
    left[:, -1] = True
    radii = reach[left.argmax(axis=1)]
    real = np.arange(sphere.rings.shape[1]) < sphere.ring_sizes[:, None]
    for _ in range(SMOOTHINGS):
        radii = (radii + np.where(real, radii[sphere.rings], 0).sum(axis=1) / sphere.ring_sizes) / 2
    return np.asarray(radii)
