from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import MonteCarloMethod, chi2_contingency, mannwhitneyu

from monitoring import comparison, drift_tests
from monitoring.drift_tests import SESSION, SHUFFLED
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
        reference = reference.drop(columns="session")
        reference.index = pd.Index(np.full(len(reference), np.nan), name=SHUFFLED)
        alarms += false_alarms(reference, [frames_of_people(30, 10, seed)], params)
    assert alarms <= 1


def test_a_dark_room_is_found_from_ten_people_most_surely_if_their_sessions_are_known(
    params: MonitoringParams,
) -> None:
    reference = pd.DataFrame(predictions(1000, seed=0))
    windows = [frames_of_people(10, 10, seed, brightness=0.25) for seed in range(1, 21)]
    ids = [f"session {number // 10}" for number in range(100)]
    dark = []
    for known in (windows, [window.assign(session=ids) for window in windows]):
        found = [comparison.compare(reference, window, params, complete=False) for window in known]
        dark.append(sum(any(c.drifted and c.column == "brightness" for c in columns) for columns in found))
    assert dark[0] >= 16
    assert dark[1] == 20


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
    assert usual <= drift_tests.mann_whitney(pd.Series(reference), pd.Series(current)) < usual**0.7
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
        before, after = (pd.Series(random.choice(4, count, p=[0.5, 0.4, 0.09, 0.01])) for count in (500, 60))
        p_values.append((drift_tests.contingency(before, after, 0.01), drift_tests.mann_whitney(before, after)))
    for level in (0.02, 0.1, 0.5):
        assert (np.array(p_values) <= level).mean(axis=0).max() < level + 3 * np.sqrt(level * (1 - level) / 400)


def of_sessions(values: NDArray[np.float64], sizes: NDArray[np.int64] | int, ids: str = "") -> pd.Series:
    """The values with an index of sessions of these sizes, one after another."""
    sizes = np.broadcast_to(sizes, len(values) // sizes if isinstance(sizes, int) else len(sizes))
    names = np.array([f"{ids}{number}" for number in range(len(sizes))], object)
    return pd.Series(values, index=pd.Index(names.repeat(sizes), name=SESSION))


def alike(sizes: NDArray[np.int64], correlation: float, random: np.random.Generator) -> pd.Series:
    """Normal values of sessions of these sizes whose rows have an intraclass correlation."""
    means = random.normal(size=len(sizes)).repeat(sizes)
    own = random.normal(size=len(means))
    return of_sessions(math.sqrt(correlation) * means + math.sqrt(1 - correlation) * own, sizes)


def counted(series: pd.Series) -> float:
    return drift_tests.independent_rows(series.to_numpy(), drift_tests.session_codes(series))


@pytest.mark.parametrize("people", [1, 2, 10, 300])
def test_equal_frames_of_a_session_count_as_one_row(people: int) -> None:
    values = np.random.default_rng(people).normal(size=people).repeat(40)
    assert people * 0.7 <= counted(of_sessions(values, 40)) <= people


@pytest.mark.parametrize("correlation", [0.0, 0.1, 0.5, 0.95])
def test_the_less_alike_frames_of_a_session_are_the_more_they_count(correlation: float) -> None:
    random, sizes = np.random.default_rng(0), np.full(60, 40)
    found = np.median([counted(alike(sizes, correlation, random)) for _ in range(30)])
    expected = sizes.sum() / (1 + 39 * correlation)
    assert 0.6 * expected < found < 1.1 * expected


def test_a_long_session_counts_as_one_person_among_short_ones() -> None:
    sizes = np.array([2000, *[10] * 20])
    rows = alike(sizes, 1.0, np.random.default_rng(0))
    codes = drift_tests.session_codes(rows)
    assert codes is not None
    assert 1 < drift_tests.people(codes, len(rows)) < 1.3
    assert counted(rows) < 1.3


def test_rows_without_a_session_are_people_of_their_own() -> None:
    index = pd.Index(["a"] * 10 + [None] * 10 + ["b"] * 10, name=SESSION)
    codes = drift_tests.session_codes(pd.Series(range(30), index=index))
    assert codes is not None
    assert codes.tolist() == [0] * 10 + [-1] * 10 + [1] * 10
    assert drift_tests.people(codes, 30) == pytest.approx(900 / 210)
    assert drift_tests.people(None, 30) == 30


def test_a_log_without_sessions_is_counted_by_the_order_of_its_rows() -> None:
    values = correlated(50, 20)
    unknown = pd.Series(values, index=pd.Index([None] * len(values), name=SESSION))
    assert drift_tests.session_codes(unknown) is None
    assert counted(unknown) == drift_tests.independent_rows(values)


def test_images_beside_sessions_count_as_what_they_are() -> None:
    random = np.random.default_rng(0)
    sessions = random.normal(size=20).repeat(40)
    images = random.normal(size=800)
    index = pd.Index([f"{number // 40}" for number in range(800)] + [None] * 800, name=SESSION)
    found = counted(pd.Series(np.concatenate([sessions, images]), index=index))
    assert 4 * 20 * 0.7 < found < 4 * 20, "half of the mean is as uncertain as 20 rows, so that all count as about 80"


def test_a_person_with_several_sessions_in_a_row_does_not_count_as_several() -> None:
    random = np.random.default_rng(0)
    means = random.normal(size=25).repeat(8)
    apart, together = (counted(of_sessions(values.repeat(40), 40)) for values in (random.normal(size=200), means))
    assert apart > 150
    assert together < 60


@pytest.mark.parametrize(("sizes", "correlation"), [((40,) * 5, 0.9), ((40,) * 12, 0.3), ((5, 400, *[40] * 12), 0.6)])
def test_p_values_of_few_sessions_are_no_smaller_than_chance_makes_them(
    sizes: tuple[int, ...], correlation: float
) -> None:
    random = np.random.default_rng(1)
    reference = pd.Series(random.normal(size=800))
    p_values = np.array(
        [drift_tests.mann_whitney(reference, alike(np.array(sizes), correlation, random)) for _ in range(400)]
    )
    for level in (0.01, 0.05, 0.2):
        assert (p_values <= level).mean() < level + 3 * np.sqrt(level * (1 - level) / 400)


def test_moods_of_few_people_do_not_differ_from_those_of_many_by_chance() -> None:
    random, shares = np.random.default_rng(2), [0.4, 0.1, 0.4, 0.1]
    reference = pd.Series(random.choice(MOODS, 800, p=shares))
    p_values = [
        drift_tests.contingency(reference, of_sessions(random.choice(MOODS, 20, p=shares).repeat(40), 40), 0.01)
        for _ in range(200)
    ]
    assert (np.array(p_values) <= 0.05).mean() < 0.1


def test_rows_that_were_drawn_from_distributions_count_by_the_size_of_their_sessions() -> None:
    random = np.random.default_rng(3)
    live = of_sessions(random.normal(size=50).repeat(40), 40)
    shuffled = pd.Series(random.permutation(random.normal(size=20).repeat(100)))
    of_many = shuffled.set_axis(pd.Index(np.arange(2000) // 1.0, name=SHUFFLED))
    of_few = shuffled.set_axis(pd.Index(np.arange(2000) // 100.0, name=SHUFFLED))
    assert drift_tests.mann_whitney(of_few, live) > drift_tests.mann_whitney(of_many, live)


def test_other_people_with_sessions_are_no_drift_even_if_they_are_few(params: MonitoringParams) -> None:
    reference = pd.DataFrame(predictions(1000, seed=0))
    for people in (5, 12, 50):
        ids = [f"session {number // 40}" for number in range(people * 40)]
        windows = [frames_of_people(people, 40, seed).assign(session=ids) for seed in range(1, 11)]
        assert false_alarms(reference, windows, params) <= 1
