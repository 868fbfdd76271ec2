"""V-SHARP: a harmonic background equals its own mean over any sphere, so subtracting that mean removes it.

Close to the mask's border only small spheres fit, so the radius varies. The voxels that the largest sphere reaches
are filtered by one convolution in Fourier space; the thin shells left to smaller spheres by running sums, which are
exact, far cheaper than one convolution a radius, and the same whatever the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.background import BackgroundRemoval, check_background_input
from qsmprep.background.spheres import ON_THE_SPHERE, UNASSIGNED, deconvolve, largest_sphere, reach_of
from qsmprep.numerics.arrays import DoubleArray, FloatImage, Labels
from qsmprep.numerics.fourier import irfftn, rfftn, to_device, to_numpy
from qsmprep.numerics.jit import jit, prange
from qsmprep.numerics.operators import sphere_kernel
from qsmprep.numerics.progress import Progress
from qsmprep.numerics.volume import frame_around
from qsmprep.options import check_options, option
from qsmprep.scan import Scan, Triple


@dataclass(frozen=True)
class VsharpOptions:
    """Options of V-SHARP; the defaults are those of the consensus paper's sample paragraph (12 to 1 mm)."""

    max_radius: float = option(
        12.0, "largest radius of the spherical mean", unit="voxels or mm", unit_from="radius_unit", low=0.1, high=60.0
    )
    min_radius: float = option(
        1.0, "smallest radius of the spherical mean", unit="voxels or mm", unit_from="radius_unit", low=0.1, high=60.0
    )
    radius_step: float = option(
        1.0, "step between two radii", unit="voxels or mm", unit_from="radius_unit", low=0.1, high=60.0
    )
    radius_unit: str = option(
        "mm", "unit of the radii; voxel: the smallest edge of one, as in SEPIA", choices=("mm", "voxel")
    )
    deconvolution: bool = option(
        True, "undo what the largest spherical mean took of the tissue field; SEPIA's release behind the paper did not"
    )
    threshold: float = option(
        0.1,
        "value of the filter below which the deconvolution is truncated",
        low=0.0,
        high=1.0,
        when=("deconvolution", True),
    )


def vsharp(
    total_field: np.ndarray,
    mask: np.ndarray,
    *,
    scan: Scan,
    options: VsharpOptions = VsharpOptions(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> BackgroundRemoval:
    """Remove the background field by spherical means of varying radius.

    For radii r from the largest to the smallest, voxels whose whole sphere lies in the mask and that no larger
    sphere reached get g = f - S_r f. The result is F^-1{ F g / (1 - S_max) }, zero where |1 - S_max| < threshold;
    without deconvolution it is g, which lacks the slow part of the tissue field.

    Parameters
    ----------
    total_field : (n0, n1, n2) unwrapped field, Hz or ppm; values outside the mask do not matter.
    mask : (n0, n1, n2) where the field can be trusted. Voxels outside the volume count as outside the mask.
    scan : its voxel size.
    options : radii and threshold.
    progress : called as progress(done, total) after each of the stages.
    device : where the Fourier transforms run.

    Returns
    -------
    BackgroundRemoval in the unit of the input; its mask is eroded by the smallest sphere.

    Raises
    ------
    ValueError : empty mask, a mask in which no sphere fits, mismatched shapes, non-finite field in the mask.

    References
    ----------
    Schweser, NeuroImage 54:2789 (2011); Li, NeuroImage 55:1645 (2011); Wu, Magn Reson Med 67:137 (2012).

    Examples
    --------
    The field of a distant source, here a gradient, goes; so does a layer of the mask.

    >>> x, y, z = np.indices((17, 17, 17)) - 8
    >>> mask = x**2 + y**2 + z**2 < 64
    >>> found = vsharp(10.0 + 2 * x - z, mask, scan=Scan((1, 1, 1)))
    >>> bool(np.abs(found.tissue_field).max() < 1e-4), int(mask.sum()), int(found.mask.sum())
    (True, 2103, 1497)
    """
    check_options(options)
    total_field, mask = check_background_input(total_field, mask)
    report, voxel_size_mm = progress or (lambda done, total: None), scan.voxel_size_mm
    radii = radii_mm(options, voxel_size_mm)
    reach = tuple(voxels + 1 for voxels in reach_of(float(radii[0]), voxel_size_mm))
    frame = frame_around(mask, padding=reach)
    inside = frame.crop(mask)
    field = frame.crop(total_field)
    # The mean is harmonic: taking it away changes nothing but the rounding of a large offset.
    mean = field[inside].mean(dtype=np.float64)
    field = np.where(inside, field - mean, 0).astype(np.float32)

    level = largest_sphere(inside[frame.inner], radii, voxel_size_mm)
    if level.min() == UNASSIGNED:
        raise ValueError(
            f"The mask is too thin for V-SHARP: no sphere of radius {radii[-1]:g} mm fits anywhere inside it."
        )
    largest = radii[level.min()]
    report(1, 4)
    kernel = to_device(sphere_kernel(frame.padded_shape, voxel_size_mm, largest), device)
    smooth = to_numpy(irfftn(rfftn(to_device(field, device)) * kernel, frame.padded_shape))
    report(2, 4)
    filtered = np.zeros_like(field)
    filtered[frame.inner] = _subtract_means(field[frame.inner], smooth[frame.inner], level, radii, voxel_size_mm)
    report(3, 4)
    if options.deconvolution:
        filtered = to_numpy(deconvolve(to_device(filtered, device), 1 - kernel, options.threshold))
    tissue = frame.restore(filtered)
    valid = np.zeros(mask.shape, bool)
    valid[frame.box] = level != UNASSIGNED
    tissue[~valid] = 0
    report(4, 4)
    return BackgroundRemoval(tissue, valid)


def radii_mm(options: VsharpOptions, voxel_size_mm: tuple[float, float, float]) -> np.ndarray:
    """Radii in mm, descending, without those below every voxel size (a sphere of one voxel filters nothing).

    Raises ValueError when none is left.
    """
    if options.min_radius > options.max_radius:
        raise ValueError(f"V-SHARP: min_radius {options.min_radius:g} exceeds max_radius {options.max_radius:g}.")
    smallest_edge = min(voxel_size_mm)
    steps = int((options.max_radius - options.min_radius) / options.radius_step + 1e-6)
    radii = options.max_radius - options.radius_step * np.arange(steps + 1)
    if options.radius_unit == "voxel":
        radii = radii * smallest_edge
    radii = radii[radii * np.sqrt(ON_THE_SPHERE) >= smallest_edge]
    if radii.size == 0:
        raise ValueError(f"V-SHARP: max_radius is below the smallest voxel edge, {smallest_edge:g} mm.")
    if radii.size >= UNASSIGNED:
        raise ValueError(f"V-SHARP: {radii.size} radii are too many; raise radius_step.")
    return np.asarray(radii)


def _subtract_means(
    field: FloatImage,
    smooth: FloatImage,
    level: Labels,
    radii: DoubleArray,
    voxel_size_mm: Triple,
) -> FloatImage:
    """f - S_r f at each voxel's own radius; `smooth` holds S_r f of the largest one in use."""
    columns, first, count = [], [0], []
    for radius in radii:
        limit = radius**2 * ON_THE_SPHERE
        reach = [voxels + 1 for voxels in reach_of(float(radius), voxel_size_mm)]
        disc = np.stack(np.meshgrid(*(np.arange(-w, w + 1) for w in reach[:2]), indexing="ij"), -1).reshape(-1, 2)
        left = limit - (disc * np.asarray(voxel_size_mm[:2])).astype(float).__pow__(2).sum(1)
        disc, left = disc[left >= 0], left[left >= 0]
        half = np.floor(np.sqrt(left) / voxel_size_mm[2]).astype(int)
        columns.append(np.column_stack([disc, half]))
        first.append(first[-1] + len(disc))
        count.append(int((2 * half + 1).sum()))
    sums = np.zeros((*field.shape[:2], field.shape[2] + 1))
    np.cumsum(field, axis=2, dtype=np.float64, out=sums[..., 1:])
    out = np.zeros(field.shape, np.float32)
    _shells(
        field,
        smooth,
        level,
        level.min(),
        sums,
        np.concatenate(columns).astype(np.int32),
        np.array(first),
        np.array(count),
        out,
    )
    return out


@jit(parallel=True)
def _shells(
    field: FloatImage, smooth: FloatImage, level: Labels, top: int, sums: DoubleArray, columns: Labels,
    first: Labels, count: Labels, out: FloatImage,
) -> None:  # fmt: skip
    n0, n1, n2 = field.shape
    n_radii = count.size
    for a in prange(n0):
        where = np.empty(n2, np.int64)
        total = np.empty(n2, np.float64)
        for b in range(n1):
            for c in range(n2):
                if level[a, b, c] == top:
                    out[a, b, c] = field[a, b, c] - smooth[a, b, c]
            for r in range(top + 1, n_radii):
                found = 0
                for c in range(n2):
                    if level[a, b, c] == r:
                        where[found] = c
                        total[found] = 0.0
                        found += 1
                if found == 0:
                    continue
                for column in range(first[r], first[r + 1]):
                    i = a + columns[column, 0]
                    j = b + columns[column, 1]
                    half = columns[column, 2]
                    for k in range(found):
                        total[k] += sums[i, j, where[k] + half + 1] - sums[i, j, where[k] - half]
                for k in range(found):
                    out[a, b, where[k]] = field[a, b, where[k]] - np.float32(total[k] / count[r])
