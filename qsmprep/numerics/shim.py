"""The smooth part of a background field: harmonic polynomials of low degree, as shim coils and distant sources make."""

from __future__ import annotations

import numpy as np

from qsmprep.numerics.arrays import FloatImage, RealArray

PIECE = 32768  # voxels summed at a time, in one order: the sum does not depend on threads


def harmonic_shim(field: RealArray, weight: RealArray, voxel_size_mm: tuple[float, float, float]) -> FloatImage:
    """The harmonic polynomial of degree <= 2 closest to a field where it is known.

    Minimises sum |W (f - p)|^2 over the constant, three linear and five quadratic terms, each of which has a Laplacian
    of 0. All voxels enter, summed in one order, so that neither threads nor the order of the axes matter.

    Parameters
    ----------
    field : (n0, n1, n2), any unit.
    weight : (n0, n1, n2) W >= 0, 0 where the field is not known.
    voxel_size_mm : edge lengths in mm.

    Returns
    -------
    (n0, n1, n2) float32 polynomial on the whole grid, in the unit of the field; 0 where no weight is above 0.
    """
    known = np.nonzero(weight > 0)
    if known[0].size == 0:
        return np.zeros(field.shape, np.float32)
    scale = 0.5 * max(size * h for size, h in zip(field.shape, voxel_size_mm, strict=True))
    centre = [float(index.mean()) for index in known]
    steps = [h / scale for h in voxel_size_mm]
    terms = np.stack(_solid_harmonics(*((n - c) * h for n, c, h in zip(known, centre, steps, strict=True))))
    weights = weight[known].astype(np.float64)
    terms *= weights
    measured = weights * field[known]
    products = np.zeros((10, 10))  # of the nine terms and the field
    for start in range(0, weights.size, PIECE):
        piece = slice(start, start + PIECE)
        rows = np.vstack([terms[:, piece], measured[piece]])
        products += rows @ rows.T
    coefficients = np.linalg.lstsq(products[:9, :9], products[:9, 9], rcond=1e-10)[0]
    axes = np.ogrid[tuple(slice(size) for size in field.shape)]
    grid = [((n - c) * h).astype(np.float32) for n, c, h in zip(axes, centre, steps, strict=True)]
    fitted = np.zeros(field.shape, np.float32)
    for coefficient, term in zip(coefficients, _solid_harmonics(*grid), strict=True):
        fitted += np.float32(coefficient) * term
    return fitted


def _solid_harmonics(x: RealArray, y: RealArray, z: RealArray) -> list[RealArray]:
    """Real solid harmonics up to degree 2."""
    return [x * 0 + 1, x, y, z, x * y, x * z, y * z, x**2 - y**2, 2 * z**2 - x**2 - y**2]
