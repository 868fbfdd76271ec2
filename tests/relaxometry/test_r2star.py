import numpy as np
import pytest

from qsmprep.relaxometry import arlo_applies, r2star_range, spacing_is_equal
from qsmprep.relaxometry.arlo import arlo
from qsmprep.relaxometry.loglinear import loglinear


def decay(rates, times, amplitude=1000.0):
    rates = np.asarray(rates, float).reshape(-1, 1, 1)
    return amplitude * np.exp(-rates * np.asarray(times).reshape(-1, 1, 1, 1))


@pytest.mark.parametrize(("rate", "spacing", "expected"), [(20, 5, "20.0000"), (60, 5, "59.997"), (150, 6, "149.50")])
def test_arlo_gives_the_tabulated_rates(rate, spacing, expected):
    # The wrong denominator found in one toolbox gives 19.36, 54.5 and 115.1 instead.
    times = spacing * 1e-3 * np.arange(1, 6)
    found = arlo(decay(rate, times), echo_times_s=times)
    digits = len(expected.split(".")[1])
    assert f"{found.r2star.item():.{digits}f}" == expected
    assert found.t2star_s.item() == pytest.approx(1 / found.r2star.item())


def test_arlo_is_exact_for_three_echoes_of_slow_decay_and_gives_s0():
    times = np.array([0.004, 0.009, 0.014])
    found = arlo(decay([5, 10, 30], times), echo_times_s=times)
    np.testing.assert_allclose(found.r2star.ravel(), [5, 10, 30], rtol=1e-4)
    np.testing.assert_allclose(found.s0, 1000, rtol=1e-4)
    assert found.valid.all()


def test_loglinear_is_exact_without_noise_for_any_spacing():
    times = np.array([0.003, 0.008, 0.019, 0.025])
    found = loglinear(decay([3, 20, 60, 150], times), echo_times_s=times)
    np.testing.assert_allclose(found.r2star.ravel(), [3, 20, 60, 150], rtol=1e-5)
    np.testing.assert_allclose(found.s0, 1000, rtol=1e-5)
    np.testing.assert_allclose(found.t2star_s, 1 / found.r2star, rtol=1e-6)


@pytest.mark.parametrize("method", [arlo, loglinear])
@pytest.mark.parametrize("rate", [10, 40])
def test_bias_in_noise_is_below_one_per_cent(method, rate):
    times = np.array([0.005, 0.011, 0.017, 0.023, 0.029])
    rng = np.random.default_rng(5)
    signal = 100 * np.exp(-rate * times).reshape(-1, 1, 1, 1) * np.ones((1, 30, 30, 30))
    noisy = np.abs(signal + rng.standard_normal(signal.shape) + 1j * rng.standard_normal(signal.shape))
    found = method(noisy, echo_times_s=times)
    assert found.r2star.mean() == pytest.approx(rate, rel=0.01)
    assert found.s0.mean() == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize("method", [arlo, loglinear])
def test_bad_voxels_are_flagged_and_finite(method):
    times = np.array([0.005, 0.010, 0.015, 0.020])
    magnitude = np.broadcast_to(decay(30, times), (4, 9, 1, 1)).copy()
    magnitude[:, 1] = 0  # no signal
    magnitude[1:, 2] = 0  # one echo left
    magnitude[:, 3] = np.nan
    magnitude[:, 4] = magnitude[::-1, 4]  # rising signal: negative rate
    magnitude[:, 5] = 7  # no decay
    magnitude[1:, 6] = 1e-30  # decays faster than echoes can tell
    magnitude[2, 7] = np.inf
    mask = np.ones((9, 1, 1), bool)
    mask[8] = False
    found = method(magnitude, echo_times_s=times, mask=mask)
    for image in (found.r2star, found.t2star_s, found.s0):
        assert np.isfinite(image).all()
        assert image.dtype == np.float32
        assert image[8] == 0
    lowest, highest = r2star_range(times)
    assert (lowest, highest) == (pytest.approx(2.5), pytest.approx(4000))
    assert found.valid.ravel()[[0]].all()
    assert not found.valid.ravel()[[1, 2, 3, 4, 5, 8]].any()
    assert not found.r2star.ravel()[[1, 2, 3]].any()
    np.testing.assert_allclose(found.r2star.ravel()[[4, 5]], lowest)
    assert found.r2star.max() <= np.float32(highest)


def test_loglinear_leaves_out_echoes_without_signal():
    times = np.array([0.005, 0.010, 0.015, 0.020])
    magnitude = decay([30, 30], times)
    magnitude[3, 0] = 0
    magnitude[0, 1] = np.nan
    found = loglinear(magnitude, echo_times_s=times)
    np.testing.assert_allclose(found.r2star, 30, rtol=1e-5)
    np.testing.assert_allclose(found.s0, 1000, rtol=1e-5)
    assert found.valid.all()


def test_which_fit_applies_depends_on_the_echoes():
    assert arlo_applies([0.005, 0.010, 0.015])
    assert arlo_applies([0.0148, 0.03438, 0.05396])
    assert not arlo_applies([0.005, 0.010])
    assert not arlo_applies([0.005, 0.010, 0.020])
    assert spacing_is_equal([0.005, 0.010])
    assert not spacing_is_equal([0.004, 0.012, 0.0204])
    with pytest.raises(ValueError, match="log-linear"):
        arlo(decay(20, [0.005, 0.010, 0.020]), echo_times_s=[0.005, 0.010, 0.020])
    with pytest.raises(ValueError, match="two echoes"):
        loglinear(decay(20, [0.005]), echo_times_s=[0.005])


@pytest.mark.parametrize("method", [arlo, loglinear])
def test_wrong_units_and_shapes_are_refused(method):
    times = np.array([0.005, 0.010, 0.015])
    with pytest.raises(ValueError, match="milliseconds"):
        method(decay(20, times), echo_times_s=times * 1000)
    with pytest.raises(ValueError, match="first axis"):
        method(np.moveaxis(decay([20, 30], times), 0, -1), echo_times_s=times)
    with pytest.raises(ValueError, match="mask is empty"):
        method(decay(20, times), echo_times_s=times, mask=np.zeros((1, 1, 1), bool))
