"""The prediction log, read for what it is worth: bad lines are counted by what is wrong with them, the rest is used."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pandas as pd

from service.moods import MOODS
from service.observation import COLUMNS, PROBABILITIES

HALF_A_LINE: Final = "half a line"
OTHER_SCHEMA: Final = "other schema"
OTHER_VERSION: Final = "other model version"
CLOCK_WENT_BACK: Final = "clock going back"
IN_THE_FUTURE: Final = "time in the future"
TWICE: Final = "same request twice"

TEXTS: Final = ("time", "request", "model_version", "outcome", "mood")
NUMBERS: Final = tuple(name for name in COLUMNS if name not in TEXTS)

_REQUIRED: Final = frozenset(COLUMNS)
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([mhdw])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Log:
    """What a log holds.

    Attributes:
        rows: the usable ones, with the columns of `service.observation.Observation`, oldest first; `time` as
            timestamps in UTC, numbers as float64.
        bad_lines: how many lines were left out, by reason.
    """

    rows: pd.DataFrame
    bad_lines: dict[str, int]

    @property
    def versions(self) -> dict[str, int]:
        """Number of rows by model version."""
        return {str(version): int(count) for version, count in self.rows["model_version"].value_counts().items()}

    def of_version(self, version: str) -> Log:
        """Without the rows of other model versions, which are counted among the bad lines."""
        own = self.rows["model_version"] == version
        others = int((~own).sum())
        counted = {**self.bad_lines, **({OTHER_VERSION: others} if others else {})}
        return Log(self.rows[own].reset_index(drop=True), counted)

    def since(self, start: datetime) -> Log:
        """Without the rows from before a time, which must have a time zone."""
        return Log(self.rows[self.rows["time"] >= start].reset_index(drop=True), self.bad_lines)

    def last(self, count: int) -> Log:
        """The newest rows."""
        return Log(self.rows.tail(count).reset_index(drop=True), self.bad_lines)


def read(path: Path, *, now: datetime, tolerance: timedelta) -> Log:
    """Read a log.

    Args:
        path: a file of JSON lines, or a directory whose files are read in the order of their names; `.gz` is unpacked.
        now: lines from after this are left out.
        tolerance: how far times may run backwards or ahead: several workers write, on one clock.

    Raises:
        FileNotFoundError: there is nothing at the path.
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
        bad[TWICE] = int(repeated.sum())
    return Log(table[~repeated].reset_index(drop=True), dict(bad))


def files(path: Path) -> list[Path]:
    """The files that a log consists of.

    Raises:
        FileNotFoundError: there are none.
    """
    found = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    if not found or not found[0].exists():
        raise FileNotFoundError(f"There is no prediction log at {path}. Is the service told to keep one?")
    return found


def parse_since(text: str, now: datetime) -> datetime:
    """A start, given as an age (`90m`, `12h`, `7d`, `2w`) or as a date or time in ISO 8601, UTC where it has no zone.

    Raises:
        ValueError: it is neither.
    """
    if age := _DURATION.fullmatch(text):
        return now - timedelta(**{_UNITS[age[2]]: float(age[1])})
    start = datetime.fromisoformat(text)
    return start if start.tzinfo else start.replace(tzinfo=now.tzinfo)


def _lines(file: Path) -> Iterator[bytes]:
    """The lines of a file that are not empty."""
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
        yield from (line for line in stream if line.strip())


def _parse(line: bytes) -> tuple[dict[str, Any] | None, str | None]:
    """A line as a record whose time is a `datetime`, or what is wrong with it."""
    try:
        record = json.loads(line)
    except ValueError:
        return None, HALF_A_LINE
    if not isinstance(record, dict) or not record.keys() >= _REQUIRED:
        return None, OTHER_SCHEMA
    try:
        record["time"] = datetime.fromisoformat(record["time"])
    except (TypeError, ValueError):
        return None, OTHER_SCHEMA
    return (record, None) if _plausible(record) else (None, OTHER_SCHEMA)


def _plausible(record: dict[str, Any]) -> bool:
    """Whether a record's values are of the kinds that the service writes."""
    answered = record["outcome"] == "answered"
    return (
        (answered or record["outcome"] == "no_face")
        and record["time"].tzinfo is not None
        and isinstance(record["request"], str)
        and isinstance(record["model_version"], str)
        and all(_number(record[name]) for name in NUMBERS)
        and (not answered or (record["mood"] in MOODS and all(record[name] is not None for name in PROBABILITIES)))
    )


def _number(value: object) -> bool:
    """Whether a value is a number, or absent."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
