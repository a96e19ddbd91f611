"""Drift tests: live rows against the reference, column by column, with Evidently.

A column has drifted if both hold:

- The change is not chance: p-values of the Mann-Whitney test for numbers, of a contingency table for categories and for
  numbers with few values (`monitoring.drift_tests`, which count people rather than frames). Each column gets an equal
  share of the false-alarm rate (Bonferroni).
- The change is large enough to matter: a smallest shift; for the share of frames without a face, a smallest increase.
  From `large_window` people on, where nothing is chance, also a smallest distance: Wasserstein for numbers,
  Jensen-Shannon for categories.
"""

from __future__ import annotations

from collections.abc import Mapping
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

from monitoring.distributions import NUMBERS
from monitoring.drift_tests import SESSION, contingency, counted, mann_whitney, people, session_codes
from monitoring.effect_sizes import shares, shift
from monitoring.log_sample import CATEGORIES
from monitoring.params import MonitoringParams
from service.observation import PROBABILITIES

NUMERICAL: Final = NUMBERS
CATEGORICAL: Final = CATEGORIES
TESTED: Final = (*NUMERICAL, *CATEGORICAL)
"""The compared columns. Prometheus watches latency; that of the machine that made the reference says nothing here."""

_SHARES: Final = (*PROBABILITIES, "confidence", "entropy")
_DECIMALS: Final = dict.fromkeys(NUMERICAL, 5) | dict.fromkeys(_SHARES, 3)
"""Decimal places. The log has five. The tests use ranks and would find a probability of 0.00002 where a confident
network answered 0.00001 before: an irrelevant effect of slightly different light."""

_FEW: Final = 10
"""Most distinct values, of both samples together, of a number that is tested as a category."""


def _mann_whitney(reference: pd.Series, current: pd.Series, _: ColumnType, threshold: float) -> tuple[float, bool]:
    p_value = mann_whitney(reference, current)
    return p_value, p_value <= threshold


def _contingency(reference: pd.Series, current: pd.Series, _: ColumnType, threshold: float) -> tuple[float, bool]:
    p_value = contingency(reference, current, threshold)
    return p_value, p_value <= threshold


MANN_WHITNEY: Final = StatTest(
    "mannw_people", "Mann-Whitney p_value (rows of a person are alike)", [ColumnType.Numerical], 0.05
)
CONTINGENCY: Final = StatTest(
    "contingency_people",
    "chi-square p_value (rows of a person are alike)",
    [ColumnType.Categorical, ColumnType.Numerical],
    0.05,
)
register_stattest(MANN_WHITNEY, default_impl=_mann_whitney)
register_stattest(CONTINGENCY, default_impl=_contingency)


def comparable(rows: pd.DataFrame) -> pd.DataFrame:
    """The compared columns of rows, in the one form in which reference and live rows may be compared.

    The reference is stored as float32, and other sources of rows may have other types. Rounding to float32 and then to
    decimal places gives equal numbers for all of them: 0.97599 as float32 is not 0.97599 as float64, and ranks
    would tell the two apart. What is no finite number counts as missing.

    Args:
        rows: Rows with columns of `TESTED`, of any type.

    Returns:
        Numbers as float64, texts as objects; missing numbers are NaN, missing texts None. The index is that of the
        rows, or numbers of their sessions if any row has one; see `monitoring.drift_tests`.
    """
    columns: dict[str, Any] = {}
    for name in (name for name in TESTED if name in rows):
        if name in CATEGORICAL:
            columns[name] = rows[name].astype(object).where(rows[name].notna(), None).to_numpy()
        else:
            with np.errstate(over="ignore"):  # a number that float32 cannot hold becomes infinite
                values = rows[name].to_numpy(np.float32, na_value=np.nan).astype(np.float64)
            columns[name] = np.where(np.isfinite(values), values, np.nan).round(_DECIMALS[name])
    index = rows.index
    if SESSION in rows:  # as numbers, since Evidently sorts them
        codes = pd.factorize(rows[SESSION])[0]
        if (codes >= 0).any():  # an index without any number is one that Evidently cannot plot
            index = pd.Index(np.where(codes >= 0, codes, np.nan), name=SESSION)
    return pd.DataFrame(columns, index=index)


@dataclass(frozen=True)
class Test:
    """Test of a column.

    Attributes:
        column: Name of the column.
        kind: Type of its values, in Evidently's terms.
        test: Evidently's name of the test that gives the p-value.
        level: Largest p-value that is no chance.
        method: Evidently's name of the test or distance that gives the score.
        threshold: Largest p-value, or smallest distance, that is drift.
    """

    column: str
    kind: ColumnType
    test: str
    level: float
    method: str
    threshold: float

    @property
    def metric(self) -> ValueDrift:
        """The score as a metric of an Evidently report."""
        return ValueDrift(column=self.column, method=self.method, threshold=self.threshold)

    def run(self, reference: pd.Series, current: pd.Series) -> tuple[float, float, bool]:
        """p-value, score, and whether both are significant, of values without missing ones, in order of time."""
        chance = get_registered_stattest(self.test, self.kind)(reference, current, self.kind, self.level)
        score = chance
        if self.method != self.test:
            score = get_registered_stattest(self.method, self.kind)(reference, current, self.kind, self.threshold)
        return float(chance.drift_score), float(score.drift_score), bool(chance.drifted and score.drifted)


@dataclass(frozen=True)
class ColumnDrift:
    """Result of a column's test.

    Attributes:
        column: Name of the column.
        method: Evidently's name of the test or distance that gives the score.
        score: p-value or distance; NaN if the test was skipped.
        threshold: Threshold of the score, see `Test`.
        p_value: p-value, also if a distance is the score; NaN if the test was skipped.
        significant: Whether the change is no chance and the score passes the threshold.
        drifted: Whether the column is significant and has also shifted far enough to matter.
        shift: Cliff's delta of a number, P(live > reference) - P(live < reference), in [-1, 1]; total variation
            distance of categories, in [0, 1].
        reference: Median of the reference, or shares of its categories.
        current: Median or shares of the live rows.
        compared: Number of live rows with a value.
        counted: Number of independent rows for which the test counts them: `compared` divided by the design effect;
            NaN if the test was skipped.
    """

    column: str
    method: str
    score: float
    threshold: float
    p_value: float
    significant: bool
    drifted: bool
    shift: float
    reference: float | dict[str, float]
    current: float | dict[str, float]
    compared: int
    counted: float

    @property
    def design_effect(self) -> float:
        """How many rows tell as much as an independent one."""
        return self.compared / self.counted


def _tests(reference: pd.DataFrame, current: pd.DataFrame, params: MonitoringParams) -> list[Test]:
    """A test for every column that has values on both sides of comparable rows, in the order of `TESTED`."""
    columns = [name for name in TESTED if reference[name].notna().any() and current[name].notna().any()]
    level = params.false_alarm_rate / max(1, len(columns))
    people_live = people(session_codes(current), len(current))
    tests = []
    for name in columns:
        kind = ColumnType.Numerical if name in NUMERICAL else ColumnType.Categorical
        few = kind == ColumnType.Categorical or _has_few_values(reference[name], current[name])
        test = CONTINGENCY.name if few else MANN_WHITNEY.name
        method, threshold = test, level
        if people_live >= params.large_window:
            method = "jensenshannon" if few else "wasserstein"
            threshold = params.categorical_distance if few else params.numerical_distance
        tests.append(Test(name, kind, test, level, method, threshold))
    return tests


def _has_few_values(reference: pd.Series, current: pd.Series) -> bool:
    """Whether the two samples of a number have few distinct values, one in the extreme: a camera's frame size."""
    return len({*reference.dropna().unique(), *current.dropna().unique()}) <= _FEW


def compare(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    params: MonitoringParams,
    *,
    complete: bool = True,
    counts: Mapping[str, Mapping[str, int]] | None = None,
) -> list[ColumnDrift]:
    """Drift of every column, in the order of `TESTED`.

    Args:
        reference: Reference rows with the columns of `TESTED`.
        current: Live rows with the same columns, at least one, in order of time; their sessions too, if known.
        params: Thresholds and rates.
        complete: Whether to test columns whose shift is too small for drift as well; the tests are what takes time.
        counts: Number of live rows by value, by column of `CATEGORICAL`, if `current` is a sample of the rows.
    """
    reference, current = comparable(reference), comparable(current)
    return [
        _drift_of(
            test,
            reference[test.column].dropna(),
            current[test.column].dropna(),
            params,
            complete,
            (counts or {}).get(test.column),
        )
        for test in _tests(reference, current, params)
    ]


def run_report(reference: pd.DataFrame, current: pd.DataFrame, params: MonitoringParams) -> Snapshot:
    """Evidently's report: the scores of `compare`, then the statistics and missing values of each column."""
    reference, current = comparable(reference), comparable(current)
    tests = _tests(reference, current, params)
    definition = DataDefinition(
        numerical_columns=[test.column for test in tests if test.kind == ColumnType.Numerical],
        categorical_columns=[test.column for test in tests if test.kind == ColumnType.Categorical],
    )
    columns = [test.column for test in tests]
    live, compared = (Dataset.from_pandas(rows[columns], data_definition=definition) for rows in (current, reference))
    with np.errstate(invalid="ignore"):  # correlations of a constant column
        return Report([RowCount(), *(test.metric for test in tests), DataSummaryPreset()]).run(live, compared)


def _drift_of(
    test: Test,
    reference: pd.Series,
    current: pd.Series,
    params: MonitoringParams,
    complete: bool,
    counts: Mapping[str, int] | None,
) -> ColumnDrift:
    """Test a column, given its comparable values without missing ones; `counts` if the live ones are a sample."""
    everything = current
    if counts:
        codes = np.repeat(np.arange(len(counts), dtype=np.int8), [*counts.values()])
        everything = pd.Series(pd.Categorical.from_codes(codes, [*counts]))
    if test.kind == ColumnType.Numerical:
        before: float | dict[str, float] = float(reference.median())
        after: float | dict[str, float] = float(current.median())
        least = params.numerical_shift
    else:
        before, after = shares(reference), shares(everything)
        least = params.categorical_shift
    moved = shift(reference, everything)
    far = (
        without_face(everything) > without_face(reference) + params.no_face_margin
        if test.column == "outcome"
        else abs(moved) >= least
    )
    p_value, score, significant, independent = np.nan, np.nan, False, np.nan
    if complete or far:
        p_value, score, significant = test.run(reference, current)
        independent = counted(reference, current, categories=test.test == CONTINGENCY.name)
    return ColumnDrift(
        column=test.column,
        method=test.method,
        score=score,
        threshold=test.threshold,
        p_value=p_value,
        significant=significant,
        drifted=significant and far,
        shift=moved,
        reference=before,
        current=after,
        compared=len(current),
        counted=independent,
    )


def chance(reference: pd.Series, current: pd.Series, level: float) -> float:
    """p-value of the test that fits two samples without missing values, in order of time.

    Args:
        reference: The one sample.
        current: The other sample.
        level: p-value that must be resolved.
    """
    if not pd.api.types.is_numeric_dtype(reference) or _has_few_values(reference, current):
        return contingency(reference, current, level)
    return mann_whitney(reference, current)


def without_face(outcomes: pd.Series) -> float:
    """The share of frames without a face."""
    return float((outcomes == "no_face").mean())
