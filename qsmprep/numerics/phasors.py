"""Products and sizes of complex numbers that are the same bits on every processor.

numpy multiplies, divides and measures complex numbers by fused instructions where the processor has them, which round
once where two products round twice. Here every product and sum is one of real numbers, which IEEE 754 leaves no choice.
"""

from __future__ import annotations

import numpy as np

from qsmprep.numerics.arrays import ComplexImage, RealArray


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
