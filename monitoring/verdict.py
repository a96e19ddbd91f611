"""The verdict on a window of live predictions: whether they have drifted, since when, in which columns, and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal

import pandas as pd

from monitoring import causes, comparison, label_metrics, quality
from monitoring.causes import Cause
from monitoring.comparison import ColumnDrift
from monitoring.log import Log
from monitoring.params import MonitoringParams
from monitoring.reference import Reference

State = Literal["quiet", "drifted", "unknown"]

EXIT_CODES: Final[dict[State, int]] = {"quiet": 0, "drifted": 2, "unknown": 2}
"""Exit codes of `monitoring.drift`, for schedulers: 2 if somebody must look.

`make` turns every failure of a command into its own 2, so drift and no verdict could not have codes of their own there.
"""

_TITLES: Final[dict[State, str]] = {"quiet": "No drift", "drifted": "Drifted", "unknown": "Cannot tell"}


@dataclass(frozen=True)
class Verdict:
    """The result for a window.

    Attributes:
        state: Result; `unknown` if there are too few rows.
        model_version: Version of the champion.
        reference: Description of the reference.
        rebased: Whether the reference is a live window.
        rows: Number of predictions in the window.
        first: Time of the first prediction.
        last: Time of the last prediction.
        since: Onset of the drift.
        before_window: Whether the drift fills the window, so that it may have begun earlier.
        causes: Probable causes, the most probable first.
        columns: Test results by column.
        proxies: Confidence and expected accuracy, see `monitoring.quality.proxies`.
        labels: Metrics of the labelled predictions, see `monitoring.label_metrics.measure`.
        missing: Share of predictions without a value, by column; columns without missing values are left out.
        versions: Number of rows in the window's period, by model version.
        bad_lines: Number of skipped lines of the log's files that were read, by reason.
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

    @property
    def headline(self) -> str:
        """The verdict in one line."""
        title = _TITLES[self.state]
        return f"{title}: {self.causes[0].title[0].lower()}{self.causes[0].title[1:]}" if self.causes else title

    @property
    def onset(self) -> str | None:
        """The onset as a sentence; None without drift."""
        if self.since is None:
            return None
        time = f"{self.since:%Y-%m-%d %H:%M} UTC"
        return f"Since {time} or earlier: the drift fills the window." if self.before_window else f"Since about {time}."

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
) -> Verdict:
    """Compare a window with the reference.

    Args:
        log: The window: rows of the reference's model version.
        reference: Reference of the comparison.
        params: Fewest rows, thresholds and rates.
        labels: Labels, see `monitoring.labels`.
    """
    rows, totals = log.rows, log.totals
    enough = totals.rows >= params.min_rows
    columns = comparison.compare(reference.rows, rows, params) if enough else []
    named = causes.name_causes(columns)
    since, before_window = _since(reference, rows, named, columns)
    late = rows[rows["time"] >= since] if since else rows
    if params.min_rows <= len(late) < len(rows):
        # The rows before the onset only dilute the change.
        named = causes.name_causes(comparison.compare(reference.rows, late, params)) or named
    answered = rows[rows["outcome"] == "answered"]
    bins = params.calibration_bins
    return Verdict(
        state=("drifted" if named else "quiet") if enough else "unknown",
        model_version=reference.model_version,
        reference=reference.description,
        rebased=reference.rebased is not None,
        rows=totals.rows,
        first=totals.first and totals.first.to_pydatetime(),
        last=totals.last and totals.last.to_pydatetime(),
        since=since,
        before_window=before_window,
        causes=named,
        columns=columns,
        proxies={} if answered.empty else quality.proxies(reference.labelled, reference.rows, rows, bins),
        labels=None if labels is None else label_metrics.measure(log, labels, reference, params),
        missing={name: totals.missing[name] / totals.answered for name in comparison.TESTED if totals.missing[name]},
        versions=log.versions,
        bad_lines=log.bad_lines,
    )


def _since(
    reference: Reference, rows: pd.DataFrame, named: list[Cause], columns: list[ColumnDrift]
) -> tuple[datetime | None, bool]:
    """Onset in the first cause's column, and whether it lies at the very start of the window."""
    if not named:
        return None, False
    column = next(found for found in columns if found.column == named[0].column)
    present = rows[rows[column.column].notna()]
    position = causes.onset(reference.rows[column.column], present[column.column], column.shift)
    return present["time"].iloc[position].to_pydatetime(), position <= len(present) // 50
