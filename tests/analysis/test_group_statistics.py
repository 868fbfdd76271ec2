"""Statistics of the group level: against published numbers, against scipy, and on values whose answer is known."""

import numpy as np
import pytest

from qsmprep.analysis.group_statistics import (
    OUTLIER_Z,
    agreement_of_groups,
    agreement_of_table,
    linear_trend,
    robust_z,
)

# Shrout and Fleiss 1979, table 2: four judges of six targets.
JUDGES = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])


def test_icc_of_the_published_table():
    found = agreement_of_table(JUDGES)
    # Table 4 of the paper; intervals as R's psych::ICC prints them for this table.
    for icc, value, low, high in (
        (found.icc_1, 0.17, -0.133, 0.72),
        (found.icc_2, 0.29, 0.019, 0.76),
        (found.icc_3, 0.71, 0.342, 0.95),
    ):
        assert icc.value == pytest.approx(value, abs=0.005)
        assert icc.low == pytest.approx(low, abs=0.005)
        assert icc.high == pytest.approx(high, abs=0.005)
    # Within mean square 6.26 of their analysis of variance.
    assert found.within_sd.value**2 == pytest.approx(6.26, abs=0.01)
    assert found.repeatability == pytest.approx(2.77 * found.within_sd.value, rel=2e-3)


@pytest.mark.parametrize("bias", [0.0, 0.8], ids=["alike", "one scanner higher"])
@pytest.mark.parametrize("shape", [(6, 2), (9, 3), (25, 4)])
def test_iccs_are_pingouins(bias, shape):
    """Values and 95 % intervals of all three, where subjects differ much, and where they hardly differ at all."""
    pingouin = pytest.importorskip("pingouin", reason="needs qsmprep[test]")
    pandas = pytest.importorskip("pandas", reason="needs qsmprep[test]")
    rng = np.random.default_rng(sum(shape))
    for between in (2.0, 0.1):
        table = between * rng.normal(size=(shape[0], 1)) + rng.normal(size=shape) + bias * np.arange(shape[1])
        lines = pandas.DataFrame(
            [(i, j, value) for (i, j), value in np.ndenumerate(table)], columns=["subject", "scanner", "value"]
        )
        theirs = pingouin.intraclass_corr(lines, "subject", "scanner", "value").set_index("Type")
        found = agreement_of_table(table)
        for icc, name in ((found.icc_1, "ICC(1,1)"), (found.icc_2, "ICC(A,1)"), (found.icc_3, "ICC(C,1)")):
            assert icc.value == pytest.approx(theirs.loc[name, "ICC"], abs=1e-9)
            assert (icc.low, icc.high) == pytest.approx(tuple(theirs.loc[name, "CI95"]), abs=0.0051)  # two decimals


def test_groups_of_equal_size_agree_with_the_table():
    by_groups, by_table = agreement_of_groups(JUDGES), agreement_of_table(JUDGES)
    assert by_groups.icc_1 == pytest.approx(by_table.icc_1)
    assert by_groups.within_sd == pytest.approx(by_table.within_sd)
    assert by_groups.icc_2 is None and by_groups.icc_3 is None


def test_unbalanced_groups_recover_the_variances():
    rng = np.random.default_rng(1)
    groups = [rng.normal(person, 0.5, rng.integers(1, 5)) for person in rng.normal(0, 1.0, 600)]
    found = agreement_of_groups(groups)
    assert found.icc_1.value == pytest.approx(1 / 1.25, abs=0.03)
    assert found.icc_1.low < found.icc_1.value < found.icc_1.high
    assert found.within_sd.value == pytest.approx(0.5, abs=0.03)
    assert found.subjects == sum(group.size > 1 for group in groups)


def test_an_offset_between_scanners_lowers_agreement_but_not_consistency():
    rng = np.random.default_rng(2)
    person = rng.normal(0, 1, (40, 1))
    table = person + np.array([[0.0, 2.0]]) + rng.normal(0, 0.1, (40, 2))
    found = agreement_of_table(table)
    assert found.icc_3.value > 0.97 and found.icc_2.value < 0.5


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(3)
    covered = np.zeros(3)
    for _ in range(300):
        found = agreement_of_table(rng.normal(0, 1, (15, 1)) + rng.normal(0, 0.5, (15, 3)))
        covered += [icc.low <= 0.8 <= icc.high for icc in (found.icc_1, found.icc_2, found.icc_3)]
    assert (covered / 300 > 0.91).all()


def test_agreement_needs_two_subjects_and_any_variation():
    assert agreement_of_table(np.array([[1.0, 2.0], [np.nan, 2.0]])) is None
    assert agreement_of_table(np.ones((4, 2))) is None
    assert agreement_of_groups([np.array([1.0, 2.0]), np.array([3.0])]) is None
    perfect = agreement_of_table(np.array([[1.0, 1.0], [2.0, 2.0], [5.0, 5.0]]))
    assert perfect.icc_1.value == perfect.icc_2.value == perfect.icc_3.value == 1
    assert perfect.within_sd.value == 0


def test_a_far_value_does_not_hide_itself():
    z = robust_z(np.array([10.0, 10.1, 9.9, 10.05, 9.95, 10.02, 1000.0]))
    assert z[-1] > OUTLIER_Z and (np.abs(z[:-1]) < OUTLIER_Z).all()


def test_robust_z_of_normal_values_is_the_usual_z():
    values = np.random.default_rng(4).normal(3, 2, 20000)
    assert robust_z(values) == pytest.approx((values - 3) / 2, abs=0.1)


@pytest.mark.parametrize(
    ("values", "last"),
    [
        ([2.0] * 9, 0.0),  # no spread at all: nothing stands out
        ([0.0] * 9 + [3.0], 10 / 1.2533),  # the median absolute deviation is 0, the mean one is 0.3
        ([0.1 + 0.2, 0.3, 0.3, 0.3, 0.3, 0.3], 0.0),  # differs by rounding alone
    ],
)
def test_values_of_which_most_are_equal(values, last):
    assert robust_z(np.array(values))[-1] == pytest.approx(last)
    assert np.abs(robust_z(np.array(values))[:-1]).max() < OUTLIER_Z


def test_missing_values_and_too_few():
    assert np.isnan(robust_z(np.array([1.0, 2.0, 3.0, 99.0]))).all()
    z = robust_z(np.array([1.0, 2.0, np.nan, 3.0, 4.0, 5.0]))
    assert np.isnan(z[2]) and np.isfinite(np.delete(z, 2)).all()


def test_slope_and_interval_agree_with_scipy():
    from scipy.stats import linregress, t

    rng = np.random.default_rng(5)
    age = rng.uniform(20, 80, 30)
    chi = 0.05 + 0.001 * age + rng.normal(0, 0.01, 30)
    found, known = linear_trend(age, chi), linregress(age, chi)
    half = t.ppf(0.975, 28) * known.stderr
    assert (found.slope.value, found.slope.low, found.slope.high) == pytest.approx(
        (known.slope, known.slope - half, known.slope + half)
    )
    assert found.n == 30


def test_sites_with_older_subjects_and_an_offset_do_not_make_a_slope():
    rng = np.random.default_rng(6)
    site = np.repeat(["north", "south"], 50)
    age = np.where(site == "north", 30, 60) + rng.uniform(-5, 5, 100)
    chi = np.where(site == "north", 0.0, 0.05) + 0.0005 * age + rng.normal(0, 0.001, 100)
    assert linear_trend(age, chi).slope.value > 0.0015
    within = linear_trend(age, chi, strata=site)
    assert within.slope.low < 0.0005 < within.slope.high and within.strata == 2


def test_slopes_that_cannot_be_told():
    assert linear_trend(np.array([1.0, 2.0]), np.array([1.0, 2.0])) is None
    assert linear_trend(np.array([5.0, 5.0, 5.0, 5.0]), np.arange(4.0)) is None
    assert linear_trend(np.arange(4.0), np.arange(4.0), strata=list("abcd")) is None
    assert linear_trend(np.array([np.nan, 1.0, 2.0, 3.0]), np.arange(4.0)).n == 3
