"""Statistics over the runs of a study: outliers, means and slopes over subjects, agreement of repeated measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

OUTLIER_Z = 3.5  # Iglewicz and Hoaglin 1993
MAD_TO_SD = 1.4826  # of a normal distribution: s.d. = 1.4826 * median absolute deviation
MEAN_AD_TO_SD = 1.2533  # and = 1.2533 * mean absolute deviation
FEWEST = 5  # values from which an outlier can be told
REPEATABILITY = 1.96 * np.sqrt(2)  # times the within-subject s.d.: 95 % of differences of two measurements are smaller


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % confidence interval; NaN where there is none."""

    value: float
    low: float = np.nan
    high: float = np.nan


@dataclass(frozen=True)
class Trend:
    """A regression line over subjects: slope with its interval, subjects, and strata with intercepts of their own."""

    slope: Interval
    n: int
    strata: int = 1


@dataclass(frozen=True)
class Agreement:
    """How well repeated measurements of subjects agree.

    Attributes
    ----------
    subjects, measurements : how many; of all subjects together.
    icc_1 : ICC(1,1), one-way random effects.
    icc_2, icc_3 : ICC(2,1) (two-way random, absolute agreement) and ICC(3,1) (two-way mixed, consistency); None where
        not every subject has every measurement.
    within_sd : within-subject standard deviation, differences between the measurements' means included.
    repeatability : 1.96 sqrt(2) within_sd.
    """

    subjects: int
    measurements: int
    icc_1: Interval
    icc_2: Interval | None
    icc_3: Interval | None
    within_sd: Interval
    repeatability: float


def robust_z(values: np.ndarray) -> np.ndarray:
    """Distance of each value from the median in robust standard deviations.

    The standard deviation is 1.4826 times the median absolute deviation. Where more than half of the values are equal
    that is 0, and 1.2533 times the mean absolute deviation takes its place; where all are equal, every z is 0.

    Parameters
    ----------
    values : (n,); NaN is missing.

    Returns
    -------
    (n,) float; NaN where the value is missing, and all NaN with fewer than 5 values: too few to tell an outlier.

    References
    ----------
    Iglewicz and Hoaglin, How to detect and handle outliers, 1993.

    >>> robust_z(np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 5.0])).round(1).tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.6]
    """
    values = np.asarray(values, float)
    z = np.full(values.shape, np.nan)
    there = np.isfinite(values)
    if there.sum() < FEWEST:
        return z
    away = values[there] - np.median(values[there])
    # Values that are equal but for their rounding must not become outliers.
    rounding = 1e-9 * max(float(np.abs(values[there]).max()), np.finfo(float).tiny)
    spread = MAD_TO_SD * float(np.median(np.abs(away)))
    if spread <= rounding:
        spread = MEAN_AD_TO_SD * float(np.mean(np.abs(away)))
    z[there] = away / spread if spread > rounding else 0.0
    return z


def linear_trend(x: np.ndarray, y: np.ndarray, *, strata: Sequence[str] | None = None) -> Trend | None:
    """Least squares slope of y on x over independent subjects, with its 95 % confidence interval.

    Parameters
    ----------
    x, y : (n,), one value a subject; subjects with NaN in either are left out.
    strata : (n,) names of groups (sites) that get an intercept each, so that only differences within them count.

    Returns
    -------
    None where the slope cannot be told: fewer than 3 subjects, no degree of freedom, or no variation of x in a stratum.
    """
    from scipy.stats import t

    x, y = np.asarray(x, float), np.asarray(y, float)
    groups = np.zeros(x.size, int) if strata is None else np.unique(np.asarray(strata, str), return_inverse=True)[1]
    there = np.isfinite(x) & np.isfinite(y)
    x, y, groups = x[there], y[there], groups[there]
    present = np.unique(groups)
    freedom = x.size - present.size - 1
    if x.size < 3 or freedom < 1:
        return None
    x, y = x.copy(), y.copy()
    for group in present:
        inside = groups == group
        x[inside] -= x[inside].mean()
        y[inside] -= y[inside].mean()
    power = float(x @ x)
    if power <= 1e-12 * x.size:
        return None
    slope = float(x @ y) / power
    error = np.sqrt(float(((y - slope * x) ** 2).sum()) / freedom / power)
    half = float(t.ppf(0.975, freedom)) * error
    return Trend(Interval(slope, slope - half, slope + half), int(x.size), int(present.size))


def agreement_of_table(table: np.ndarray) -> Agreement | None:
    """ICC(1,1), ICC(2,1) and ICC(3,1) of a complete table, by analysis of variance.

    Parameters
    ----------
    table : (subjects, measurements), at least 2 by 2; subjects with NaN are left out.

    Returns
    -------
    None where fewer than 2 complete subjects are left, or all values are equal.

    References
    ----------
    Shrout and Fleiss, Psychol Bull 86:420, 1979; interval of ICC(2,1): McGraw and Wong, Psychol Methods 1:30, 1996.

    >>> judges = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    >>> found = agreement_of_table(np.array(judges))
    >>> [round(icc.value, 2) for icc in (found.icc_1, found.icc_2, found.icc_3)]
    [0.17, 0.29, 0.71]
    """
    table = np.asarray(table, float)
    table = table[np.isfinite(table).all(axis=1)]
    n, k = table.shape
    if n < 2 or k < 2 or not np.ptp(table) > 0:
        return None
    by_subject, by_column = table.mean(axis=1), table.mean(axis=0)
    between = k * float(((by_subject - table.mean()) ** 2).sum()) / (n - 1)
    columns = n * float(((by_column - table.mean()) ** 2).sum()) / (k - 1)
    within = float(((table - by_subject[:, None]) ** 2).sum())
    rest = max(within - (k - 1) * columns, 0.0) / ((n - 1) * (k - 1))
    within /= n * (k - 1)
    return Agreement(
        n,
        n * k,
        _icc_from_ratio(between, within, k, n - 1, n * (k - 1)),
        _icc_2(between, columns, rest, n, k),
        _icc_from_ratio(between, rest, k, n - 1, (n - 1) * (k - 1)),
        _within_sd(within, n * (k - 1)),
        float(REPEATABILITY * np.sqrt(within)),
    )


def agreement_of_groups(groups: Sequence[np.ndarray]) -> Agreement | None:
    """ICC(1,1) of subjects with differing numbers of measurements, by one-way analysis of variance.

    The number of measurements a subject is replaced by k0 = (N - sum k_i^2 / N) / (n - 1); the interval, exact where
    all numbers are equal, is then an approximation.

    Parameters
    ----------
    groups : the values of each subject; NaN and subjects with fewer than 2 values are left out.

    Returns
    -------
    None where fewer than 2 subjects are left, or all values are equal.

    References
    ----------
    Shrout and Fleiss, Psychol Bull 86:420, 1979; k0: Donner, Int Stat Rev 54:67, 1986.
    """
    kept = [np.asarray(group, float)[np.isfinite(group)] for group in groups]
    kept = [group for group in kept if group.size >= 2]
    if len(kept) < 2 or not np.ptp(np.concatenate(kept)) > 0:
        return None
    sizes = np.array([group.size for group in kept])
    n, total = len(kept), int(sizes.sum())
    mean = np.concatenate(kept).mean()
    between = sum(group.size * float((group.mean() - mean) ** 2) for group in kept) / (n - 1)
    within = sum(float(((group - group.mean()) ** 2).sum()) for group in kept) / (total - n)
    k0 = (total - float((sizes**2).sum()) / total) / (n - 1)
    return Agreement(
        n,
        total,
        _icc_from_ratio(between, within, k0, n - 1, total - n),
        None,
        None,
        _within_sd(within, total - n),
        float(REPEATABILITY * np.sqrt(within)),
    )


def _icc_from_ratio(between: float, error: float, k: float, df_between: int, df_error: int) -> Interval:
    """(BMS - EMS) / (BMS + (k - 1) EMS) and its interval from that of the ratio F = BMS / EMS."""
    from scipy.stats import f

    if error <= 0:
        return Interval(1.0, 1.0, 1.0)
    ratio = between / error
    ends = (ratio / f.ppf(0.975, df_between, df_error), ratio * f.ppf(0.975, df_error, df_between))
    low, high = (float((end - 1) / (end + k - 1)) for end in ends)
    return Interval(float((ratio - 1) / (ratio + k - 1)), low, high)


def _icc_2(between: float, columns: float, error: float, n: int, k: int) -> Interval:
    from scipy.stats import f

    below = between + (k - 1) * error + k * (columns - error) / n
    value = (between - error) / below
    if value >= 1 or below <= 0 or columns + error <= 0:
        return Interval(float(value))
    a = k * value / (n * (1 - value))
    b = 1 + k * value * (n - 1) / (n * (1 - value))
    parts = (a * columns) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1))
    freedom = (a * columns + b * error) ** 2 / parts if parts > 0 else np.nan
    if not np.isfinite(freedom) or freedom <= 0:
        return Interval(float(value))
    others = k * columns + (k * n - k - n) * error
    upper, lower = f.ppf(0.975, n - 1, freedom), f.ppf(0.975, freedom, n - 1)
    low = n * (between - upper * error) / (upper * others + n * between)
    high = n * (lower * between - error) / (others + n * lower * between)
    return Interval(float(value), float(low), float(high))


def _within_sd(variance: float, freedom: int) -> Interval:
    from scipy.stats import chi2

    ends = (np.sqrt(variance * freedom / chi2.ppf(q, freedom)) for q in (0.975, 0.025))
    return Interval(float(np.sqrt(variance)), *(float(end) for end in ends))
