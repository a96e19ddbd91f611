"""Two-sample tests for frames of people.

The rows of one person are alike. Evidently's own tests take rows as independent, so a morning with ten people looks
like a change of everything. The tests here count a sample for as many rows as it has independent ones: n divided by the
design effect (Kish, "Survey Sampling", 1965), which is estimated from the data.

- Rows of sessions are clusters. How alike they are shows in how much less they differ within sessions than between.
- Other rows say nothing of whose they are. People follow one another in the log, so serial correlation shows it.

The tests take series in order of time. A series' index says whose its rows are: an index named `SESSION` has the id of
each row's session, or none.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import binom
from scipy.stats import chi2, f, norm, random_table, rankdata

SESSION: Final = "session"
"""Name of an index of sessions' ids. A row without a session has a missing one."""

SHUFFLED: Final = "shuffled"
"""Name of the index of rows that were drawn from distributions, which have no order. Its values are numbers of
sessions, all of the window's mean size, or missing if that is not known."""

_LEVELS: Final = 2
_LARGE_COUNT: Final = 25.0  # expected rows of a category from which the chi-square distribution holds far in the tail
_DRAWS: Final = 5  # expected simulated tables beyond the threshold
_BATCH: Final = 100_000  # simulated tables in memory
_ALIKE: Final = 0.1  # probability that rows of a session are more alike than they are taken to be


def session_codes(rows: pd.Series | pd.DataFrame) -> NDArray[np.intp] | None:
    """Numbers of the rows' sessions from 0 without gaps, (n,), -1 for none; None if no row has a session."""
    if rows.index.name not in (SESSION, SHUFFLED):
        return None
    codes = pd.factorize(rows.index)[0]
    return codes if (codes >= 0).any() else None


def people(codes: NDArray[np.intp] | None, rows: int) -> float:
    """Number of people whose equally many rows would weigh as these do: n^2 / sum of n_k^2 (Kish, 1965).

    A session counts as a person, and so does a row without a session.

    Args:
        codes: Result of `session_codes`.
        rows: Number of rows.
    """
    if codes is None or not rows:
        return float(rows)
    sizes = np.bincount(codes[codes >= 0]).astype(np.float64)
    return rows**2 / (float((sizes**2).sum()) + float((codes < 0).sum()))


def independent_rows(values: NDArray[Any], codes: NDArray[np.intp] | None = None) -> float:
    """Number of independent rows that tell as much about a mean as these correlated ones.

    Rows of sessions and other rows are counted apart; the variance of the mean of all follows from those of both.

    Args:
        values: Rows in order of time, (n,) or (n, d); correlations of several columns are averaged by variance.
        codes: Number of each row's session, (n,), -1 for none; None if no session is known.

    Returns:
        A number in [1, n].
    """
    rows = np.asarray(values, np.float64).reshape(len(values), -1)
    if codes is None:
        return _of_sequence(rows)
    inside = codes >= 0
    known, others = rows[inside], rows[~inside]
    variance = 0.0
    if len(known):
        variance += len(known) ** 2 / _of_sessions(known, pd.factorize(codes[inside])[0])
    if len(others):
        variance += len(others) ** 2 / _of_sequence(others)
    return len(rows) ** 2 / variance


def _of_sequence(rows: NDArray[np.float64]) -> float:
    """Number of independent rows among rows, (n, d), of which nothing says whose they are; n if all are equal.

    The result is a cautious one: less the two levels of `_correlation_time`, and less half a standard error.
    """
    count = len(rows)
    time = _correlation_time(rows)
    if time is None:
        return float(count)
    independent = count / time
    return max(1.0, independent - _LEVELS - math.sqrt(independent / 2))


def _correlation_time(rows: NDArray[np.float64]) -> float | None:
    """Number of rows in a sequence, (n, d), that together tell as much as an independent one; None without spread.

    1 + 2 (rho_1 + rho_2 + ...), summed as far as pairs of neighbouring correlations are positive (initial monotone
    sequence: Geyer, "Practical Markov chain Monte Carlo", Statistical Science 1992). A change of level within the
    sample is no correlation.
    """
    count = len(rows)
    residuals = _without_step(rows)
    if count < 3 or not residuals.any():
        return None
    size = next_fast_len(2 * count, real=True)
    covariances = irfft((np.abs(rfft(residuals, size, axis=0)) ** 2).sum(axis=1), size)[:count]
    if covariances[0] <= 1e-9 * (rows**2).sum():  # two levels and nothing else
        return None
    pairs = covariances[: count // 2 * 2].reshape(-1, 2).sum(axis=1) / covariances[0]
    negative = np.flatnonzero(pairs <= 0)
    pairs = np.minimum.accumulate(pairs[: negative[0]] if len(negative) else pairs)
    return max(1.0, 2 * float(pairs.sum()) - 1)


def _without_step(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of a sequence, (n, d), less their mean, taken before and after the likeliest change of level."""
    count = len(rows)
    residuals: NDArray[np.float64] = rows - rows.mean(axis=0)
    if count < 3:
        return residuals
    sums, before = np.cumsum(residuals, axis=0)[:-1], np.arange(1, count)
    split = int(np.argmax((sums**2).sum(axis=1) / (before * (count - before)))) + 1
    residuals[:split] -= residuals[:split].mean(axis=0)
    residuals[split:] -= residuals[split:].mean(axis=0)
    return residuals


def _of_sessions(rows: NDArray[np.float64], codes: NDArray[np.intp]) -> float:
    """Number of independent rows among rows of sessions, (n, d), given the number of each row's session, (n,).

    n / (1 + (n_r - 1) rho), with the size n_r of the session in which a row is on average, and the intraclass
    correlation rho. One person may have several sessions in a row, so that their means count as far as they do not go
    on like one another.
    """
    sizes = np.bincount(codes).astype(np.float64)
    sums = np.stack([np.bincount(codes, column) for column in rows.T], axis=1)
    alike = intraclass_correlation(rows, codes)
    effect = 1 + (people(None, len(rows)) / people(codes, len(rows)) - 1) * alike
    time = _correlation_time(sums / sizes[:, None]) or 1.0
    return max(1.0, len(rows) / effect / time)


def intraclass_correlation(rows: NDArray[np.float64], codes: NDArray[np.intp]) -> float:
    """How alike rows of a session are, in [0, 1]: the upper end of a one-sided interval by analysis of variance.

    Searle, "Linear Models", 1971, with the mean size of sessions of unequal size. Several columns are averaged by
    variance. A change of level within the sample is none between sessions. Rows without any spread, and those of one
    session, are taken to be entirely alike.

    Args:
        rows: Rows in order of time, (n, d).
        codes: Number of each row's session, from 0 without gaps, (n,).
    """
    sizes = np.bincount(codes).astype(np.float64)
    count, sessions = len(rows), len(sizes)
    if sessions == count:
        return 0.0
    residuals = _without_step(rows)
    total = float((residuals**2).sum())
    sums = np.stack([np.bincount(codes, column) for column in residuals.T], axis=1)
    between = float((sums**2 / sizes[:, None]).sum())
    if sessions == 1 or total - between <= 1e-9 * total:
        return 1.0
    size = (count - (sizes**2).sum() / count) / (sessions - 1)
    ratio = between / (sessions - 1) / ((total - between) / (count - sessions))
    ratio /= float(f.ppf(_ALIKE, sessions - 1, count - sessions))
    return min(1.0, max(0.0, (ratio - 1) / (ratio + size - 1)))


def mann_whitney(reference: pd.Series, current: pd.Series) -> float:
    """p-value of the Mann-Whitney test of samples in order of time: the test of Cliff's delta. Ties share their rank.

    Args:
        reference: Reference values, (m,).
        current: Live values, (n,).
    """
    before, after = _ranks(reference, current)
    difference = abs(float(after.mean() - before.mean()))
    if difference == 0:
        return 1.0
    m, n = _independent(before, after, reference, current)
    spread = float(np.concatenate([before, after]).std())
    normal = 2 * float(norm.sf(difference / (spread * math.sqrt(1 / m + 1 / n))))
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
    before, after = _indicators(reference, current)
    m, n = _independent(before, after, reference, current)
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


def counted(reference: pd.Series, current: pd.Series, *, categories: bool) -> float:
    """Number of independent rows for which the tests count the live values.

    Args:
        reference: Reference values.
        current: Live values.
        categories: Whether the test is `contingency`; otherwise it is `mann_whitney`.
    """
    rows = _indicators(reference, current) if categories else _ranks(reference, current)
    return independent_rows(rows[1], session_codes(current))


def _ranks(reference: pd.Series, current: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ranks of the values among those of both samples, (m,) and (n,)."""
    ranks = rankdata(np.concatenate([reference.to_numpy(), current.to_numpy()]))
    return ranks[: len(reference)], ranks[len(reference) :]


def _indicators(reference: pd.Series, current: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The categories of both samples as zeros and ones, (m, kinds) and (n, kinds)."""
    codes, kinds = pd.factorize(pd.concat([reference, current], ignore_index=True))
    table = np.eye(len(kinds))[codes]
    return table[: len(reference)], table[len(reference) :]


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


def _independent(
    before: NDArray[np.float64], after: NDArray[np.float64], reference: pd.Series, current: pd.Series
) -> tuple[float, float]:
    """Numbers of independent rows of two samples.

    A rebased reference keeps no order, and of its sessions only the mean size. Its rows are taken to be as alike as the
    live ones.

    Args:
        before: Reference rows, (m,) or (m, d).
        after: Live rows, (n,) or (n, d).
        reference: The series of these rows, with its index.
        current: The live series.
    """
    live = session_codes(current)
    n = independent_rows(after, live)
    known = session_codes(reference)
    if reference.index.name != SHUFFLED:
        return independent_rows(before, known), n
    if known is None:
        return max(1.0, min(_of_sequence(before.reshape(len(before), -1)), len(before) * n / len(after))), n
    alike = 1.0
    if live is not None:
        inside = live >= 0
        alike = intraclass_correlation(after.reshape(len(after), -1)[inside], pd.factorize(live[inside])[0])
    size = len(before) / people(known, len(before))
    return max(1.0, len(before) / (1 + (size - 1) * alike)), n
