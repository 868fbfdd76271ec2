import numpy as np
import pytest

from qsmprep.field.weights import WeightOptions, data_weights, relative_residual

TIMES = np.array([0.005, 0.012, 0.019])


@pytest.fixture
def maps():
    rng = np.random.default_rng(4)
    shape = (12, 13, 14)
    mask = np.zeros(shape, bool)
    mask[2:-2, 2:-2, 2:-2] = True
    return rng.uniform(0.5, 2, shape), rng.uniform(10, 100, shape), mask


def test_noise_weights_have_mean_one_and_are_inverse_to_the_noise(maps):
    noise, _, mask = maps
    weights = data_weights(noise_hz=noise, mask=mask)
    assert weights.dtype == np.float32
    assert weights[mask].mean() == pytest.approx(1, rel=1e-5)
    product = (weights * noise)[mask]
    np.testing.assert_allclose(product, product[0], rtol=1e-5)
    np.testing.assert_allclose(data_weights(noise_hz=1000 * noise, mask=mask), weights, rtol=1e-5)
    assert not weights[~mask].any()


def test_undefined_noise_means_no_weight(maps):
    noise, _, mask = maps
    noise[3, 3, 3], noise[4, 4, 4], noise[5, 5, 5] = 0, np.nan, np.inf
    for kind in ("noise", "noise-median"):
        weights = data_weights(noise_hz=noise, mask=mask, options=WeightOptions(kind=kind))
        assert weights[3, 3, 3] == weights[4, 4, 4] == weights[5, 5, 5] == 0
        assert np.isfinite(weights).all()
    with pytest.raises(ValueError, match="no positive"):
        data_weights(noise_hz=np.zeros_like(noise), mask=mask)


def test_median_weights_tame_outliers(maps):
    noise, _, mask = maps
    noise[6, 6, 6] = 1e-4
    weights = data_weights(noise_hz=noise, mask=mask, options=WeightOptions(kind="noise-median"))
    assert np.median(weights[mask]) == pytest.approx(1, abs=1e-3)
    plain = data_weights(noise_hz=noise, mask=mask)
    assert weights[6, 6, 6] / np.median(weights[mask]) < 0.1 * plain[6, 6, 6] / np.median(plain[mask])


def test_magnitude_weights_have_a_robust_maximum_of_one(maps):
    _, magnitude, mask = maps
    bright = magnitude.copy()
    bright[6, 6, 6] = 1e5
    option = WeightOptions(kind="magnitude")
    weights = data_weights(magnitude=bright, mask=mask, options=option)
    assert weights.max() == 1
    assert np.median(weights[mask]) == pytest.approx(np.median(magnitude[mask]) / 100, rel=0.05)
    both = data_weights(magnitude=np.stack([bright, bright]), mask=mask, options=option)
    np.testing.assert_allclose(both, weights, rtol=1e-5)


def test_what_a_kind_needs_must_be_given(maps):
    with pytest.raises(ValueError, match="need magnitude"):
        data_weights(mask=maps[2], options=WeightOptions(kind="magnitude"))
    with pytest.raises(ValueError, match="empty"):
        data_weights(noise_hz=maps[0], mask=np.zeros_like(maps[2]))


def test_relative_residual_is_zero_for_a_perfect_model_and_large_for_a_wrong_one():
    shape = (6, 7, 8)
    rng = np.random.default_rng(0)
    field, r2star = rng.uniform(-90, 90, shape), rng.uniform(10, 60, shape)
    t = TIMES.reshape(-1, 1, 1, 1)
    phase = np.angle(np.exp(1j * (2.0 + 2 * np.pi * field * t)))  # any offset: the first echo takes it off
    magnitude = 300 * np.exp(-r2star * t)
    good = relative_residual(phase, magnitude, r2star=r2star, field_hz=field, echo_times_s=TIMES)
    assert good.max() < 1e-6
    # half a turn at the second echo, a whole one at the third
    period = 1 / (TIMES[1] - TIMES[0])
    wrong = relative_residual(phase, magnitude, r2star=r2star, field_hz=field + period / 2, echo_times_s=TIMES)
    np.testing.assert_allclose(wrong, 4 * magnitude[1] ** 2 / (magnitude**2).sum(axis=0), rtol=1e-4)
    magnitude[:, 0, 0, 0], phase[1, 1, 1, 1] = 0, np.nan
    holes = relative_residual(phase, magnitude, r2star=r2star, field_hz=field, echo_times_s=TIMES)
    assert holes[0, 0, 0] == holes[1, 1, 1] == 1
    assert np.isfinite(holes).all()
