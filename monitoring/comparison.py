"""Drift tests: live rows against the reference, column by column, with Evidently.

Below `large_window` rows statistical tests decide: Kolmogorov-Smirnov for numbers, the chi-square test of a contingency
table for categories. Each column gets an equal share of the false-alarm rate (Bonferroni). From `large_window` rows on
tests would report any trifle, and distances decide: Wasserstein for numbers, Jensen-Shannon for categories.

Besides, a column counts as drifted only if its shift is large enough to matter: the rows of a window are rarely
independent, and one person's rows do not represent everybody's. The share of frames without a face must grow by a
margin; a smaller share is no drift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.core.report import Snapshot
from evidently.legacy.calculations.stattests import StatTest, register_stattest
from evidently.legacy.calculations.stattests.registry import get_registered_stattest
from evidently.legacy.core import ColumnType
from evidently.metrics import RowCount, ValueDrift
from evidently.presets import DataSummaryPreset
from scipy.stats import chi2_contingency, rankdata

from monitoring.log import NUMBERS
from monitoring.params import MonitoringParams
from service.observation import PROBABILITIES

NUMERICAL: Final = tuple(name for name in NUMBERS if name != "latency_ms")
CATEGORICAL: Final = ("mood", "outcome")
TESTED: Final = (*NUMERICAL, *CATEGORICAL)
"""The compared columns. Prometheus watches latency; that of the machine that made the reference says nothing here."""


def _contingency(reference: pd.Series, current: pd.Series, _: ColumnType, threshold: float) -> tuple[float, bool]:
    """Chi-square test of whether two samples of categories share a distribution: p-value, and whether it is drift."""
    counts = pd.concat([reference.value_counts(), current.value_counts()], axis=1).fillna(0).to_numpy()
    p_value = float(chi2_contingency(counts).pvalue) if len(counts) > 1 else 1.0
    return p_value, p_value <= threshold


# Evidently's own chi-square test takes the reference's shares as exact: too many false alarms with a small reference.
CONTINGENCY: Final = StatTest("contingency", "chi-square p_value (two samples)", [ColumnType.Categorical], 0.05)
register_stattest(CONTINGENCY, default_impl=_contingency)

_SHARES: Final = (*PROBABILITIES, "confidence", "entropy")
_DECIMALS: Final = 3


def _as_compared(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with rounded probabilities.

    The tests use ranks and would find 0.00002 where a confident network answered 0.00001 before: an irrelevant effect
    of slightly different light.
    """
    return rows.round(dict.fromkeys(_SHARES, _DECIMALS))


@dataclass(frozen=True)
class Test:
    """Test of a column.

    Attributes:
        column: Name of the column.
        kind: Type of its values, in Evidently's terms.
        method: Evidently's name of the test or distance.
        threshold: Largest p-value, or smallest distance, that is drift.
    """

    column: str
    kind: ColumnType
    method: str
    threshold: float

    @property
    def metric(self) -> ValueDrift:
        """The test as a metric of an Evidently report."""
        return ValueDrift(column=self.column, method=self.method, threshold=self.threshold)


@dataclass(frozen=True)
class ColumnDrift:
    """Result of a column's test.

    Attributes:
        column: Name of the column.
        method: Evidently's name of the test or distance.
        score: p-value or distance; NaN if the test was skipped.
        threshold: Threshold of the score, see `Test`.
        significant: Whether the score passes the threshold.
        drifted: Whether the column is significant and has also shifted far enough to matter.
        shift: Cliff's delta of a number, P(live > reference) - P(live < reference), in [-1, 1]; total variation
            distance of categories, in [0, 1].
        reference: Median of the reference, or shares of its categories.
        current: Median or shares of the live rows.
        compared: Number of live rows with a value.
    """

    column: str
    method: str
    score: float
    threshold: float
    significant: bool
    drifted: bool
    shift: float
    reference: float | dict[str, float]
    current: float | dict[str, float]
    compared: int


def choose_tests(reference: pd.DataFrame, current: pd.DataFrame, params: MonitoringParams) -> list[Test]:
    """A test for every column that has values on both sides."""
    columns = [name for name in TESTED if reference[name].notna().any() and current[name].notna().any()]
    large = len(current) >= params.large_window
    share = params.false_alarm_rate / max(1, len(columns))
    numerical = ("wasserstein", params.numerical_distance) if large else ("ks", share)
    categorical = ("jensenshannon", params.categorical_distance) if large else (CONTINGENCY.name, share)
    return [
        Test(name, ColumnType.Numerical, *numerical)
        if name in NUMERICAL
        else Test(name, ColumnType.Categorical, *categorical)
        for name in columns
    ]


def compare(
    reference: pd.DataFrame, current: pd.DataFrame, params: MonitoringParams, *, complete: bool = True
) -> list[ColumnDrift]:
    """Drift of every column, in the order of `TESTED`.

    Args:
        reference: Reference rows with the columns of `TESTED`.
        current: Live rows with the same columns, at least one.
        params: Thresholds and rates.
        complete: Whether to test columns whose shift is too small for drift as well; the tests are what takes time.
    """
    reference, current = _as_compared(reference), _as_compared(current)
    return [
        _drift_of(test, reference[test.column].dropna(), current[test.column].dropna(), params, complete)
        for test in choose_tests(reference, current, params)
    ]


def run_report(reference: pd.DataFrame, current: pd.DataFrame, params: MonitoringParams) -> Snapshot:
    """Evidently's report: the tests of `compare`, then the statistics and missing values of each column."""
    tests = choose_tests(reference, current, params)
    return run_metrics([RowCount(), *(test.metric for test in tests), DataSummaryPreset()], reference, current, params)


def run_metrics(
    metrics: Sequence[Any], reference: pd.DataFrame, current: pd.DataFrame, params: MonitoringParams, **details: Any
) -> Snapshot:
    """A report of Evidently's metrics on the columns that have values on both sides.

    Args:
        metrics: Metrics and presets of Evidently.
        reference: Reference rows.
        current: Live rows.
        params: Thresholds and rates.
        details: Further arguments of `evidently.Report.run`, such as `timestamp` and `tags`.
    """
    tests = choose_tests(reference, current, params)
    definition = DataDefinition(
        numerical_columns=[test.column for test in tests if test.kind == ColumnType.Numerical],
        categorical_columns=[test.column for test in tests if test.kind == ColumnType.Categorical],
    )
    columns = [test.column for test in tests]
    live, compared = (
        Dataset.from_pandas(_as_compared(rows)[columns], data_definition=definition) for rows in (current, reference)
    )
    with np.errstate(invalid="ignore"):  # correlations of a constant column
        return Report(list(metrics)).run(live, compared, **details)


def _drift_of(
    test: Test, reference: pd.Series, current: pd.Series, params: MonitoringParams, complete: bool
) -> ColumnDrift:
    """Test a column, given its values without missing ones."""
    if test.kind == ColumnType.Numerical:
        before: float | dict[str, float] = float(reference.median())
        after: float | dict[str, float] = float(current.median())
        shift, least = cliffs_delta(reference.to_numpy(), current.to_numpy()), params.numerical_shift
    else:
        before, after = shares(reference), shares(current)
        shift = sum(abs(after.get(key, 0) - before.get(key, 0)) for key in {*before, *after}) / 2
        least = params.categorical_shift
    far = (
        without_face(current) > without_face(reference) + params.no_face_margin
        if test.column == "outcome"
        else abs(shift) >= least
    )
    score, significant = float("nan"), False
    if complete or far:
        result = get_registered_stattest(test.method, test.kind)(reference, current, test.kind, test.threshold)
        score, significant = float(result.drift_score), bool(result.drifted)
    return ColumnDrift(
        column=test.column,
        method=test.method,
        score=score,
        threshold=test.threshold,
        significant=significant,
        drifted=significant and far,
        shift=shift,
        reference=before,
        current=after,
        compared=len(current),
    )


def cliffs_delta(reference: np.ndarray, current: np.ndarray) -> float:
    """P(current > reference) - P(current < reference) of two samples, from the ranks of the Mann-Whitney test."""
    ranks = rankdata(np.concatenate([current, reference]))[: len(current)]
    above = ranks.sum() - len(current) * (len(current) + 1) / 2
    return float(2 * above / (len(current) * len(reference)) - 1)


def shares(values: pd.Series) -> dict[str, float]:
    """The share of each category."""
    return {str(key): float(share) for key, share in values.value_counts(normalize=True).items()}


def without_face(outcomes: pd.Series) -> float:
    """The share of frames without a face."""
    return float((outcomes == "no_face").mean())
