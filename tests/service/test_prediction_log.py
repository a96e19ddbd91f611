"""`service.prediction_log`: a line per prediction, and no request lost over it."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from pathlib import Path

import pytest

from service.detector import Face
from service.estimator import MoodEstimate
from service.metrics import LOG_FAILURES
from service.prediction_log import Prediction, PredictionLog

ESTIMATE = MoodEstimate(
    mood="neutral",
    probabilities={"positive": 0.1, "negative": 0.2, "neutral": 0.6, "other": 0.1},
    face=Face(120, 80, 160, 168, 0.999),
    face_count=2,
)


def test_a_line_says_what_was_predicted(tmp_path: Path) -> None:
    PredictionLog(tmp_path / "log.jsonl").write(Prediction.of(ESTIMATE, "3"))
    line = Prediction.model_validate_json((tmp_path / "log.jsonl").read_text())
    assert (line.mood, line.face_width, line.faces, line.model_version) == ("neutral", 160, 2, "3")
    assert line.probabilities == ESTIMATE.probabilities
    assert line.time.tzinfo == UTC


def test_lines_of_many_writers_do_not_mix(tmp_path: Path) -> None:
    logs = [PredictionLog(tmp_path / "log.jsonl") for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: logs[i % 4].write(Prediction.of(ESTIMATE, "3")), range(400)))
    lines = [Prediction.model_validate_json(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len({line.request for line in lines}) == 400


def test_a_log_that_cannot_be_written_is_counted_and_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def failures() -> float:
        return next(
            sample.value for sample in next(iter(LOG_FAILURES.collect())).samples if sample.name.endswith("total")
        )

    before = failures()
    log = PredictionLog(tmp_path / "nowhere" / "log.jsonl")
    with caplog.at_level(logging.WARNING):
        log.write(Prediction.of(ESTIMATE, "3"))
        log.write(Prediction.of(ESTIMATE, "3"))
    assert failures() - before == 2
    assert len(caplog.records) == 1
