"""The unit dipole kernel: field of a susceptibility source, for any direction of B0 and any voxel shape."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import combinations
from operator import add

import numpy as np

from qsmprep.numerics.arrays import DoubleArray, FloatImage, RealArray
from qsmprep.numerics.fourier import frequencies, indices, rfftn

KERNELS = ("continuous", "greens", "integrated", "discrete")


def b0_direction_from_affine(affine: RealArray) -> tuple[float, float, float]:
    """Unit vector of B0 (scanner z) in voxel axes.

    Parameters
    ----------
    affine : (4, 4) voxel-to-world matrix in mm, its handedness flip included.

    Returns
    -------
    Third row of the matrix whose columns are the affine's axes at unit length.
    """
    axes = np.asarray(affine, float)[:3, :3]
    b = (axes / np.linalg.norm(axes, axis=0))[2]
    x, y, z = (float(c) for c in b / np.linalg.norm(b))
    return x, y, z


def dipole_kernel(
    shape: tuple[int, ...],
    voxel_size_mm: tuple[float, float, float],
    b0_direction: tuple[float, float, float] = (0.0, 0.0, 1.0),
    *,
    kind: str = "continuous",
) -> FloatImage:
    """Half spectrum of the dipole kernel, so that field = irfftn(kernel * rfftn(chi)).

    Parameters
    ----------
    shape : array shape in voxels.
    voxel_size_mm : edge lengths in mm.
    b0_direction : direction of B0 in voxel axes; normalised here.
    kind : "continuous" D = 1/3 - (k.b)^2/|k|^2 with D(0) = 0 (inversion, with padding);
        "greens" transform of the point dipole in image space;
        "integrated" transform of a uniformly magnetised voxel's field in image space (forward simulation, PDF): the
        one that stays right next to the source when voxels are anisotropic;
        "discrete" finite-difference form, consistent with finite-difference regularisers.

    Returns
    -------
    float32 array of shape (n0, n1, n2 // 2 + 1), without unit; the field has the unit of chi.

    References
    ----------
    Salomir 2003; Marques and Bowtell 2005; Jenkinson 2004 (integrated); Milovic 2018 (discrete).
    """
    b = np.asarray(b0_direction, float)
    norm = np.linalg.norm(b)
    if b.shape != (3,) or not np.isfinite(norm) or norm == 0:
        raise ValueError(f"b0_direction must be three finite numbers, not all zero; got {b0_direction!r}.")
    b = b / norm
    if kind == "continuous":
        return _continuous(shape, voxel_size_mm, b)
    if kind == "greens":
        return _greens(shape, voxel_size_mm, b)
    if kind == "integrated":
        return _integrated(shape, voxel_size_mm, b)
    if kind == "discrete":
        return _discrete(shape, voxel_size_mm, b)
    raise ValueError(f"Unknown dipole kernel {kind!r}; choose one of {', '.join(KERNELS)}.")


def _continuous(shape: tuple[int, ...], voxel_size_mm: tuple[float, ...], b: DoubleArray) -> FloatImage:
    k = frequencies(shape, voxel_size_mm)
    return _one_third_minus(_quadratic_form(shape, [kd**2 for kd in k], k, b), reduce(add, (kd**2 for kd in k)))


def _discrete(shape: tuple[int, ...], voxel_size_mm: tuple[float, ...], b: DoubleArray) -> FloatImage:
    angles = [2 * np.pi * n / size for n, size in zip(indices(shape), shape, strict=True)]
    second = [(2 - 2 * np.cos(a)) / h**2 for a, h in zip(angles, voxel_size_mm, strict=True)]
    first = [np.sin(a) / h for a, h in zip(angles, voxel_size_mm, strict=True)]
    return _one_third_minus(_quadratic_form(shape, second, first, b), reduce(add, second))


def _quadratic_form(
    shape: tuple[int, ...], squares: Sequence[DoubleArray], firsts: Sequence[DoubleArray], b: DoubleArray
) -> DoubleArray:
    """(k.b)^2 from squares and products; a product at a Nyquist index is 0, the mean of its two signs."""
    odd = [np.where(2 * np.abs(n) == size, 0.0, f) for n, size, f in zip(indices(shape), shape, firsts, strict=True)]
    form: DoubleArray = reduce(add, (bd**2 * sq for bd, sq in zip(b, squares, strict=True)))
    for i, j in combinations(range(3), 2):
        if b[i] and b[j]:
            form = form + 2 * b[i] * b[j] * odd[i] * odd[j]
    return form


def _one_third_minus(along: DoubleArray, total: DoubleArray) -> FloatImage:
    total[0, 0, 0] = 1.0
    kernel = 1.0 / 3.0 - along / total
    kernel[0, 0, 0] = 0.0
    return kernel.astype(np.float32)


def _greens(shape: tuple[int, ...], voxel_size_mm: tuple[float, ...], b: DoubleArray) -> FloatImage:
    r = _broadcast([np.fft.fftfreq(size, 1.0 / size) * h for size, h in zip(shape, voxel_size_mm, strict=True)])
    squared = reduce(add, (x**2 for x in r))
    squared[0, 0, 0] = 1.0
    along = reduce(add, (bd * x for bd, x in zip(b, r, strict=True)))
    kernel = np.prod(voxel_size_mm) * (3 * along**2 - squared) / (4 * np.pi * squared**2.5)
    kernel[0, 0, 0] = 0.0  # the Lorentz sphere
    return _spectrum_of_odd_support(kernel)


def _integrated(shape: tuple[int, ...], voxel_size_mm: tuple[float, ...], b: DoubleArray) -> FloatImage:
    """Field 1/3 [own voxel] - b' N b, N the demagnetising tensor of a cuboid: third differences over its corners.

    The corner functions are even or odd along each axis, so one octant holds them all.
    """
    corners = _broadcast([(np.arange(n // 2 + 2) - 0.5) * h for n, h in zip(shape, voxel_size_mm, strict=True)])
    distance = np.sqrt(reduce(add, (x**2 for x in corners)))
    offsets = [np.fft.fftfreq(size, 1.0 / size) for size in shape]
    octant = np.ix_(*(np.abs(n).astype(int) for n in offsets))
    signs = _broadcast([np.sign(n) for n in offsets])

    diagonal: DoubleArray = np.zeros(distance.shape)
    for axis in range(3):
        if b[axis]:
            others = [corners[d] for d in range(3) if d != axis]
            diagonal += b[axis] ** 2 * np.arctan(others[0] * others[1] / (corners[axis] * distance))
    kernel = _third_difference(diagonal)[octant]
    for i, j in combinations(range(3), 2):
        if b[i] and b[j]:
            product = _third_difference(np.log(distance + corners[3 - i - j]))[octant]
            product *= signs[i]
            product *= signs[j]
            kernel -= 2 * b[i] * b[j] * product
    kernel *= -1 / (4 * np.pi)
    kernel[0, 0, 0] += 1 / 3
    return _spectrum_of_odd_support(kernel)


def _third_difference(corners: DoubleArray) -> DoubleArray:
    for axis in range(3):
        corners = np.diff(corners, axis=axis)
    return corners


def _broadcast(axes: Sequence[RealArray]) -> list[DoubleArray]:
    return [np.asarray(x, float).reshape([-1 if a == axis else 1 for a in range(3)]) for axis, x in enumerate(axes)]


def _spectrum_of_odd_support(kernel: DoubleArray) -> FloatImage:
    """Half spectrum of a kernel in image space, without the planes of an even size that have no opposite."""
    for axis, size in enumerate(kernel.shape):
        if size % 2 == 0:
            np.moveaxis(kernel, axis, 0)[size // 2] = 0
    return np.ascontiguousarray(rfftn(kernel).real.astype(np.float32))
