"""Live rows against the reference, column by column, with Evidently's tests.

Up to `large_window` rows a column has drifted where a test says so with its share of the false-alarm rate (Bonferroni
over the columns): Kolmogorov and Smirnov's for numbers, the chi-square test of a contingency table for categories.
From there on a test would find any trifle, and a distance decides: Wasserstein's for numbers, Jensen and Shannon's
for categories. Either way a column must also have moved by a little, so that a certain trifle is none: the rows of a
window are seldom independent, and one person's are not everybody's. The share of frames without a face must also grow
by a margin; that it shrinks is no reason to worry.
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

from monitoring.params import MonitoringParams
from service.observation import PROBABILITIES

NUMERICAL: Final = (
    *PROBABILITIES,
    "confidence",
    "entropy",
    "face_share",
    "detector_confidence",
    "faces",
    "brightness",
    "contrast",
    "sharpness",
    "colourfulness",
    "warmth",
    "tint",
    "frame_width",
    "frame_height",
)
CATEGORICAL: Final = ("mood", "outcome")
TESTED: Final = (*NUMERICAL, *CATEGORICAL)
"""The columns that are compared; latency is Prometheus' business, and that of other machines says nothing here."""


def _contingency(reference: pd.Series, current: pd.Series, _: ColumnType, threshold: float) -> tuple[float, bool]:
    """P-value of the chi-square test that two samples of categories come from one distribution."""
    counts = pd.concat([reference.value_counts(), current.value_counts()], axis=1).fillna(0).to_numpy()
    p_value = float(chi2_contingency(counts).pvalue) if len(counts) > 1 else 1.0
    return p_value, p_value <= threshold


# Evidently's own chi-square test takes the reference's shares for exact, and is alarmed too often by small references.
CONTINGENCY: Final = StatTest("contingency", "chi-square p_value (two samples)", [ColumnType.Categorical], 0.05)
register_stattest(CONTINGENCY, default_impl=_contingency)


_SHARES: Final = (*PROBABILITIES, "confidence", "entropy")
_DECIMALS: Final = 3


def _as_compared(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows whose probabilities differ by what matters only.

    The tests go by ranks, and would find 0.00002 where 0.00001 was, which a network that is sure answers when the light
    changes a little.
    """
    return rows.round(dict.fromkeys(_SHARES, _DECIMALS))


@dataclass(frozen=True)
class Test:
    """How a column is tested.

    Attributes:
        column: its name.
        kind: of its values, in Evidently's terms.
        method: Evidently's name of the test.
        threshold: of the p-value, at or below which it has drifted, or of the distance, at or above which it has.
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
    """What a test found.

    Attributes:
        column: its name.
        method: Evidently's name of the test.
        score: p-value or distance.
        threshold: see `Test`.
        significant: whether the test says that it is not chance.
        drifted: whether it has also moved far enough to matter.
        shift: how probable it is that a live value lies above one of the reference, less the opposite (Cliff's
            delta), in [-1, 1]; of categories the total variation distance, in [0, 1].
        reference: median of the reference, or the shares of its categories.
        current: the same of the live rows.
        compared: how many live rows have a value.
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
    """A test for every column in which both sides have values."""
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
    """Every column's drift, in the order of `TESTED`.

    Args:
        reference: rows with the columns of `TESTED`.
        current: likewise, at least one row.
        params: of the section `monitoring`.
        complete: whether columns are tested, too, that moved too little to have drifted; the tests take the time.
    """
    reference, current = _as_compared(reference), _as_compared(current)
    return [
        _drift_of(test, reference[test.column].dropna(), current[test.column].dropna(), params, complete)
        for test in choose_tests(reference, current, params)
    ]


def run_report(reference: pd.DataFrame, current: pd.DataFrame, params: MonitoringParams) -> Snapshot:
    """Evidently's report: the same tests, and the statistics and missing values of each column; see `compare`."""
    tests = choose_tests(reference, current, params)
    return run_metrics([RowCount(), *(test.metric for test in tests), DataSummaryPreset()], reference, current, params)


def run_metrics(
    metrics: Sequence[Any], reference: pd.DataFrame, current: pd.DataFrame, params: MonitoringParams, **details: Any
) -> Snapshot:
    """A report of Evidently's metrics on the columns that can be compared.

    Args:
        metrics: of `evidently.metrics` and `evidently.presets`.
        reference: see `compare`.
        current: see `compare`.
        params: see `compare`.
        details: `timestamp`, `tags` and so on; see `evidently.Report.run`.
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
    with np.errstate(invalid="ignore"):  # correlations of a column that is constant
        return Report(list(metrics)).run(live, compared, **details)


def _drift_of(
    test: Test, reference: pd.Series, current: pd.Series, params: MonitoringParams, complete: bool
) -> ColumnDrift:
    """Test one column, without its missing values."""
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
    """P(current > reference) - P(current < reference) of two samples, from the ranks of Mann and Whitney."""
    ranks = rankdata(np.concatenate([current, reference]))[: len(current)]
    above = ranks.sum() - len(current) * (len(current) + 1) / 2
    return float(2 * above / (len(current) * len(reference)) - 1)


def shares(values: pd.Series) -> dict[str, float]:
    """The share of each category."""
    return {str(key): float(share) for key, share in values.value_counts(normalize=True).items()}


def without_face(outcomes: pd.Series) -> float:
    """The share of frames without a face."""
    return float((outcomes == "no_face").mean())
