"""R2* by further methods: what each is exact for, and the noise floor."""

import numpy as np
import pytest

from qsmprep.relaxometry.arlo import arlo
from qsmprep.relaxometry.loglinear import loglinear
from qsmprep.relaxometry.macroscopic import undo_gradient_loss
from qsmprep.relaxometry.nlls import NllsOptions, nlls, noise_deviation
from qsmprep.relaxometry.numart import numart

TIMES = np.arange(1, 6) * 0.006


def decay(rates, times=TIMES):
    return np.exp(-np.multiply.outer(times, np.asarray(rates, float))).reshape(len(times), -1, 1, 1)


def test_numart_is_low_by_the_trapezoids():
    times = np.arange(1, 6) * 0.005
    assert numart(decay([60], times), echo_times_s=times).r2star.item() == pytest.approx(59.55, abs=0.01)
    assert numart(decay([150]), echo_times_s=TIMES).r2star.item() == pytest.approx(140.6, abs=0.05)


@pytest.mark.parametrize("method", [loglinear, nlls, arlo])
def test_exact_for_a_decay_without_noise(method):
    found = method(decay([20.0, 60.0]), echo_times_s=TIMES)
    assert np.allclose(found.r2star.ravel(), (20, 60), rtol=1e-3)
    assert np.allclose(found.s0.ravel(), 1, rtol=2e-3)
    assert found.misfit.max() < 2e-3


def test_misfit_tells_a_decay_that_is_not_one():
    signal = np.concatenate([decay([40.0]), decay([40.0]) * (1 + 0.3 * np.cos(200 * TIMES))[:, None, None, None]], 1)
    misfit = loglinear(signal, echo_times_s=TIMES).misfit.ravel()
    assert misfit[0] < 1e-3 < 0.03 < misfit[1]


def test_the_noise_floor_does_not_slow_the_fitted_decay():
    random = np.random.default_rng(0)
    signal = np.broadcast_to(decay([120.0]), (5, 4000, 1, 1)).reshape(5, 20, 20, 10)
    noisy = np.hypot(signal + 0.05 * random.standard_normal(signal.shape), 0.05 * random.standard_normal(signal.shape))
    with_floor = np.median(nlls(noisy, echo_times_s=TIMES).r2star)
    without = np.median(nlls(noisy, echo_times_s=TIMES, options=NllsOptions(rician_floor=False)).r2star)
    assert abs(with_floor - 120) < abs(without - 120)
    assert abs(with_floor - 120) < 12


def test_noise_is_found_beneath_anatomy():
    random = np.random.default_rng(3)
    smooth = np.add.outer(np.linspace(0, 50, 40), np.zeros((30, 20)))
    assert noise_deviation(smooth + 2 * random.standard_normal(smooth.shape)) == pytest.approx(2, rel=0.05)


def test_loss_to_a_field_gradient_is_undone():
    shape, slope = (8, 8, 8), 15.0  # Hz from voxel to voxel
    field = np.broadcast_to(slope * np.arange(8.0), shape)
    signal = np.broadcast_to(decay([30.0]), (5, *shape)) * np.sinc(slope * TIMES)[:, None, None, None]
    mask = np.ones(shape, bool)
    whole, weak = undo_gradient_loss(signal, field, mask, echo_times_s=TIMES, kind="slice")
    assert np.allclose(loglinear(whole, echo_times_s=TIMES).r2star, 30, rtol=1e-3)
    assert weak == 0
    assert loglinear(signal, echo_times_s=TIMES).r2star.min() > 32
    assert undo_gradient_loss(signal, field, mask, echo_times_s=TIMES, kind="none")[0] is signal
