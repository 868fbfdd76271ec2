"""From susceptibility to field: the field of the voxels as uniformly magnetised cuboids."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from qsmprep.fourier import fast_shape, irfftn, rfftn


class DipoleField:
    """The field of any susceptibility map on one grid, free of wrap-around (grid doubled).

    Each source voxel is a cuboid, not a point, so that the field is right for voxels of any proportion: point dipoles
    on an anisotropic lattice give a wrong field inside the source.

    Parameters
    ----------
    shape, voxel_size_mm : the grid.
    b0_direction : direction of the main field in voxel axes.

    References
    ----------
    Jenkinson 2004 (cuboid along B0); Newell 1993 (other elements of the demagnetising tensor).
    """

    def __init__(self, shape, voxel_size_mm, b0_direction):
        self.shape = tuple(shape)
        self.padded = fast_shape(tuple(2 * n for n in shape))
        kernel = cuboid_kernel(self.padded, voxel_size_mm, b0_direction)
        self.spectrum = np.ascontiguousarray(rfftn(kernel).real)

    def __call__(self, chi_ppm: np.ndarray, surrounding_ppm: float = 0.0) -> np.ndarray:
        """Field in ppm of a map in ppm, `surrounding_ppm` being the susceptibility beyond the grid; float32."""
        inner = tuple(slice(0, n) for n in self.shape)
        padded = np.zeros(self.padded, np.float32)
        np.subtract(chi_ppm, np.float32(surrounding_ppm), out=padded[inner])
        spectrum = rfftn(padded)
        del padded
        spectrum *= self.spectrum
        return np.ascontiguousarray(irfftn(spectrum, self.padded)[inner])


def cuboid_kernel(
    shape: tuple[int, int, int],
    voxel_size_mm: tuple[float, float, float],
    b0_direction: tuple[float, float, float],
) -> np.ndarray:
    """Field at the voxel centres of one uniformly magnetised voxel at index (0, 0, 0), FFT order, float32.

    Elements of the demagnetising tensor are third differences of corner functions: arctan(u v / (w R)) on the
    diagonal, log(w + R) beside it. They are even or odd in each coordinate, so one octant is computed.
    """
    b = np.asarray(b0_direction, float) / np.linalg.norm(b0_direction)
    reach = [n // 2 + 1 for n in shape]
    u = [
        ((np.arange(n + 1) - 0.5) * h).reshape([-1 if a == axis else 1 for a in range(3)])
        for axis, (n, h) in enumerate(zip(reach, voxel_size_mm, strict=True))
    ]
    radius = np.sqrt(u[0] ** 2 + u[1] ** 2 + u[2] ** 2)
    octant = np.zeros(reach)
    for axis in np.flatnonzero(b):
        i, j = (a for a in range(3) if a != axis)
        octant -= b[axis] ** 2 / (4 * np.pi) * _third_difference(np.arctan(u[i] * u[j] / (u[axis] * radius)))
    octant[0, 0, 0] += 1 / 3  # the Lorentz sphere
    index = [np.minimum(np.arange(n), n - np.arange(n)) for n in shape]
    kernel = octant.astype(np.float32)[np.ix_(*index)]
    for i, j in combinations(range(3), 2):
        if b[i] and b[j]:
            k = 3 - i - j
            octant = b[i] * b[j] / (2 * np.pi) * _third_difference(np.log(u[k] + radius))
            mixed = octant.astype(np.float32)[np.ix_(*index)]
            for axis in (i, j):
                mixed *= _signs(shape[axis], axis)
            kernel += mixed
    return kernel


def _third_difference(corner_values: np.ndarray) -> np.ndarray:
    for axis in range(3):
        corner_values = np.diff(corner_values, axis=axis)
    return corner_values


def _signs(size: int, axis: int) -> np.ndarray:
    """Sign of the coordinate of each index in FFT order; 0 at the origin and at an even size's half."""
    offset = np.arange(size)
    signs = np.where(2 * offset < size, 1, -1).astype(np.float32)
    signs[(offset == 0) | (2 * offset == size)] = 0
    return signs.reshape([-1 if a == axis else 1 for a in range(3)])
