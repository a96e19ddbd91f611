"""Reads the prediction log. Bad lines are counted by reason, all others are used."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from service.moods import MOODS
from service.observation import COLUMNS, PROBABILITIES, Observation

INVALID_JSON: Final = "invalid JSON"
WRONG_SCHEMA: Final = "wrong schema"
OTHER_VERSION: Final = "other model version"
CLOCK_WENT_BACK: Final = "clock went back"
IN_THE_FUTURE: Final = "time in the future"
DUPLICATE: Final = "duplicate request"

TEXTS: Final = ("time", "request", "model_version", "outcome", "mood")
NUMBERS: Final = tuple(name for name in COLUMNS if name not in TEXTS)

_ROW: Final = TypeAdapter(Observation)
_AGE: Final = re.compile(r"(\d+(?:\.\d+)?)([mhdw])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Log:
    """Content of a prediction log, or of a window of it.

    Attributes:
        rows: Valid rows, oldest first, with the columns of `service.observation.Observation`: `time` as timestamps in
            UTC, numbers as float64.
        bad_lines: Number of skipped lines by reason.
    """

    rows: pd.DataFrame
    bad_lines: dict[str, int]

    @property
    def versions(self) -> dict[str, int]:
        """Number of rows by model version."""
        return {str(version): int(count) for version, count in self.rows["model_version"].value_counts().items()}

    def of_version(self, version: str) -> Log:
        """The rows of one model version; the others are counted as bad lines."""
        own = self.rows["model_version"] == version
        others = int((~own).sum())
        counted = {**self.bad_lines, **({OTHER_VERSION: others} if others else {})}
        return Log(self.rows[own].reset_index(drop=True), counted)

    def since(self, start: datetime) -> Log:
        """The rows from a time on, which must have a time zone."""
        return Log(self.rows[self.rows["time"] >= start].reset_index(drop=True), self.bad_lines)

    def until(self, end: datetime) -> Log:
        """The rows before a time, which must have a time zone."""
        return Log(self.rows[self.rows["time"] < end].reset_index(drop=True), self.bad_lines)

    def last(self, count: int) -> Log:
        """The newest rows."""
        return Log(self.rows.tail(count).reset_index(drop=True), self.bad_lines)


def read(path: Path, *, now: datetime, tolerance: timedelta) -> Log:
    """Read a log.

    Args:
        path: File of JSON lines, or directory whose files are read in the order of their names; `.gz` is unpacked.
        now: Current time; later lines are bad.
        tolerance: Allowed distance of a time before the line above it or after `now`: several workers write the log.

    Raises:
        FileNotFoundError: There is no log at the path.
    """
    bad: Counter[str] = Counter()
    records: list[dict[str, Any]] = []
    for file in files(path):
        before: datetime | None = None
        for line in _lines(file):
            record, reason = _parse(line)
            if record is not None:
                time = record["time"]
                if time > now + tolerance:
                    reason = IN_THE_FUTURE
                elif before is not None and time < before - tolerance:
                    reason = CLOCK_WENT_BACK
                if reason != IN_THE_FUTURE:
                    before = time
            if reason:
                bad[reason] += 1
            elif record is not None:
                records.append(record)
    table = pd.DataFrame(records, columns=list(COLUMNS))
    table["time"] = pd.to_datetime(table["time"], utc=True)
    table = table.astype(dict.fromkeys(NUMBERS, "float64")).sort_values("time", kind="stable")
    repeated = table["request"].duplicated()
    if repeated.any():
        bad[DUPLICATE] = int(repeated.sum())
    return Log(table[~repeated].reset_index(drop=True), dict(bad))


def files(path: Path) -> list[Path]:
    """The files of a log.

    Raises:
        FileNotFoundError: There are none.
    """
    found = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    if not found or not found[0].exists():
        raise FileNotFoundError(f"There is no prediction log at {path}. Set MEAA_PREDICTION_LOG for the service.")
    return found


def parse_time(text: str, now: datetime) -> datetime:
    """A time from an age (`90m`, `12h`, `7d`, `2w`) or an ISO 8601 date or time, which is UTC without a time zone.

    Raises:
        ValueError: The text is neither.
    """
    if age := _AGE.fullmatch(text):
        return now - timedelta(**{_UNITS[age[2]]: float(age[1])})
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither an age such as 12h or 7d nor a date") from None
    return time if time.tzinfo else time.replace(tzinfo=now.tzinfo)


def _lines(file: Path) -> Iterator[bytes]:
    """The non-empty lines of a file."""
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
        yield from (line for line in stream if line.strip())


def _parse(line: bytes) -> tuple[dict[str, Any] | None, str | None]:
    """A line as a record with its time as a `datetime`, or None and the reason why the line is bad."""
    try:
        record = dict(vars(_ROW.validate_json(line, strict=True)))
        record["time"] = datetime.fromisoformat(record["time"])
    except ValidationError as error:
        return None, INVALID_JSON if error.errors()[0]["type"] == "json_invalid" else WRONG_SCHEMA
    except ValueError:  # no time
        return None, WRONG_SCHEMA
    missing = record["mood"] not in MOODS or any(record[name] is None for name in PROBABILITIES)
    if record["time"].tzinfo is None or (record["outcome"] == "answered" and missing):
        return None, WRONG_SCHEMA
    return record, None
