"""Reads the prediction log: the rows of a period, in bounded memory. Bad lines are counted by reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from numpy.typing import NDArray

from monitoring.log_blocks import DAMAGED_FILE, INVALID_JSON, NUMBERS, TEXTS, WRONG_SCHEMA, read_blocks
from monitoring.log_sample import Block, Collector, Totals, value_counts

__all__ = ["DAMAGED_FILE", "INVALID_JSON", "NUMBERS", "TEXTS", "WRONG_SCHEMA", "Log", "Totals"]

OTHER_VERSION: Final = "other model version"
CLOCK_WENT_BACK: Final = "clock went back"
IN_THE_FUTURE: Final = "time in the future"
DUPLICATE: Final = "duplicate request"

_AGE: Final = re.compile(r"(\d+(?:\.\d+)?)([mhdw])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DAILY: Final = re.compile(r"predictions-(\d{4}-\d{2}-\d{2})\.jsonl(\.gz)?")
"""Names that `service.prediction_log` gives to its files; they hold the rows of that day (UTC)."""
_HOUR: Final = 3_600_000_000_000  # nanoseconds
_ALWAYS: Final = (datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))


@dataclass(frozen=True)
class Log:
    """Rows of a prediction log, all of them or a sample.

    Attributes:
        rows: Valid rows, oldest first, with the columns of `service.observation.Observation`: `time` as timestamps in
            UTC, numbers as float32.
        bad_lines: Number of skipped lines by reason, in the files that were read.
        counted: Exact counts over all rows; None if `rows` holds all of them.
        by_version: Number of rows of the period by model version; None if `rows` holds all versions.
        by_window: Number of rows by start of a trend window, for each whole window that the period touches.
        labelled: Rows of the requests that were asked for; None if `rows` holds them.
    """

    rows: pd.DataFrame
    bad_lines: dict[str, int]
    counted: Totals | None = None
    by_version: dict[str, int] | None = None
    by_window: dict[pd.Timestamp, int] = field(default_factory=dict)
    labelled: pd.DataFrame | None = None

    @property
    def totals(self) -> Totals:
        """Exact counts over all rows."""
        return self.counted or Totals.of(self.rows)

    @property
    def counts_beside_sample(self) -> dict[str, Counter[str]] | None:
        """Number of all rows by value, by column of `CATEGORIES`; None if `rows` holds all rows."""
        totals = self.totals
        return totals.categories if totals.rows > len(self.rows) else None

    @property
    def versions(self) -> dict[str, int]:
        """Number of rows by model version, also of other versions than that of `rows`."""
        if self.by_version is not None:
            return self.by_version
        return {str(version): int(count) for version, count in self.rows["model_version"].value_counts().items()}


@dataclass(frozen=True)
class Selection:
    """A choice of rows.

    Attributes:
        since: First time.
        until: First time after the period.
        version: Model version.
        newest: Only so many of the newest rows that fit the other choices.
    """

    since: datetime | None = None
    until: datetime | None = None
    version: str | None = None
    newest: int | None = None


def read(
    path: Path,
    *,
    now: datetime,
    tolerance: timedelta,
    selection: Selection = Selection(),
    limit: int | None = None,
    requests: Collection[str] = (),
    trend_hours: float | None = None,
) -> Log:
    """Read rows of a log. Files that can hold none of them are not opened.

    Memory is bounded by `limit`, but for eight bytes a row of the period, by which a request that was logged twice is
    found.

    Args:
        path: File of JSON lines, or directory of such files; `.gz` is unpacked.
        now: Current time; later lines are bad.
        tolerance: Allowed distance of a time before the line above it or after `now`: several workers write the log.
        selection: Rows to read; default: all.
        limit: Largest number of rows to keep, as a uniform sample; None keeps all. Counts are exact in any case.
        requests: Requests whose rows are kept besides.
        trend_hours: Width of the windows of `Log.by_window`; None counts none.

    Raises:
        FileNotFoundError: There is no log at the path.
    """
    if selection.newest is not None:
        found = _start_of_newest(_Stream(path, now, tolerance, selection), selection.version, selection.newest)
        selection = replace(selection, since=found or selection.since)
    since, _ = _nanoseconds(selection)
    width = round((trend_hours or 0) * _HOUR)
    start = selection.since and trend_hours and floor(selection.since, trend_hours)
    stream = _Stream(path, now, tolerance, replace(selection, since=start or selection.since))
    collector, versions, windows = Collector(limit, requests), Counter[str](), Counter[int]()
    for block in stream:
        own = _of_version(block, selection.version)
        if width:
            windows.update((own.times // width).tolist())
        versions.update(value_counts(block.where(block.times >= since).table["model_version"]))
        collector.add(own.where(own.times >= since))
    others = sum(versions.values()) - collector.totals.rows
    rows, totals = collector.rows(), collector.totals
    if selection.newest is not None and len(rows) == totals.rows > selection.newest:  # rows of the same millisecond
        rows, totals = (newest := rows.tail(selection.newest).reset_index(drop=True)), Totals.of(newest)
    return Log(
        rows=rows,
        bad_lines={**stream.bad, **({OTHER_VERSION: others} if others else {})},
        counted=totals,
        by_version=dict(versions),
        by_window={pd.Timestamp(index * width, tz="UTC"): count for index, count in sorted(windows.items())},
        labelled=collector.wanted() if requests else None,
    )


def read_windows(
    path: Path,
    starts: Collection[datetime],
    hours: float,
    *,
    now: datetime,
    tolerance: timedelta,
    version: str,
    limit: int,
) -> dict[pd.Timestamp, Log]:
    """The rows of several windows in one pass.

    Args:
        path: As for `read`.
        starts: Starts of the windows, as in `Log.by_window`.
        hours: Width of a window.
        now: As for `read`.
        tolerance: As for `read`.
        version: Model version of the rows.
        limit: Largest number of rows to keep of each window.

    Returns:
        Each window by its start, the oldest first.
    """
    if not starts:
        return {}
    width = round(hours * _HOUR)
    collectors = {pd.Timestamp(start).value: Collector(limit) for start in sorted(starts)}
    period = Selection(min(starts), max(starts) + timedelta(hours=hours))
    stream = _Stream(path, now, tolerance, period)
    for block in stream:
        own = _of_version(block, version)
        begins = own.times // width * width
        for begin in np.unique(begins).tolist():
            if begin in collectors:
                collectors[begin].add(own.where(begins == begin))
    return {
        pd.Timestamp(begin, tz="UTC"): Log(collector.rows(), {}, collector.totals)
        for begin, collector in collectors.items()
    }


def floor(time: datetime, hours: float) -> datetime:
    """The start of a time's window, which must have a time zone; windows are counted from midnight UTC."""
    return pd.Timestamp(time).tz_convert("UTC").floor(pd.Timedelta(hours=hours)).to_pydatetime()


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


class _Stream:
    """The valid rows of a period, block by block, each once, from the newest file to the oldest.

    Attributes:
        bad: Number of skipped lines of the files read so far, by reason.
    """

    def __init__(self, path: Path, now: datetime, tolerance: timedelta, selection: Selection) -> None:
        self.bad: Counter[str] = Counter()
        self._path = path
        self._tolerance = tolerance
        self._now = pd.Timestamp(now).value
        self._slack = pd.Timedelta(tolerance).value
        self._since, self._until = _nanoseconds(selection)
        self._seen: dict[int, NDArray[np.uint64]] = {}

    def __iter__(self) -> Iterator[Block]:
        for file, _ in self.files():
            yield from self.blocks(file)

    def files(self) -> list[tuple[Path, int]]:
        """The files that may hold rows of the period, and the time after which each holds none; the newest first."""
        found = []
        for file in files(self._path):
            first, end = (pd.Timestamp(time).value for time in _span(file, self._tolerance))
            if first < self._until and self._since < end:
                found.append((file, end))
        return sorted(found, key=lambda entry: entry[1], reverse=True)

    def blocks(self, file: Path) -> Iterator[Block]:
        """The rows of a file that belong to the period."""
        previous: int | None = None
        with suppress(FileNotFoundError):  # the service has just deleted it
            for table in read_blocks(file, self.bad):
                times = table["time"].cast("int64").to_numpy()
                future = times > self._now + self._slack
                known = times[~future]
                if not len(known):
                    self._count(IN_THE_FUTURE, future)
                    continue
                before = np.concatenate([known[:1] if previous is None else [previous], known[:-1]])
                previous = int(known[-1])
                back = np.zeros(len(times), np.bool_)
                back[~future] = known < before - self._slack
                self._count(IN_THE_FUTURE, future)
                self._count(CLOCK_WENT_BACK, back)
                chosen = ~future & ~back & (times >= self._since) & (times < self._until)
                if chosen.any():
                    block = Block(table, times, _keys(table["request"].to_numpy(), times)).where(chosen)
                    new = self._new(block)
                    self._count(DUPLICATE, ~new)
                    yield block.where(new)

    def _count(self, reason: str, lines: NDArray[np.bool_]) -> None:
        if count := int(lines.sum()):
            self.bad[reason] += count

    def _new(self, block: Block) -> NDArray[np.bool_]:
        """Which rows have not been seen yet, bool (rows,)."""
        new = np.zeros(len(block.keys), np.bool_)
        hours = block.times // _HOUR  # both copies of a row have the same time, so that each hour has its own keys
        for hour in np.unique(hours).tolist():
            positions = np.flatnonzero(hours == hour)
            keys, first = np.unique(block.keys[positions], return_index=True)
            seen = self._seen.get(hour, np.empty(0, np.uint64))
            unknown = ~np.isin(keys, seen, assume_unique=True)
            new[positions[first[unknown]]] = True
            self._seen[hour] = np.concatenate([seen, keys[unknown]])
        return new


def _keys(requests: NDArray[np.object_], times: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hashes of request and time, uint64 (rows,).

    A client may use an id again, if the service's settings let it choose: those are two requests.
    """
    return pd.util.hash_array(requests, categorize=False) ^ pd.util.hash_array(times)


def _of_version(block: Block, version: str | None) -> Block:
    """The rows of a model version; all of them for None."""
    if version is None:
        return block
    return block.where(pc.equal(block.table["model_version"], version).to_numpy())


def _start_of_newest(stream: _Stream, version: str | None, count: int) -> datetime | None:
    """Time of the row that has `count - 1` newer ones; None if there are fewer."""
    times = np.empty(0, np.int64)
    for file, end in stream.files():
        if len(times) == count and end <= times.min():
            break
        for block in stream.blocks(file):
            times = np.concatenate([times, _of_version(block, version).times])
            if len(times) > count:
                times = np.partition(times, -count)[-count:]
    return pd.Timestamp(times.min(), tz="UTC").to_pydatetime() if len(times) == count else None


def _nanoseconds(selection: Selection) -> tuple[int, int]:
    """Start and end of a selection, since 1970."""
    first, end = selection.since or _ALWAYS[0], selection.until or _ALWAYS[1]
    return pd.Timestamp(first).value, pd.Timestamp(end).value


def _span(file: Path, tolerance: timedelta) -> tuple[datetime, datetime]:
    """The time from which and the time before which a file may hold rows.

    A daily file holds one day, but for rows that were written just after midnight. Of any other file only its last
    change is known.
    """
    day = _day(file.name)
    if day is not None:
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return start - tolerance, start + timedelta(days=1)
    changed = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    return _ALWAYS[0], changed + tolerance


def _day(name: str) -> date | None:
    """The day of a daily file; None for any other file."""
    named = _DAILY.fullmatch(name)
    with suppress(ValueError):  # there is no such day
        return date.fromisoformat(named[1]) if named else None
    return None
