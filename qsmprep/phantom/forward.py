"""From susceptibility to field: the field of the voxels as uniformly magnetised cuboids."""

from __future__ import annotations

import numpy as np

from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import fast_shape, irfftn, rfftn
from qsmprep.scan import Scan


class DipoleField:
    """The field of any susceptibility map on one grid, free of wrap-around (grid doubled).

    Each source voxel is a cuboid, not a point, so that the field is right for voxels of any proportion: point dipoles
    on an anisotropic lattice give a wrong field inside the source.

    Parameters
    ----------
    shape : of the grid.
    scan : its voxel size and the direction of B0.

    References
    ----------
    Jenkinson 2004 (cuboid along B0); Newell 1993 (other elements of the demagnetising tensor).
    """

    def __init__(self, shape: tuple[int, ...], scan: Scan):
        self.shape = tuple(shape)
        self.padded = fast_shape(tuple(2 * n for n in shape))
        self.spectrum = dipole_kernel(self.padded, scan.voxel_size_mm, scan.b0_direction, kind="integrated")

    def __call__(self, chi_ppm: np.ndarray, surrounding_ppm: float = 0.0) -> np.ndarray:
        """Field in ppm of a map in ppm, `surrounding_ppm` being the susceptibility beyond the grid; float32."""
        inner = tuple(slice(0, n) for n in self.shape)
        padded = np.zeros(self.padded, np.float32)
        np.subtract(chi_ppm, np.float32(surrounding_ppm), out=padded[inner])
        spectrum = rfftn(padded)
        del padded
        spectrum *= self.spectrum
        return np.ascontiguousarray(irfftn(spectrum, self.padded)[inner])
