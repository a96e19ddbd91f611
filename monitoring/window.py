"""The window of predictions that a command looks at: its command line options and its rows."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from monitoring import log
from monitoring.log import Log, Selection
from monitoring.params import MonitoringParams
from monitoring.reference import Reference

Since = Annotated[str | None, typer.Option(help="An age (90m, 12h, 7d, 2w) or a date; default: the whole log.")]
Until = Annotated[
    str | None, typer.Option(help="The first time after the window: an age or a date, as --since; default: now.")
]
Newest = Annotated[int | None, typer.Option("--window", min=1, help="Only this many of the newest predictions.")]
ModelVersion = Annotated[str | None, typer.Option(help="Default: the reference's version.")]
LogPath = Annotated[
    Path | None, typer.Option("--log", help="File or directory; default: MEAA_PREDICTION_LOG, else params.yaml.")
]


def read_window(
    reference: Reference,
    params: MonitoringParams,
    *,
    since: str | None,
    until: str | None,
    newest: int | None,
    model_version: str | None,
    path: Path | None,
    requests: Collection[str] = (),
) -> Log:
    """The window: rows of the reference's model version that the options select, at most `sample_rows` of them.

    Args:
        reference: Reference of the comparison.
        params: Log, tolerance of its times, number of rows, and width of a trend window.
        since: Value of `--since`.
        until: Value of `--until`.
        newest: Value of `--window`.
        model_version: Value of `--model-version`.
        path: Value of `--log`.
        requests: Requests whose rows are kept besides (`Log.labelled`).

    Raises:
        FileNotFoundError: There is no log.
        ValueError: The reference belongs to another model version, `since` or `until` is no time, or `until` is not
            after `since`.
    """
    if model_version not in (None, reference.model_version):
        raise ValueError(
            f"The reference belongs to version {reference.model_version}; check out the bundle of {model_version}."
        )
    first, end = parse_period(since, until)
    return log.read(
        path or params.log,
        now=datetime.now(UTC),
        tolerance=tolerance(params),
        selection=Selection(first, end, reference.model_version, newest),
        limit=params.sample_rows,
        requests=requests,
        trend_hours=params.trend_hours,
    )


def read_trends(
    reference: Reference, params: MonitoringParams, path: Path | None, starts: Collection[pd.Timestamp]
) -> dict[pd.Timestamp, Log]:
    """Windows of the trends, at most `sample_rows` rows of all together.

    Args:
        reference: Reference of the comparison.
        params: Log, tolerance of its times, number of rows, and width of a window.
        path: Value of `--log`.
        starts: Starts of the windows, as in `Log.by_window`.
    """
    return log.read_windows(
        path or params.log,
        starts,
        params.trend_hours,
        now=datetime.now(UTC),
        tolerance=tolerance(params),
        version=reference.model_version,
        limit=max(params.min_rows, params.sample_rows // max(1, len(starts))),
    )


def read_requests(requests: Collection[str], params: MonitoringParams, path: Path | None) -> Log:
    """All rows of some requests, of every time and model version.

    Args:
        requests: Ids of the requests, at least one.
        params: Log and tolerance of its times.
        path: Value of `--log`.

    Raises:
        FileNotFoundError: There is no log.
    """
    found = log.read(path or params.log, now=datetime.now(UTC), tolerance=tolerance(params), limit=0, requests=requests)
    return Log(found.rows if found.labelled is None else found.labelled, found.bad_lines)


def parse_period(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """Start and end of the options `--since` and `--until`; the end does not belong to the period. None is open.

    Raises:
        ValueError: One is no time, or no time lies between them.
    """
    now = datetime.now(UTC)
    first, end = (log.parse_time(text, now) if text else None for text in (since, until))
    if first and end and first >= end:
        raise ValueError(f"--until {until} ({end:%Y-%m-%d %H:%M} UTC) is not after --since {since}.")
    return first, end


def tolerance(params: MonitoringParams) -> timedelta:
    """Allowed distance of a line's time before that of the line above it or after now."""
    return timedelta(seconds=params.clock_tolerance_seconds)
