"""The verdict on a window of live predictions: drifted or not, since when, in what, and why probably."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal

import pandas as pd

from monitoring import causes, comparison, quality
from monitoring.causes import Cause
from monitoring.comparison import ColumnDrift
from monitoring.log import Log
from monitoring.params import MonitoringParams
from monitoring.reference import Reference

State = Literal["quiet", "drifted", "unknown"]

EXIT_CODES: Final[dict[State, int]] = {"quiet": 0, "drifted": 3, "unknown": 2}
"""What a scheduler acts on."""


@dataclass(frozen=True)
class Verdict:
    """What is said of a window.

    Attributes:
        state: `unknown` where there are too few rows to tell.
        model_version: of the champion.
        reference: what it was compared with, for people.
        rebased: whether that is a live window.
        rows: how many predictions were looked at.
        first: time of the first of them.
        last: time of the last.
        since: time from which the drift shows.
        before_window: whether it shows from the very beginning, and may be older.
        causes: the likeliest first.
        columns: what the tests found.
        proxies: see `monitoring.quality.proxies`.
        labels: see `monitoring.quality.from_labels`.
        missing: share of the answered rows that lack a value, by column; only where there are such.
        versions: rows in the log by model version.
        bad_lines: lines of the log that were left out, by reason.
    """

    state: State
    model_version: str
    reference: str
    rebased: bool
    rows: int
    first: datetime | None
    last: datetime | None
    since: datetime | None
    before_window: bool
    causes: list[Cause]
    columns: list[ColumnDrift]
    proxies: dict[str, float]
    labels: dict[str, Any] | None
    missing: dict[str, float]
    versions: dict[str, int]
    bad_lines: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """The verdict for machines; times in ISO 8601."""
        values = asdict(self)
        times = {key: value.isoformat() if isinstance(value, datetime) else value for key, value in values.items()}
        return {**times, "exit_code": EXIT_CODES[self.state]}


def reach(
    log: Log,
    reference: Reference,
    params: MonitoringParams,
    *,
    labels: pd.DataFrame | None = None,
    versions: dict[str, int] | None = None,
) -> Verdict:
    """Judge a window.

    Args:
        log: the rows to be looked at, of the reference's model version.
        reference: what they are compared with.
        params: of the section `monitoring`.
        labels: by request, where some have come; see `monitoring.quality.read_labels`.
        versions: rows by model version before the log was narrowed down.
    """
    rows = log.rows
    enough = len(rows) >= params.min_rows
    columns = comparison.compare(reference.rows, rows, params) if enough else []
    named = causes.name_causes(columns)
    since, before_window = _since(reference, rows, named, columns)
    late = rows[rows["time"] >= since] if since else rows
    if params.min_rows <= len(late) < len(rows):
        # What came before the change only blurs what changed.
        columns_since = comparison.compare(reference.rows, late, params)
        named = causes.name_causes(columns_since) or named
    answered = rows[rows["outcome"] == "answered"]
    missing = answered[list(comparison.TESTED)].isna().mean()
    return Verdict(
        state=("drifted" if named else "quiet") if enough else "unknown",
        model_version=reference.model_version,
        reference=reference.description,
        rebased=reference.rebased is not None,
        rows=len(rows),
        first=None if rows.empty else rows["time"].iloc[0].to_pydatetime(),
        last=None if rows.empty else rows["time"].iloc[-1].to_pydatetime(),
        since=since,
        before_window=before_window,
        causes=named,
        columns=columns,
        proxies={}
        if answered.empty
        else quality.proxies(reference.labelled, reference.rows, rows, params.calibration_bins),
        labels=None if labels is None else quality.from_labels(rows, labels, params.calibration_bins),
        missing={str(name): float(share) for name, share in missing[missing > 0].items()},
        versions=versions or log.versions,
        bad_lines=log.bad_lines,
    )


def _since(
    reference: Reference, rows: pd.DataFrame, named: list[Cause], columns: list[ColumnDrift]
) -> tuple[datetime | None, bool]:
    """When the first cause's column began to drift, and whether that is as early as the window reaches."""
    if not named:
        return None, False
    column = next(found for found in columns if found.column == named[0].column)
    present = rows[rows[column.column].notna()]
    position = causes.onset(reference.rows[column.column], present[column.column], column.shift)
    return present["time"].iloc[position].to_pydatetime(), position <= len(present) // 50
