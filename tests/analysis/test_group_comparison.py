"""What is told of a scanner that differs and of one that drifts, and that chance is not told."""

import numpy as np
import pytest

from qsmprep.analysis.group_comparison import difference_of, drift_of


def test_a_scanner_that_is_off_by_two_standard_deviations_is_told_with_its_sign():
    rng = np.random.default_rng(0)
    others = rng.normal(10, 1, 80)
    assert difference_of(rng.normal(12, 1, 30), others) == pytest.approx(2, abs=0.5)
    assert difference_of(rng.normal(8, 1, 30), others) == pytest.approx(-2, abs=0.5)


def test_what_is_chance_or_too_small_to_matter_is_not_told():
    rng = np.random.default_rng(1)
    told = [difference_of(rng.normal(0, 1, 6), rng.normal(0, 1, 50)) for _ in range(500)]
    assert np.mean(np.array(told) != 0) < 0.02
    # Half a standard deviation over a thousand runs is no chance, and does not matter.
    assert difference_of(rng.normal(0.5, 1, 1000), rng.normal(0, 1, 1000)) == 0


def test_few_runs_are_not_judged_and_equal_ones_do_not_differ():
    assert difference_of(np.full(4, 9.0), np.arange(20.0)) == 0
    assert difference_of(np.full(4, 9.0).tolist() + [np.nan] * 9, np.arange(20.0)) == 0
    assert difference_of(np.zeros(6), np.zeros(6)) == 0
    assert difference_of(np.ones(6), np.zeros(6)) == np.inf


def test_a_drift_is_told_with_its_sign_and_chance_is_not():
    rng = np.random.default_rng(2)
    times = rng.uniform(0, 900, 60)
    assert drift_of(times, times / 300 + rng.normal(0, 0.5, 60)) > 0.6
    assert drift_of(times, -times / 300 + rng.normal(0, 0.5, 60)) < -0.6
    told = [drift_of(times, rng.normal(0, 1, 60)) for _ in range(500)]
    assert np.mean(np.array(told) != 0) < 0.02
    assert drift_of(times, np.ones(60)) == 0 and drift_of(times[:9], times[:9]) == 0
    assert drift_of(np.full(60, np.nan), times) == 0
