"""Functions of each voxel's value that are the same bits on every processor.

numpy takes its powers and hyperbolic functions from a library of its own where there is AVX-512. Here powers are
products, which IEEE 754 leaves no choice, and functions those of the C library. Its last digit in turn hangs on whether
the processor has fused multiply-add; `exponential`, `cosine_sine` and `logarithm` do not.
"""

from __future__ import annotations

import math

import numpy as np

from qsmprep.numerics.arrays import RealArray, Scalar
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


LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # of which multiples are exact
QUARTER_HIGH, QUARTER_LOW = 1.57079632673412561417e00, 6.07710050650619224932e-11  # of a turn, likewise
LARGEST_EXPONENT = 700.0
_LOWEST = 1011
_POWERS = np.array([math.ldexp(1.0, k) for k in range(-_LOWEST, _LOWEST + 1)])  # of 2, exact
# Taylor's series in the square of x, the highest power first: even and odd powers of exp, and cos(x) and sin(x) / x.
_EXP = tuple((1.0 / math.factorial(2 * n), 1.0 / math.factorial(2 * n + 1)) for n in range(6, -1, -1))
_COS_SIN = tuple(
    ((-1.0) ** n / math.factorial(2 * n), (-1.0) ** n / math.factorial(2 * n + 1)) for n in range(8, -1, -1)
)


@jit(inline="always")
def exponential(x: Scalar) -> Scalar:
    """exp(x) to a few 1e-16 of it, for compiled loops whose ends hang on the last digit; beyond +-700 as there."""
    if np.isnan(x):
        return x
    x = min(max(x, -LARGEST_EXPONENT), LARGEST_EXPONENT)
    k = np.rint(x / LN2_HIGH)
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    square, even, odd = r * r, 0.0, 0.0
    for n in range(len(_EXP)):  # |r| <= ln(2) / 2
        even, odd = even * square + _EXP[n][0], odd * square + _EXP[n][1]
    power: Scalar = (even + r * odd) * _POWERS[int(k) + _LOWEST]
    return power


@jit(inline="always")
def cosine_sine(x: Scalar) -> tuple[Scalar, Scalar]:
    """cos(x) and sin(x) to a few 1e-16, for |x| up to some thousand."""
    k = np.rint(x / QUARTER_HIGH)
    r = (x - k * QUARTER_HIGH) - k * QUARTER_LOW
    square, cosine, sine = r * r, 0.0, 0.0
    for n in range(len(_COS_SIN)):  # |r| <= pi / 4
        cosine, sine = cosine * square + _COS_SIN[n][0], sine * square + _COS_SIN[n][1]
    sine *= r
    turn = int(k) % 4
    if turn == 0:
        return cosine, sine
    if turn == 1:
        return -sine, cosine
    if turn == 2:
        return -cosine, -sine
    return sine, -cosine


@jit()
def logarithm(x: Scalar) -> Scalar:
    """The natural logarithm of x > 0, to a few 1e-16 of it or of 1."""
    m, e = math.frexp(x)
    if m < math.sqrt(0.5):
        m, e = 2 * m, e - 1
    s = (m - 1.0) / (m + 1.0)
    total = 0.0
    for n in range(25, 0, -2):  # 2 artanh(s), |s| <= 0.172
        total = total * (s * s) + 1.0 / n
    return 2 * s * total + (e * LN2_LOW + e * LN2_HIGH)
