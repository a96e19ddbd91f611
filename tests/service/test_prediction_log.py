"""`service.prediction_log`: one line per processed image, and no request fails because of it."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, tzinfo
from pathlib import Path

import numpy as np
import pytest
from bentoml._internal.monitoring import api

from service import prediction_log
from service.images import Frame
from service.metrics import LOG_FAILURES
from service.observation import COLUMNS, Observation
from service.prediction_log import PredictionLog
from tests.support.models import described

FRAME = Frame(np.zeros((48, 64, 3), np.uint8), 64, 48)


def write(log: PredictionLog) -> None:
    """Write one row, as `bentoml.monitor` does."""
    log.start_record()
    for name, value in vars(Observation.of(FRAME, None, model=described("3"), seconds=0.01)).items():
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
    assert (line["outcome"], line["model_version"], line["model_digest"], line["mood"]) == (
        "no_face",
        "3",
        "3" * 64,
        None,
    )


def test_lines_of_many_writers_do_not_mix(tmp_path: Path) -> None:
    logs = [PredictionLog("predictions", str(tmp_path / "log.jsonl")) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda index: write(logs[index % 4]), range(400)))
    assert len({line["request"] for line in lines(tmp_path / "log.jsonl")}) == 400


def file_of(day: date) -> str:
    return f"predictions-{day}.jsonl"


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


class Clock:
    """A clock that tests set; each of its logs belongs to another worker."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
        self.now = datetime(2026, 5, 1, 12, tzinfo=UTC)
        self.directory = directory
        clock = self

        class Fake(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
                return clock.now

        monkeypatch.setattr(prediction_log, "datetime", Fake)
        monkeypatch.setattr("service.observation.datetime", Fake)

    def file(self, days_ago: int) -> str:
        return file_of(self.now.date() - timedelta(days=days_ago))

    def fill(self, *days_ago: int) -> set[str]:
        """Make the files of days before now, and return their names."""
        for days in days_ago:
            (self.directory / self.file(days)).write_text("{}\n")
        return {self.file(days) for days in days_ago}

    def log(self, days: int = 30) -> PredictionLog:
        return PredictionLog("predictions", str(self.directory), days=days)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Clock:
    return Clock(monkeypatch, tmp_path)


def test_a_directory_gets_a_file_a_day_and_loses_those_that_are_too_old(clock: Clock, tmp_path: Path) -> None:
    clock.fill(31, 30, 1)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "predictions-2026-02-31.jsonl").touch()  # no such day
    write(clock.log())
    assert names(tmp_path) == {
        clock.file(30), clock.file(1), clock.file(0), "notes.txt", "predictions-2026-02-31.jsonl"
    }  # fmt: skip


def test_a_clock_that_jumps_ahead_deletes_nothing(clock: Clock, tmp_path: Path) -> None:
    log = clock.log()
    before = clock.fill(*range(30))
    write(log)
    clock.now += timedelta(days=100)
    write(log)
    write(clock.log())
    assert names(tmp_path) == before | {clock.file(0)}
    clock.now -= timedelta(days=100)
    write(log)
    assert before <= names(tmp_path)
    clock.now -= timedelta(days=36_500)
    write(log)
    assert before <= names(tmp_path)


def test_a_clock_that_stays_wrong_deletes_one_file_an_hour_from_its_second_day_on(clock: Clock, tmp_path: Path) -> None:
    log = clock.log()
    before = clock.fill(*range(10))
    clock.now += timedelta(days=100)
    write(log)
    clock.now += timedelta(days=1)
    for _ in range(5):
        write(log)
    assert len(before & names(tmp_path)) == 9
    clock.now += timedelta(hours=1)
    write(log)
    assert len(before & names(tmp_path)) == 8
    assert {clock.file(0), clock.file(1)} <= names(tmp_path)


def test_files_that_a_shorter_period_makes_too_old_go_one_an_hour_and_the_oldest_first(
    clock: Clock, tmp_path: Path
) -> None:
    clock.fill(*range(1, 91))
    (tmp_path / clock.file(90)).rename(tmp_path / f"{clock.file(90)}.gz")
    log = clock.log()
    for hour in range(1, 6):
        write(log)
        left = names(tmp_path) - {clock.file(0)}
        assert left == {clock.file(days) for days in range(1, 91 - hour)}
        clock.now += timedelta(hours=1)


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
        prediction_log.record(FRAME, None, model=described("3"), seconds=0.01)
    assert failures() - before == 1
    assert len(lines(tmp_path / "log.jsonl")) == 2
