from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from monitoring import comparison, log, verdict
from monitoring.log import Log
from monitoring.params import MonitoringParams
from monitoring.reference import Reference
from monitoring.verdict import Verdict
from tests.support.predictions import NOW, TOLERANCE, Write, predictions


def judge(path: Path, reference: Reference, params: MonitoringParams) -> Verdict:
    return verdict.reach(log.read(path, now=NOW, tolerance=TOLERANCE), reference, params)


def test_predictions_like_the_reference_are_no_drift(write_log: Write, reference, params) -> None:
    found = judge(write_log(*predictions(400, seed=1)), reference, params)
    assert found.state == "quiet"
    assert found.as_json()["exit_code"] == 0


def test_darker_images_are_named_with_the_time_of_the_change(write_log: Write, reference, params) -> None:
    rows = predictions(600, seed=1)
    for row, dark in zip(rows[400:], predictions(200, seed=2, brightness=0.2), strict=True):
        row["brightness"] = dark["brightness"]
    found = judge(write_log(*rows), reference, params)
    assert found.state == "drifted"
    assert found.causes[0].name == "darker"
    assert found.headline == "Drifted: darker faces"
    assert found.since is not None
    assert abs(found.since - (NOW - timedelta(minutes=200))) < timedelta(minutes=10)
    assert not found.before_window


def test_drift_that_fills_the_window_may_have_begun_earlier(write_log: Write, reference, params) -> None:
    found = judge(write_log(*predictions(300, seed=1, brightness=0.2)), reference, params)
    assert found.before_window
    assert found.onset is not None
    assert "or earlier" in found.onset


def test_too_few_rows_give_no_verdict(write_log: Write, reference, params) -> None:
    found = judge(write_log(*predictions(params.min_rows - 1, seed=1, brightness=0.1)), reference, params)
    assert found.state == "unknown"
    assert found.as_json()["exit_code"] == 2


def test_more_frames_without_a_face_are_drift_and_fewer_are_not(reference, params) -> None:
    rows = pd.DataFrame(predictions(500, seed=1)).assign(time=pd.Timestamp(NOW))
    faceless = rows.copy()
    faceless.loc[::4, list(comparison.NUMERICAL[:-2])] = np.nan
    faceless.loc[::4, "outcome"], faceless.loc[::4, "mood"] = "no_face", None
    found = verdict.reach(Log(faceless, {}), reference, params)
    assert [cause.name for cause in found.causes] == ["no_face"]
    swapped = Reference("7", faceless, reference.labelled, None)
    assert verdict.reach(Log(rows, {}), swapped, params).state == "quiet"


def test_evidently_reports_the_scores_that_the_verdict_rests_on(reference, params) -> None:
    rows = pd.DataFrame(predictions(200, seed=1, brightness=0.3))
    columns = comparison.compare(reference.rows, rows, params)
    metrics = [test.metric for test in comparison.choose_tests(reference.rows, rows, params)]
    report = comparison.run_metrics(metrics, reference.rows, rows, params)
    scores = {entry["config"]["column"]: float(entry["value"]) for entry in report.dict()["metrics"]}
    assert scores == pytest.approx({column.column: column.score for column in columns})


def test_a_large_window_is_judged_by_distance(reference, params) -> None:
    rows = pd.DataFrame(predictions(300, seed=1, brightness=0.51))
    many = pd.concat([rows] * 40, ignore_index=True)
    methods = {column.method for column in comparison.compare(reference.rows, many, params)}
    assert methods == {"wasserstein", "jensenshannon"}
    assert not any(column.drifted for column in comparison.compare(reference.rows, many, params))
