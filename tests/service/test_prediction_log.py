"""`service.prediction_log`: one line per processed image, and no request fails because of it."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from bentoml._internal.monitoring import api

from service import prediction_log
from service.images import Frame
from service.metrics import LOG_FAILURES
from service.observation import COLUMNS, Observation
from service.prediction_log import PredictionLog

FRAME = Frame(np.zeros((48, 64, 3), np.uint8), 64, 48)


def write(log: PredictionLog) -> None:
    """Write one row, as `bentoml.monitor` does."""
    log.start_record()
    for name, value in vars(Observation.of(FRAME, None, model_version="3", seconds=0.01)).items():
        log.log(value, name, "feature", "numerical")
    log.stop_record()


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def failures() -> float:
    return next(sample.value for sample in next(iter(LOG_FAILURES.collect())).samples if sample.name.endswith("total"))


def test_a_line_is_a_row_with_all_its_columns(tmp_path: Path) -> None:
    write(PredictionLog("predictions", str(tmp_path / "log.jsonl")))
    (line,) = lines(tmp_path / "log.jsonl")
    assert tuple(line) == COLUMNS
    assert (line["outcome"], line["model_version"], line["mood"]) == ("no_face", "3", None)


def test_lines_of_many_writers_do_not_mix(tmp_path: Path) -> None:
    logs = [PredictionLog("predictions", str(tmp_path / "log.jsonl")) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda index: write(logs[index % 4]), range(400)))
    assert len({line["request"] for line in lines(tmp_path / "log.jsonl")}) == 400


def test_a_directory_gets_a_file_a_day_and_loses_those_that_are_too_old(tmp_path: Path) -> None:
    today = datetime.now(UTC).date()
    old, young = (tmp_path / f"predictions-{today - timedelta(days=days)}.jsonl" for days in (31, 29))
    other = tmp_path / "notes.txt"
    for path in (old, young, other):
        path.write_text("{}\n")
    write(PredictionLog("predictions", str(tmp_path), days=30))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [young.name, other.name, f"predictions-{datetime.now(UTC).date()}.jsonl"]
    )


def test_a_log_that_cannot_be_written_is_counted_and_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before, log = failures(), PredictionLog("predictions", str(tmp_path / "nowhere" / "log.jsonl"))
    with caplog.at_level(logging.WARNING):
        write(log)
        write(log)
    assert failures() - before == 2
    assert len(caplog.records) == 1


def test_a_monitor_that_fails_costs_its_row_and_no_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class FailsOnce(PredictionLog):
        def export_data(self, datas: object) -> None:
            if not (tmp_path / "log.jsonl").exists():
                (tmp_path / "log.jsonl").touch()
                raise ConnectionError("no connection")
            super().export_data(datas)  # type: ignore[arg-type]

    monkeypatch.setitem(api._MONITOR_INSTANCES, prediction_log.MONITOR, FailsOnce("x", str(tmp_path / "log.jsonl")))
    before = failures()
    for _ in range(3):
        prediction_log.record(FRAME, None, model_version="3", seconds=0.01)
    assert failures() - before == 1
    assert len(lines(tmp_path / "log.jsonl")) == 2
