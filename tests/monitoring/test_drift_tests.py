from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import MonteCarloMethod, chi2_contingency, mannwhitneyu

from monitoring import comparison, drift_tests
from monitoring.params import MonitoringParams
from service.moods import MOODS
from tests.support.predictions import predictions


def frames_of_people(people: int, frames: int, seed: int, **changes: float) -> pd.DataFrame:
    """Rows of people who differ, each with several rows in a row that are nearly the same."""
    rows = pd.DataFrame(predictions(people, seed=seed, **changes)).loc[lambda table: table.index.repeat(frames)]
    rows = rows.reset_index(drop=True)
    noise = np.random.default_rng(seed)
    for name in ("brightness", "contrast", "face_share", "tint"):
        rows[name] += noise.normal(0, 0.003, len(rows))
    return rows


def false_alarms(reference: pd.DataFrame, windows: list[pd.DataFrame], params: MonitoringParams) -> int:
    return sum(
        any(column.drifted for column in comparison.compare(reference, window, params, complete=False))
        for window in windows
    )


@pytest.mark.parametrize(("people", "frames"), [(10, 50), (20, 10), (50, 10), (40, 60)])
def test_other_people_are_no_drift(people: int, frames: int, params: MonitoringParams) -> None:
    reference = pd.DataFrame(predictions(1000, seed=0))
    windows = [frames_of_people(people, frames, seed) for seed in range(1, 21)]
    assert false_alarms(reference, windows, params) <= 1


def test_a_rebased_reference_of_few_people_makes_no_alarm_either(params: MonitoringParams) -> None:
    alarms = 0
    for seed in range(1, 21):
        reference = frames_of_people(30, 10, seed + 100).sample(frac=1, random_state=seed)
        alarms += false_alarms(reference, [frames_of_people(30, 10, seed)], params)
    assert alarms <= 1


def test_a_dark_room_is_found_from_ten_people(params: MonitoringParams) -> None:
    reference = pd.DataFrame(predictions(1000, seed=0))
    windows = [frames_of_people(10, 10, seed, brightness=0.25) for seed in range(1, 21)]
    found = [comparison.compare(reference, window, params, complete=False) for window in windows]
    assert sum(any(c.drifted and c.column == "brightness" for c in columns) for columns in found) >= 18


def correlated(people: int, frames: int) -> NDArray[np.float64]:
    return np.repeat(np.random.default_rng(people).normal(size=people), frames)


@pytest.mark.parametrize(("people", "frames"), [(400, 1), (100, 5), (50, 20), (20, 50)])
def test_rows_of_people_count_as_about_one_row_each(people: int, frames: int) -> None:
    assert people * 0.5 <= drift_tests.independent_rows(correlated(people, frames)) <= people * 1.2


def test_a_change_within_the_window_is_no_correlation() -> None:
    rows = np.random.default_rng(0).normal(size=600)
    rows[400:] += 4
    assert drift_tests.independent_rows(rows) > 400


@pytest.mark.parametrize("rows", [[1.0], [1.0, 2.0], [3.0] * 50, [0.0] * 30 + [1.0] * 20])
def test_rows_without_any_spread_count_in_full(rows: list[float]) -> None:
    assert drift_tests.independent_rows(np.array(rows)) == len(rows)


def test_independent_rows_are_tested_as_usual() -> None:
    random = np.random.default_rng(0)
    reference, current = random.normal(size=800).round(1), random.normal(0.15, 1, 400).round(1)
    usual = mannwhitneyu(reference, current).pvalue
    assert usual <= drift_tests.mann_whitney(reference, current) < usual**0.7
    before, after = (
        random.choice(MOODS, 800, p=[0.4, 0.05, 0.53, 0.02]),
        random.choice(MOODS, 400, p=[0.3, 0.1, 0.58, 0.02]),
    )
    table = pd.crosstab(np.r_[before, after], np.r_[np.zeros(800), np.ones(400)]).to_numpy()
    usual = chi2_contingency(table, correction=False, method=MonteCarloMethod(20_000, rng=random)).pvalue
    assert usual / 5 <= drift_tests.contingency(pd.Series(before), pd.Series(after), 1e-4) < usual**0.6


def test_p_values_are_uniform_without_a_change() -> None:
    random = np.random.default_rng(0)
    p_values = []
    for _ in range(400):
        before, after = (random.choice(4, count, p=[0.5, 0.4, 0.09, 0.01]) for count in (500, 60))
        p_values.append(
            (
                drift_tests.contingency(pd.Series(before), pd.Series(after), 0.01),
                drift_tests.mann_whitney(before, after),
            )
        )
    for level in (0.02, 0.1, 0.5):
        assert (np.array(p_values) <= level).mean(axis=0).max() < level + 3 * np.sqrt(level * (1 - level) / 400)
