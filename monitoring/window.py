"""The window of predictions that a command looks at: its command line options and its rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from monitoring import log
from monitoring.log import Log
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


def read_log(path: Path | None, params: MonitoringParams) -> Log:
    """The log at a path, or at that of the parameters; see `monitoring.log.read`."""
    tolerance = timedelta(seconds=params.clock_tolerance_seconds)
    return log.read(path or params.log, now=datetime.now(UTC), tolerance=tolerance)


def read_window(
    reference: Reference,
    params: MonitoringParams,
    *,
    since: str | None,
    until: str | None = None,
    newest: int | None,
    model_version: str | None,
    path: Path | None,
) -> tuple[Log, Log]:
    """The whole log, and the window: rows of the reference's model version that the options select.

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
    whole = read_log(path, params)
    window = whole.of_version(reference.model_version)
    if first:
        window = window.since(first)
    if end:
        window = window.until(end)
    return whole, window.last(newest) if newest else window


def parse_period(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """Start and end of the options `--since` and `--until`; the end does not belong to the period. None is open.

    Raises:
        ValueError: One is no time, or no time lies between them.
    """
    now = datetime.now(UTC)
    first, end = (log.parse_time(text, now) if text else None for text in (since, until))
    if first and end and first >= end:
        raise ValueError(
            f"--until {until} ({end:%Y-%m-%d %H:%M}) is not after --since {since} ({first:%Y-%m-%d %H:%M})."
        )
    return first, end
