"""Functions of each value: those of numpy but for rounding."""

import math

import numpy as np
import pytest

from qsmprep.numerics.elementary import cosine_sine, exponential, logarithm, tanh, whole_power
from qsmprep.numerics.phasors import angle, arctan2

VALUES = np.random.default_rng(5).normal(size=(7, 6, 5)).astype(np.float32)


@pytest.mark.parametrize("exponent", [0, 1, 2, 4, 7])
def test_a_whole_power_is_a_product(exponent):
    found = whole_power(VALUES, exponent)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, VALUES.astype(float) ** exponent, rtol=1e-5)


@pytest.mark.parametrize("exponent", [-1, 0.5])
def test_another_power_is_refused(exponent):
    with pytest.raises(ValueError, match="whole number"):
        whole_power(VALUES, exponent)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_functions_are_those_of_numpy_in_either_precision(kind):
    one, other = VALUES.astype(kind), VALUES[::-1].astype(kind)
    for found, expected in ((tanh(one), np.tanh(one)), (arctan2(one, other), np.arctan2(one, other)),
                            (angle(one + 1j * other), np.angle(one + 1j * other))):  # fmt: skip
        assert found.dtype == kind
        np.testing.assert_allclose(found, expected, rtol=2e-6)
    assert angle(np.zeros(1, np.complex64)) == 0 and tanh(one[:, ::2]).shape == (7, 3, 5)


def test_compiled_functions_are_those_of_the_c_library_to_the_last_digits():
    for x in np.random.default_rng(1).uniform(-30, 30, 2000):
        assert exponential(x) == pytest.approx(math.exp(x), rel=4e-16 * 4)
        assert cosine_sine(20 * x) == pytest.approx((math.cos(20 * x), math.sin(20 * x)), abs=1e-14)
        assert logarithm(abs(x)) == pytest.approx(math.log(abs(x)), rel=1e-15, abs=1e-15)
    assert exponential(0.0) == 1 and logarithm(1.0) == 0 and cosine_sine(0.0) == (1, 0)
    assert 0 < exponential(-1e9) < 1e-300 and np.isfinite(exponential(1e9))
    assert np.isnan([exponential(float("nan")), *cosine_sine(float("nan"))]).all()
