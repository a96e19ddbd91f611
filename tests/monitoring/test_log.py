from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from collections import deque
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from monitoring import log, report, verdict
from monitoring.log import Selection
from monitoring.params import MonitoringParams
from monitoring.reference import Reference
from service.moods import MOODS
from service.observation import COLUMNS
from service.prediction_log import PredictionLog
from tests.support.predictions import NOW, TOLERANCE, Write, in_sessions, predictions

DAY = timedelta(days=1)
EVERYTHING = Selection()
GARBAGE = b"no row\n"
"""A file of it costs a bad line if it is opened."""


def read(path: Path, selection: Selection = EVERYTHING, **options: Any) -> log.Log:
    return log.read(path, now=NOW, tolerance=TOLERANCE, selection=selection, **options)


def text(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def daily(directory: Path, day: date, content: bytes) -> Path:
    """A file as the service names it."""
    directory.mkdir(exist_ok=True)
    file = directory / f"predictions-{day}.jsonl"
    file.write_bytes(content)
    return file


def test_bad_lines_are_counted_by_reason_and_all_others_are_used(write_log: Write) -> None:
    good = predictions(50, seed=1)
    back = {**good[40], "request": "back", "time": (NOW - 2 * DAY).isoformat()}
    ahead = {**good[40], "request": "ahead", "time": (NOW + 2 * DAY).isoformat()}
    path = write_log(
        *good[:41],
        '{"time": "2026-01-01T00:00:00+00:00", "requ',
        '{"time": "2026-01-01T00:00:00+00:00", "mood": "positive", "probabilities": {"positive": 1.0}}',
        "[1, 2]",
        ahead,
        back,
        good[7],
        *good[41:],
        *predictions(5, seed=2, version="6"),
    )
    found = log.read(path, now=NOW, tolerance=timedelta(minutes=10), selection=Selection(version="7"))
    assert len(found.rows) == 50
    assert found.bad_lines == {
        log.INVALID_JSON: 1,
        log.WRONG_SCHEMA: 2,
        log.IN_THE_FUTURE: 1,
        log.CLOCK_WENT_BACK: 1,
        log.DUPLICATE: 1,
        log.OTHER_VERSION: 5,
    }
    assert found.versions == {"7": 50, "6": 5}


@pytest.mark.parametrize(
    ("damaged", "reason"),
    [
        (b'{"time": "2026-01-01T00:00:00+00:00", "requ', log.INVALID_JSON),
        (b"\0\0\0\0", log.INVALID_JSON),
        (b'{"time": "\xff"}', log.INVALID_JSON),
        (b'{"request": "\\ud800"}', log.WRONG_SCHEMA),
        (b"x" * 9_000_000, log.INVALID_JSON),
        (b"null", log.WRONG_SCHEMA),
        (b'{"faces": 1e999}', log.WRONG_SCHEMA),
    ],
    ids=["cut off", "zeros", "no UTF-8", "half a surrogate", "longer than a block", "null", "no number"],
)
def test_a_damaged_line_does_not_spoil_the_lines_around_it(tmp_path: Path, damaged: bytes, reason: str) -> None:
    rows = predictions(400, seed=1)
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(text(rows[:123]) + damaged + b"\n\n" + text(rows[123:]))
    found = read(path)
    assert found.rows["request"].tolist() == [row["request"] for row in rows]
    assert found.bad_lines == {reason: 1}


def test_two_rows_in_one_line_are_a_bad_line(tmp_path: Path) -> None:
    rows = predictions(5, seed=1)
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(text(rows[:2]).replace(b"\n", b"") + b"\n" + text(rows[2:]))
    found = read(path)
    assert len(found.rows) == 3
    assert sum(found.bad_lines.values()) == 1


def test_of_a_compressed_file_that_is_cut_off_the_beginning_is_used(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = [{**row, "request": random.bytes(16).hex()} for row in predictions(300, seed=1)]
    path = tmp_path / "predictions.jsonl.gz"
    path.write_bytes(gzip.compress(text(rows))[:-5000])
    found = read(path)
    assert 0 < len(found.rows) < 300
    assert found.bad_lines[log.DAMAGED_FILE] == 1


@pytest.mark.parametrize(
    "change",
    [{"outcome": "maybe"}, {"mood": "glad"}, {"brightness": "dark"}, {"time": 5}, {"probability_other": None}],
    ids=lambda change: next(iter(change)),
)
def test_a_row_with_a_value_that_the_service_never_writes_has_the_wrong_schema(write_log: Write, change: dict) -> None:
    row, *others = predictions(3, seed=1)
    found = read(write_log({**row, **change}, *others))
    assert len(found.rows) == 2
    assert found.bad_lines == {log.WRONG_SCHEMA: 1}


@pytest.mark.parametrize("column", ["time", "request", "model_version", "outcome", "faces", "mood"])
def test_a_row_without_a_necessary_column_has_the_wrong_schema(tmp_path: Path, column: str) -> None:
    rows = predictions(3, seed=1)
    del rows[1][column]
    (tmp_path / "log.jsonl").write_bytes(text(rows))
    found = read(tmp_path / "log.jsonl")
    assert len(found.rows) == 2
    assert found.bad_lines == {log.WRONG_SCHEMA: 1}


def test_rows_of_a_release_that_logged_no_digest_still_count(tmp_path: Path) -> None:
    rows = predictions(3, seed=1)
    for row in rows[:2]:
        del row["model_digest"]
    (tmp_path / "log.jsonl").write_bytes(text(rows))
    found = read(tmp_path / "log.jsonl")
    assert found.bad_lines == {}
    assert found.rows["model_digest"].isna().tolist() == [True, True, False]


def test_rows_of_before_sessions_and_quality_stand_beside_rows_of_now(
    tmp_path: Path, reference: Reference, params: MonitoringParams
) -> None:
    rows = predictions(600, seed=1)
    for row in rows[:300]:
        for name in ("session", "reliability", "yaw", "roll"):
            del row[name]
    (tmp_path / "log.jsonl").write_bytes(text([*rows[:300], *in_sessions(rows[300:], 10)]))
    found = read(tmp_path / "log.jsonl")
    assert found.bad_lines == {}
    assert found.rows["session"].nunique() == 30
    assert found.rows["session"].isna().tolist() == [True] * 300 + [False] * 300
    judged = verdict.reach(found, reference, params)
    assert (judged.state, judged.sessions, judged.people) == ("quiet", 30, 600**2 / (300 + 30 * 10**2))
    compared = {column.column: column.compared for column in judged.columns}
    assert (compared["yaw"], compared["reliability"], compared["brightness"]) == (300, 300, 600)
    assert judged.missing == {"reliability": 0.5, "yaw": 0.5, "roll": 0.5}


def test_a_row_of_an_image_without_a_face_is_no_bad_line(write_log: Write) -> None:
    row = predictions(1, seed=1)[0]
    kept = ("time", "request", "model_version", "model_digest", "latency_ms")
    empty = {name: None for name in row if name not in kept}
    found = read(write_log({**row, **empty, "outcome": "no_face", "faces": 0, "frame_width": 640, "frame_height": 480}))
    assert found.bad_lines == {}
    assert found.rows["outcome"].tolist() == ["no_face"]


def test_values_are_those_of_the_lines_in_the_reference_precision(write_log: Write) -> None:
    rows = predictions(50, seed=1)
    found = read(write_log(*rows)).rows
    assert list(found.columns) == list(COLUMNS)
    for name in log.NUMBERS:
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], np.array([row[name] for row in rows], np.float32))
    assert found["time"].tolist() == [pd.Timestamp(row["time"]) for row in rows]


def test_rotated_and_compressed_files_of_a_directory_are_one_log(tmp_path: Path) -> None:
    rows = predictions(20, seed=1)
    directory = tmp_path / "log"
    directory.mkdir()
    (directory / "predictions-1.jsonl.gz").write_bytes(gzip.compress(text(rows[:12])))
    (directory / "predictions-2.jsonl").write_bytes(text(rows[12:]))
    assert read(directory).rows["request"].tolist() == [f"1-{index}" for index in range(20)]


def test_a_line_in_two_files_counts_once_and_an_id_that_a_client_uses_again_twice(tmp_path: Path) -> None:
    rows = predictions(5, seed=1)
    directory = tmp_path / "log"
    directory.mkdir()
    (directory / "a").write_bytes(text(rows))
    (directory / "b").write_bytes(text(rows[:2]) + text([{**row, "request": "1-0"} for row in rows[2:]]))
    found = read(directory)
    assert found.totals.rows == len(found.rows) == 8
    assert found.bad_lines == {log.DUPLICATE: 2}


def test_a_time_is_an_age_or_a_date() -> None:
    assert log.parse_time("12h", NOW) == NOW - timedelta(hours=12)
    assert log.parse_time("2026-01-02", NOW).isoformat() == "2026-01-02T00:00:00+00:00"


def test_a_period_has_its_start_and_not_its_end(write_log: Write) -> None:
    rows = predictions(20, seed=1)
    first, end = (datetime.fromisoformat(rows[index]["time"]) for index in (5, 12))
    found = read(write_log(*rows), Selection(first, end))
    assert found.rows["request"].tolist() == [f"1-{index}" for index in range(5, 12)]
    assert (found.totals.first, found.totals.last) == (first, found.rows["time"].iloc[-1])


def test_daily_files_outside_the_period_are_not_opened(tmp_path: Path) -> None:
    directory, today = tmp_path / "log", NOW.date()
    for days in (1, 2, 40):
        daily(directory, today - timedelta(days=days), GARBAGE)
    (directory / f"predictions-{today - 3 * DAY}.jsonl.gz").write_bytes(gzip.compress(GARBAGE))
    midnight = datetime(today.year, today.month, today.day, tzinfo=UTC)
    rows = [{**row, "time": (midnight + timedelta(seconds=n)).isoformat()} for n, row in enumerate(predictions(3, 1))]
    daily(directory, today, text(rows))
    found = log.read(directory, now=NOW + DAY, tolerance=TOLERANCE, selection=Selection(since=midnight))
    assert (len(found.rows), found.bad_lines) == (3, {})
    earlier = read(directory, Selection(midnight - 30 * DAY, midnight - 2 * DAY))
    assert (len(earlier.rows), earlier.bad_lines) == (0, {log.INVALID_JSON: 2})


def test_a_row_written_just_after_midnight_belongs_to_the_day_of_its_time(tmp_path: Path) -> None:
    today = NOW.date()
    midnight = datetime(today.year, today.month, today.day, tzinfo=UTC)
    row = {**predictions(1, seed=1)[0], "time": (midnight - timedelta(milliseconds=3)).isoformat()}
    daily(tmp_path / "log", today, text([row]))
    assert len(read(tmp_path / "log", Selection(midnight - DAY, midnight)).rows) == 1


def test_the_names_of_the_services_own_files_are_known(tmp_path: Path) -> None:
    PredictionLog("predictions", str(tmp_path / "log")).export_data({"a": deque([1])})
    assert read(tmp_path / "log").bad_lines == {log.WRONG_SCHEMA: 1}
    assert read(tmp_path / "log", Selection(NOW - 9 * DAY, NOW - 5 * DAY)).bad_lines == {}


def test_a_file_that_was_last_changed_before_the_period_is_not_opened(tmp_path: Path) -> None:
    old, new = tmp_path / "log" / "old.jsonl", tmp_path / "log" / "new.jsonl"
    old.parent.mkdir()
    old.write_bytes(GARBAGE)
    new.write_bytes(text(predictions(5, seed=1)))
    os.utime(old, ((NOW - 3 * DAY).timestamp(),) * 2)
    found = read(old.parent, Selection(since=NOW - 2 * DAY))
    assert (len(found.rows), found.bad_lines) == (5, {})


def test_the_newest_rows_are_found_without_opening_older_files(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    by_day: dict[date, list[dict[str, Any]]] = {}
    for days in range(4):
        for row in predictions(30, seed=days):
            time = datetime.fromisoformat(row["time"]) - days * DAY
            by_day.setdefault(time.date(), []).append({**row, "time": time.isoformat()})
    for day, rows in by_day.items():
        daily(directory, day, text(sorted(rows, key=lambda row: row["time"])))
    daily(directory, (NOW - 40 * DAY).date(), GARBAGE)
    found = read(directory, Selection(newest=45))
    assert found.rows["request"].tolist() == [f"1-{n}" for n in range(15, 30)] + [f"0-{n}" for n in range(30)]
    assert found.totals.rows == 45
    assert found.bad_lines == {}
    assert len(read(directory, Selection(newest=500)).rows) == 120


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 24,000 rows, one every three seconds; every fifth one without a face, some without brightness. Half are
    of sessions of four frames."""
    path = tmp_path_factory.mktemp("many") / "predictions.jsonl"
    answered = predictions(1, seed=1)[0]
    faceless = {**answered, "outcome": "no_face", "mood": None, "faces": 0}
    with path.open("wb") as file:
        for index in range(24_000):
            row = {
                **(faceless if index % 5 == 0 else answered),
                "time": (NOW - timedelta(seconds=3 * (24_000 - index))).isoformat(timespec="milliseconds"),
                "request": f"many-{index}",
                "session": f"many-{index // 4:027}" if index % 8 < 4 else None,
            }
            if row["mood"]:
                row |= {"mood": MOODS[index % 3], "brightness": None if index % 100 == 3 else 0.5}
            file.write(text([row]))
    return path


def test_of_a_large_window_a_sample_is_kept_and_everything_is_counted(many: Path) -> None:
    full, found = read(many), read(many, limit=2000)
    assert len(found.rows) == 2000
    assert found.totals == full.totals == log.Totals.of(full.rows)
    assert found.totals.rows == 24_000
    assert found.totals.categories["outcome"] == {"answered": 19_200, "no_face": 4_800}
    assert (
        found.totals.missing["brightness"] == full.rows["brightness"][full.rows["outcome"] == "answered"].isna().sum()
    )


def test_the_verdict_on_a_sample_has_the_shares_and_rates_of_all_rows(
    many: Path, reference: Reference, params: MonitoringParams
) -> None:
    found = verdict.reach(read(many, limit=200), reference, params)
    columns = {column.column: column for column in found.columns}
    assert columns["outcome"].current == {"answered": 0.8, "no_face": 0.2}
    assert columns["outcome"].shift == pytest.approx(0.2)
    assert found.missing == {"brightness": 240 / 19_200}
    assert found.rows == 24_000
    page = " ".join(report.render(found, read(many, limit=200).rows, reference.rows, None).split())
    assert "24,000 predictions" in page
    assert "of which a random sample of 200 is compared with" in page


def test_the_sample_is_without_bias_and_the_same_in_each_run(many: Path) -> None:
    found = read(many, limit=2000).rows
    assert found["time"].is_monotonic_increasing
    assert found["request"].is_unique
    index = found["request"].str.removeprefix("many-").astype(int)
    assert index.mean() / 24_000 == pytest.approx(0.5, abs=4 * 0.29 / 2000**0.5)
    assert (found["outcome"] == "no_face").mean() == pytest.approx(0.2, abs=4 * 0.4 / 2000**0.5)
    pd.testing.assert_frame_equal(found, read(many, limit=2000).rows)


def test_rows_that_are_asked_for_are_kept_beside_the_sample(many: Path) -> None:
    wanted = {f"many-{index}" for index in range(0, 24_000, 1000)}
    found = read(many, limit=10, requests=wanted)
    assert found.labelled is not None
    assert set(found.labelled["request"]) == wanted


def peak_of_reading(path: Path) -> int:
    """Largest number of bytes that Python, NumPy and Arrow hold while a log is read."""
    default = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(default)
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        assert read(path, limit=1000).totals.rows == 24_000 * len(log.files(path))
        return tracemalloc.get_traced_memory()[1] + pool.max_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(default)


def test_memory_does_not_grow_with_the_log(many: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(many.read_bytes().replace(b"many-", f"{name}-".encode()))
    assert peak_of_reading(tmp_path) < 1.2 * peak_of_reading(many)


def test_windows_of_the_trends_are_counted_whole_and_read_one_by_one(many: Path) -> None:
    since = NOW - timedelta(hours=3)
    found = read(many, Selection(since=since, version="7"), trend_hours=2)
    full = read(many).rows
    starts = full["time"].dt.floor("2h")
    expected = full[starts >= log.floor(since, 2)].groupby(starts).size().to_dict()
    assert found.by_window == expected
    assert found.rows["time"].iloc[0] >= since
    chosen = sorted(expected)[1:]
    windows = log.read_windows(many, chosen, 2, now=NOW, tolerance=TOLERANCE, version="7", limit=50)
    assert {start: window.totals.rows for start, window in windows.items()} == {s: expected[s] for s in chosen}
    for start, window in windows.items():
        assert len(window.rows) == min(50, expected[start])
        assert set(window.rows["time"].dt.floor("2h")) == {start}


def test_a_sample_of_a_large_window_has_the_sessions_of_its_rows(many: Path) -> None:
    found = read(many, limit=2000).rows
    index = found["request"].str.removeprefix("many-").astype(int)
    expected = [f"many-{number // 4:027}" if number % 8 < 4 else None for number in index]
    assert found["session"].astype(object).where(found["session"].notna(), None).tolist() == expected
