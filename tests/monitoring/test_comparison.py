from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.random import Generator

from monitoring import causes, comparison
from monitoring.comparison import CATEGORICAL, NUMERICAL, ColumnDrift
from monitoring.params import MonitoringParams
from monitoring.reference import Reference
from service.moods import MOODS
from tests.conftest import ROOT
from tests.support.predictions import in_sessions, predictions

TABLES = 1000

KINDS: tuple[Callable[[Generator, int], Any], ...] = (
    lambda random, count: random.normal(0.5, 0.2, count),
    lambda random, count: random.lognormal(0, 3, count),
    lambda random, count: random.uniform(0, 1, count).round(1),  # heavy ties
    lambda random, count: np.full(count, random.uniform(0, 300)),  # a constant
    lambda random, count: random.choice(random.uniform(0, 1, random.integers(1, 6)), count),  # few values
    lambda random, count: random.integers(0, 2000, count),
    lambda random, count: np.full(count, np.nan),
    lambda random, count: np.where(random.random(count) < 0.97, 1.0, random.random(count)),  # nearly a constant
    lambda random, count: np.repeat(random.random(-(-count // 7)), 7)[:count],  # frames of people
)


def random_table(random: Generator, count: int) -> pd.DataFrame:
    """Rows of which a few numbers are of random kinds and types, with missing values; the others are missing."""
    columns: dict[str, Any] = {name: np.full(count, np.nan) for name in NUMERICAL}
    for name in random.choice(NUMERICAL, 4, replace=False):
        values = pd.Series(KINDS[random.integers(len(KINDS))](random, count))
        if random.random() < 0.5:
            values = values.astype("float64").mask(random.random(count) < random.choice([0.02, 0.5, 0.95]))
        columns[name] = values.astype(random.choice(["float32", "float64", "Float64", "object"]))
    texts = {"mood": MOODS, "reliability": ("reliable", "dark", "uncertain"), "outcome": ("answered", "no_face")}
    assert texts.keys() == set(CATEGORICAL)
    for name, values in texts.items():
        shares = random.dirichlet(np.full(len(values), 0.3))
        columns[name] = pd.Series(random.choice(values, count, p=shares), dtype="object")
    for name in ("mood", "reliability"):
        columns[name] = columns[name].where(columns["outcome"] == "answered", None)
    return pd.DataFrame(columns)


def assert_equal(columns: list[ColumnDrift]) -> None:
    """That the two sides of a comparison are the same."""
    for column in columns:
        distance = column.method in ("wasserstein", "jensenshannon")
        assert (column.p_value, column.score, column.shift) == (1.0, 0.0 if distance else 1.0, 0.0), column
        assert not column.drifted
    assert not causes.name_causes(columns, "the reference photos")


@pytest.mark.slow
@pytest.mark.parametrize("large_window", [100, 100_000])
def test_no_table_drifts_from_itself(large_window: int, params: MonitoringParams) -> None:
    params = params.model_copy(update={"large_window": large_window})
    for seed in range(TABLES // 2):
        random = np.random.default_rng([large_window, seed])
        table = random_table(random, int(random.integers(2, 300)))
        stored = table.astype(dict.fromkeys(NUMERICAL, "float32"))
        shuffled = table.sample(frac=1, random_state=seed)
        assert_equal(comparison.compare(stored, shuffled if seed % 2 else table, params))


def test_the_released_reference_does_not_drift_from_its_own_rows_as_the_log_has_them(params: MonitoringParams) -> None:
    photos = Reference.load(ROOT / "bundle" / "reference", rebased=None).rows.head(402)
    logged = photos.assign(**{name: [round(float(str(value)), 5) for value in photos[name]] for name in NUMERICAL})
    assert logged["face_share"].dtype == np.float64
    columns = comparison.compare(photos, logged, params)
    assert len(columns) == len(NUMERICAL) + len(CATEGORICAL)
    assert {(column.score, column.shift) for column in columns} == {(1.0, 0.0)}


@pytest.mark.parametrize("count", [20, 200, 3000])
@pytest.mark.parametrize(("reference", "current", "shift"), [(224, 480, 1.0), (0.97599, 0.97598, -1.0)])
def test_another_constant_is_drift(
    count: int, reference: float, current: float, shift: float, params: MonitoringParams
) -> None:
    before = pd.DataFrame(predictions(1000, seed=0)).assign(frame_height=np.float32(reference))
    live = pd.DataFrame(predictions(count, seed=1)).assign(frame_height=current)
    column = next(c for c in comparison.compare(before, live, params) if c.column == "frame_height")
    assert column.drifted
    assert column.shift == shift


def test_a_number_with_few_values_is_tested_as_a_category(params: MonitoringParams) -> None:
    before, live = (pd.DataFrame(predictions(count, seed=count)) for count in (1000, 300))
    methods = {column.column: column.method for column in comparison.compare(before, live, params)}
    assert methods["frame_height"] == methods["faces"] == methods["mood"] == "contingency_people"
    assert methods["brightness"] == "mannw_people"


def test_numbers_of_any_type_become_the_same(params: MonitoringParams) -> None:
    values = [0.97599, 131.00001, None, 3.0]
    forms = [pd.Series(values, dtype=kind) for kind in ("float32", "float64", "Float64", "object")]
    first, *others = (comparison.comparable(pd.DataFrame({"sharpness": form})) for form in forms)
    for other in others:
        pd.testing.assert_frame_equal(first, other)
    pd.testing.assert_frame_equal(first, comparison.comparable(first))


def test_what_is_no_finite_number_counts_as_missing() -> None:
    rows = pd.DataFrame({"sharpness": [np.inf, -np.inf, 1e300, np.nan, 1.0]})
    assert comparison.comparable(rows)["sharpness"].notna().tolist() == [False] * 4 + [True]


@pytest.mark.slow
def test_evidently_reports_the_scores_that_the_verdict_rests_on(reference: Reference, params: MonitoringParams) -> None:
    rows = pd.DataFrame(predictions(200, seed=1, brightness=0.3))
    columns = comparison.compare(reference.rows, rows, params)
    metrics = comparison.run_report(reference.rows, rows, params).dict()["metrics"]
    scores = {
        entry["config"]["column"]: float(entry["value"])
        for entry in metrics
        if entry["config"]["type"].endswith("ValueDrift")
    }
    assert scores == pytest.approx({column.column: column.score for column in columns})


def test_a_large_window_is_judged_by_distance(reference: Reference, params: MonitoringParams) -> None:
    rows = pd.DataFrame(predictions(300, seed=1, brightness=0.51))
    many = pd.concat([rows] * 40, ignore_index=True)
    columns = comparison.compare(reference.rows, many, params)
    assert {column.method for column in columns} == {"wasserstein", "jensenshannon"}
    assert not any(column.drifted for column in columns)


def test_evidently_counts_sessions_as_the_verdict_does(reference: Reference, params: MonitoringParams) -> None:
    rows = pd.DataFrame(in_sessions(predictions(600, seed=1, brightness=0.4), 40))
    rows.loc[::7, "session"] = None
    columns = comparison.compare(reference.rows, rows, params)
    unknown = comparison.compare(reference.rows, rows.assign(session=None), params)
    assert [column.p_value for column in columns] != [column.p_value for column in unknown]
    metrics = comparison.run_report(reference.rows, rows, params).dict()["metrics"]
    scores = {
        entry["config"]["column"]: float(entry["value"])
        for entry in metrics
        if entry["config"]["type"].endswith("ValueDrift")
    }
    assert scores == pytest.approx({column.column: column.score for column in columns})


def test_the_window_of_few_people_is_no_large_one_however_many_frames_it_has(
    reference: Reference, params: MonitoringParams
) -> None:
    rows = predictions(100, seed=1)
    many = pd.DataFrame(in_sessions([row for row in rows for _ in range(40)], 40))
    assert len(many) >= params.large_window
    methods = {column.method for column in comparison.compare(reference.rows, many, params)}
    assert methods == {"mannw_people", "contingency_people"}
