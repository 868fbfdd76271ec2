"""Products and sizes of complex numbers that are the same bits on every processor.

numpy multiplies, divides and measures complex numbers by fused instructions where the processor has them, which round
once where two products round twice; and it takes the angle by a library of its own where there is AVX-512. Here every
product and sum is one of real numbers, which IEEE 754 leaves no choice, and the angle is that of the C library.
"""

from __future__ import annotations

import numpy as np

from qsmprep.numerics.arrays import ComplexImage, RealArray
from qsmprep.numerics.jit import jit, prange


def conjugate_product(a: ComplexImage, b: ComplexImage) -> ComplexImage:
    """a times the conjugate of b, of one shape."""
    product = np.empty(a.shape, np.result_type(a, b))
    product.real = a.real * b.real + a.imag * b.imag
    product.imag = a.imag * b.real - a.real * b.imag
    return product


def product(a: ComplexImage, b: ComplexImage) -> ComplexImage:
    """a times b, of one shape."""
    return conjugate_product(a, b.conj())


def length(a: ComplexImage) -> RealArray:
    """Absolute value, for numbers whose square does not overflow."""
    return np.asarray(np.sqrt(a.real * a.real + a.imag * a.imag))


def angle(a: np.ndarray) -> RealArray:
    """Phase in rad of complex numbers of any shape, as np.angle."""
    values = np.asarray(a)
    return arctan2(values.imag, values.real)


def arctan2(y: np.ndarray, x: np.ndarray) -> RealArray:
    """Angle in rad of points of one shape, as np.arctan2: single precision where both are, else double."""
    kind = np.result_type(y, x, np.float32)
    above, along = (np.ascontiguousarray(part, kind) for part in (y, x))
    found = np.empty(above.shape, kind)
    _arctan2(above.reshape(-1), along.reshape(-1), found.reshape(-1))
    return found


@jit(parallel=True)
def _arctan2(y: RealArray, x: RealArray, found: RealArray) -> None:
    """Fill `found`, all of one length."""
    for i in prange(y.size):
        found[i] = np.arctan2(y[i], x[i])
