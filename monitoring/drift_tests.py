"""Two-sample tests for frames of people.

The rows of one person are alike, and they follow one another in the log. Evidently's own tests take rows as
independent, so a morning with ten people looks like a change of everything. The tests here count a sample for as many
rows as it has independent ones, estimated from its serial correlation: nothing in the log says whose row is whose.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import binom
from scipy.stats import chi2, norm, random_table, rankdata

_LEVELS: Final = 2
_LARGE_COUNT: Final = 25.0  # expected rows of a category from which the chi-square distribution holds far in the tail
_DRAWS: Final = 5  # expected simulated tables beyond the threshold
_NO_ORDER: Final = 0.75  # of the rows are independent: there is no serial correlation
_BATCH: Final = 100_000  # simulated tables in memory


def independent_rows(values: NDArray[Any]) -> float:
    """Number of independent rows that tell as much about a mean as these correlated ones.

    n / tau, with tau = 1 + 2 (rho_1 + rho_2 + ...), summed as far as pairs of neighbouring correlations are positive
    (initial monotone sequence: Geyer, "Practical Markov chain Monte Carlo", Statistical Science 1992). A change of
    level within the sample is no correlation: the mean is taken before and after the likeliest one. The result is a
    cautious one: less the two levels, and less half a standard error.

    Args:
        values: Rows in order of time, (n,) or (n, d); correlations of several columns are averaged by variance.

    Returns:
        A number in [1, n]; n if all rows are equal.
    """
    rows = np.asarray(values, np.float64).reshape(len(values), -1)
    count = len(rows)
    residuals = rows - rows.mean(axis=0)
    if count < 3 or not residuals.any():
        return float(count)
    sums, before = np.cumsum(residuals, axis=0)[:-1], np.arange(1, count)
    split = int(np.argmax((sums**2).sum(axis=1) / (before * (count - before)))) + 1
    residuals[:split] -= residuals[:split].mean(axis=0)
    residuals[split:] -= residuals[split:].mean(axis=0)
    size = next_fast_len(2 * count, real=True)
    covariances = irfft((np.abs(rfft(residuals, size, axis=0)) ** 2).sum(axis=1), size)[:count]
    if covariances[0] <= 1e-9 * (rows**2).sum():  # two levels and nothing else
        return float(count)
    pairs = covariances[: count // 2 * 2].reshape(-1, 2).sum(axis=1) / covariances[0]
    negative = np.flatnonzero(pairs <= 0)
    pairs = np.minimum.accumulate(pairs[: negative[0]] if len(negative) else pairs)
    independent = count / max(1.0, 2 * pairs.sum() - 1)
    return max(1.0, independent - _LEVELS - math.sqrt(independent / 2))


def mann_whitney(reference: NDArray[Any], current: NDArray[Any]) -> float:
    """p-value of the Mann-Whitney test of samples in order of time: the test of Cliff's delta. Ties share their rank.

    Args:
        reference: Reference values, (m,).
        current: Live values, (n,).
    """
    ranks = rankdata(np.concatenate([reference, current]))
    before, after = ranks[: len(reference)], ranks[len(reference) :]
    difference = abs(float(after.mean() - before.mean()))
    if difference == 0:
        return 1.0
    m, n = _independent(before, after)
    normal = 2 * float(norm.sf(difference / (ranks.std() * math.sqrt(1 / m + 1 / n))))
    return min(1.0, max(normal, 2 / float(binom(m + n, n))))  # of all arrangements, two separate the samples


def contingency(reference: pd.Series, current: pd.Series, threshold: float) -> float:
    """p-value of the chi-square test of whether two samples of categories in order of time share a distribution.

    If a category is rare, the statistic's distribution is simulated: tables with the same margins (Patefield,
    Algorithm AS 159, Applied Statistics 1981).

    Args:
        reference: Reference values.
        current: Live values.
        threshold: p-value that must be resolved.
    """
    codes, kinds = pd.factorize(pd.concat([reference, current], ignore_index=True))
    table = np.eye(len(kinds))[codes]
    before, after = table[: len(reference)], table[len(reference) :]
    m, n = _independent(before, after)
    shares = np.stack([before.mean(axis=0), after.mean(axis=0)])
    rare = np.array([m, n]) @ shares < 1  # nothing can be said about these but together
    shares = np.column_stack([shares[:, ~rare], shares[:, rare].sum(axis=1)]) if rare.any() else shares
    pooled = np.array([m, n]) @ shares / (m + n)
    statistic = m * n / (m + n) * float(((shares[0] - shares[1]) ** 2 / pooled).sum())
    if statistic == 0:
        return 1.0
    if min(m, n) * pooled.min() >= _LARGE_COUNT:
        return float(chi2.sf(statistic, len(pooled) - 1))
    return _simulate(statistic, round(m), round(n), pooled, math.ceil(_DRAWS / threshold))


def _simulate(statistic: float, m: int, n: int, shares: NDArray[np.float64], tables: int) -> float:
    """Share of random tables with rows of `m` and `n` whose chi-square statistic is as large as the given one."""
    columns = np.floor(shares * (m + n)).astype(np.int64)
    columns[np.argsort(columns - shares * (m + n))[: m + n - columns.sum()]] += 1
    columns = columns[columns > 0]
    margins = random_table([m, n], columns)
    expected = np.outer([m, n], columns) / (m + n)
    random, larger = np.random.default_rng(0), 0
    for start in range(0, tables, _BATCH):
        drawn = margins.rvs(min(_BATCH, tables - start), random_state=random)
        larger += int((((drawn - expected) ** 2 / expected).sum(axis=(1, 2)) >= statistic * (1 - 1e-9)).sum())
    return (larger + 1) / (tables + 1)


def _independent(reference: NDArray[Any], current: NDArray[Any]) -> tuple[float, float]:
    """Numbers of independent rows of two samples, (m,) or (m, d) and (n,) or (n, d).

    A rebased reference keeps no order. Its rows are taken to be as alike as the live ones.
    """
    m, n = independent_rows(reference), independent_rows(current)
    if m >= _NO_ORDER * len(reference):
        m = max(1.0, min(m, len(reference) * n / len(current)))
    return m, n
