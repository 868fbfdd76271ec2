"""Whether the runs of one scanner differ from the others, and whether they drift over the time."""

from __future__ import annotations

import numpy as np

from qsmprep.analysis.group_statistics import FEWEST, MAD_TO_SD, MEAN_AD_TO_SD

MOST_ERRORS = 3.0  # standard errors by which medians, or a rank correlation, differ by more than chance
LEAST_SPREADS = 1.0  # robust standard deviations of single runs by which medians differ enough to matter
FEWEST_OF_DRIFT = 10  # runs from which a drift is told
_MEDIAN_ERROR = 1.2533  # standard error of a median of n normal values: 1.2533 s.d. / sqrt(n)


def difference_of(own: np.ndarray, others: np.ndarray) -> float:
    """By how many robust standard deviations of single runs a group's median differs from that of the others.

    Parameters
    ----------
    own, others : values of the runs of the group and of all others; NaN is missing.

    Returns
    -------
    The difference where it is more than one standard deviation and more than three standard errors of the medians, so
    that it matters and is not chance; else 0, as with fewer than 5 values in either. The standard deviation is 1.4826
    times the median absolute deviation of the values from the median of their group, or, where that is 0, 1.2533 times
    the mean absolute deviation; infinite where all values of both groups are equal but the medians are not.

    >>> difference_of(np.array([5.0, 6, 7, 6, 5, 7]), np.array([1.0, 2, 3, 2, 1, 3, 2])).__round__(1)
    2.7
    >>> difference_of(np.array([1.0, 2, 3, 2, 1, 3]), np.array([1.0, 2, 3, 2, 1, 3, 2]))
    0.0
    """
    groups = [values[np.isfinite(values)] for values in (np.asarray(own, float), np.asarray(others, float))]
    if min(group.size for group in groups) < FEWEST:
        return 0.0
    medians = [float(np.median(group)) for group in groups]
    away = np.concatenate([np.abs(group - median) for group, median in zip(groups, medians, strict=True)])
    spread = MAD_TO_SD * float(np.median(away)) or MEAN_AD_TO_SD * float(np.mean(away))
    difference = medians[0] - medians[1]
    if spread <= 1e-9 * max(map(abs, medians)):  # equal but for their rounding
        return float(np.copysign(np.inf, difference)) if abs(difference) > 1e-6 * max(map(abs, medians)) else 0.0
    error = _MEDIAN_ERROR * spread * np.sqrt(sum(1 / group.size for group in groups))
    told = abs(difference) > LEAST_SPREADS * spread and abs(difference) > MOST_ERRORS * error
    return difference / spread if told else 0.0


def drift_of(times: np.ndarray, values: np.ndarray) -> float:
    """Rank correlation of values with time, where it is more than chance.

    Parameters
    ----------
    times, values : (n,); NaN is missing.

    Returns
    -------
    Spearman's rho where rho sqrt(n - 1), normal without a drift, is over 3 in size, of 10 values or more; else 0.

    References
    ----------
    Kendall and Gibbons, Rank Correlation Methods, 1990, section 4.

    >>> drift_of(np.arange(12.0), np.arange(12.0) ** 2)
    1.0
    """
    times, values = np.asarray(times, float), np.asarray(values, float)
    there = np.isfinite(times) & np.isfinite(values)
    if there.sum() < FEWEST_OF_DRIFT:
        return 0.0
    ranks = [_ranks(numbers[there]) for numbers in (times, values)]
    if min(np.ptp(rank) for rank in ranks) == 0:
        return 0.0
    rho = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    return round(rho, 6) if abs(rho) * np.sqrt(there.sum() - 1) > MOST_ERRORS else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    first = np.cumsum(counts) - counts
    return (first + (counts - 1) / 2)[place]
