"""Functions of each voxel's value that are the same bits on every processor.

numpy takes its powers and hyperbolic functions from a library of its own where there is AVX-512. Here powers are
products, which IEEE 754 leaves no choice, and functions those of the C library.
"""

from __future__ import annotations

import numpy as np

from qsmprep.numerics.arrays import RealArray
from qsmprep.numerics.jit import jit, prange


def whole_power(base: RealArray, exponent: int) -> RealArray:
    """Base to a whole exponent of 0 or more, voxel by voxel; ValueError for another."""
    if exponent < 0 or exponent != int(exponent):
        raise ValueError(f"The exponent is {exponent}; it must be a whole number of 0 or more.")
    power = np.ones_like(base)
    for _ in range(int(exponent)):
        power = power * base
    return power


def tanh(values: RealArray) -> RealArray:
    """Hyperbolic tangent, voxel by voxel, in the precision of the values."""
    given = np.ascontiguousarray(values)
    found = np.empty_like(given)
    _tanh(given.reshape(-1), found.reshape(-1))
    return found


@jit(parallel=True)
def _tanh(values: RealArray, found: RealArray) -> None:
    """Fill `found`, of the same length."""
    for i in prange(values.size):
        found[i] = np.tanh(values[i])
