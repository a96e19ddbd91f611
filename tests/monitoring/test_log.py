from __future__ import annotations

import gzip
from datetime import timedelta
from pathlib import Path

import pytest

from monitoring import log
from tests.support.predictions import NOW, TOLERANCE, Write, predictions


def test_bad_lines_are_counted_by_reason_and_all_others_are_used(write_log: Write) -> None:
    good = predictions(50, seed=1)
    back = {**good[40], "request": "back", "time": (NOW - timedelta(days=2)).isoformat()}
    ahead = {**good[40], "request": "ahead", "time": (NOW + timedelta(days=2)).isoformat()}
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
    selection = log.Selection(version="7")
    found = log.read(path, now=NOW, tolerance=timedelta(minutes=10), selection=selection)
    assert len(found.rows) == 50
    assert found.bad_lines == {
        log.INVALID_JSON: 1,
        log.WRONG_SCHEMA: 2,
        log.IN_THE_FUTURE: 1,
        log.CLOCK_WENT_BACK: 1,
        log.DUPLICATE: 1,
        log.OTHER_VERSION: 5,
    }


@pytest.mark.parametrize(
    "change",
    [{"outcome": "maybe"}, {"mood": "glad"}, {"brightness": "dark"}, {"time": 5}, {"probability_other": None}],
    ids=lambda change: next(iter(change)),
)
def test_a_row_with_a_value_that_the_service_never_writes_has_the_wrong_schema(write_log: Write, change: dict) -> None:
    row, *others = predictions(3, seed=1)
    found = log.read(write_log({**row, **change}, *others), now=NOW, tolerance=TOLERANCE)
    assert len(found.rows) == 2
    assert found.bad_lines == {log.WRONG_SCHEMA: 1}


def test_a_row_of_an_image_without_a_face_is_no_bad_line(write_log: Write) -> None:
    row = predictions(1, seed=1)[0]
    kept = ("time", "request", "model_version", "model_digest", "latency_ms")
    empty = {name: None for name in row if name not in kept}
    found = log.read(
        write_log({**row, **empty, "outcome": "no_face", "faces": 0, "frame_width": 640, "frame_height": 480}),
        now=NOW,
        tolerance=TOLERANCE,
    )
    assert found.bad_lines == {}
    assert found.rows["outcome"].tolist() == ["no_face"]


def test_rotated_and_compressed_files_of_a_directory_are_one_log(tmp_path: Path, write_log: Write) -> None:
    text = write_log(*predictions(20, seed=1)).read_bytes()
    lines = text.splitlines(keepends=True)
    directory = tmp_path / "log"
    directory.mkdir()
    (directory / "predictions-1.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[:12])))
    (directory / "predictions-2.jsonl").write_bytes(b"".join(lines[12:]))
    found = log.read(directory, now=NOW, tolerance=TOLERANCE)
    assert found.rows["request"].tolist() == [f"1-{index}" for index in range(20)]


def test_a_request_in_two_files_counts_once(tmp_path: Path, write_log: Write) -> None:
    text = write_log(*predictions(5, seed=1)).read_text()
    directory = tmp_path / "log"
    directory.mkdir()
    for name in ("a", "b"):
        (directory / name).write_text(text)
    found = log.read(directory, now=NOW, tolerance=TOLERANCE)
    assert len(found.rows) == 5
    assert found.bad_lines == {log.DUPLICATE: 5}


def test_the_start_of_a_window_is_an_age_or_a_date() -> None:
    assert log.parse_time("12h", NOW) == NOW - timedelta(hours=12)
    assert log.parse_time("2026-01-02", NOW).isoformat() == "2026-01-02T00:00:00+00:00"
