"""The verdict on a window of live predictions: whether they have drifted, since when, in which columns, and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal

import pandas as pd

from monitoring import causes, comparison, label_metrics, quality
from monitoring.causes import Cause
from monitoring.comparison import ColumnDrift
from monitoring.drift_tests import SESSION, people, session_codes
from monitoring.log import Log
from monitoring.params import MonitoringParams
from monitoring.reference import Reference

State = Literal["quiet", "drifted", "unknown"]

EXIT_CODES: Final[dict[State, int]] = {"quiet": 0, "drifted": 2, "unknown": 2}
"""Exit codes of `monitoring.drift`, for schedulers: 2 if somebody must look.

`make` turns every failure of a command into its own 2, so drift and no verdict could not have codes of their own there.
"""

_TITLES: Final[dict[State, str]] = {"quiet": "No drift", "drifted": "Drifted", "unknown": "Cannot tell"}
_IN_HEADLINE: Final = 3  # causes


@dataclass(frozen=True)
class Verdict:
    """The result for a window.

    Attributes:
        state: Result; `unknown` if there are too few rows or people.
        reason: Why the state is unknown, as a sentence; None if it is known.
        model_version: Version of the champion.
        baseline: Name of the reference, for sentences: "the reference photos" or "your rebased window".
        reference: Description of the reference.
        rebased: Whether the reference is a live window.
        rows: Number of predictions in the window.
        sessions: Number of sessions of the compared predictions; 0 if the log knows none.
        people: Number of people whose equally many predictions would weigh as those do that are compared; see
            `monitoring.drift_tests.people`. None if the log knows no session.
        first: Time of the first prediction.
        last: Time of the last prediction.
        since: Onset of the first cause.
        before_window: Whether the first cause fills the window, so that it may have begun earlier.
        causes: Probable causes; what began within the window comes first.
        columns: Test results by column.
        proxies: Confidence and expected accuracy, see `monitoring.quality.proxies`.
        labels: Metrics of the labelled predictions, see `monitoring.label_metrics.measure`.
        missing: Share of predictions without a value, by column; columns without missing values are left out.
        versions: Number of rows in the window's period, by model version.
        bad_lines: Number of skipped lines of the log's files that were read, by reason.
    """

    state: State
    reason: str | None
    model_version: str
    baseline: str
    reference: str
    rebased: bool
    rows: int
    sessions: int
    people: float | None
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
        if self.state == "unknown":
            return _TITLES[self.state]
        title = f"{_TITLES[self.state]} against {self.baseline}"
        names = [f"{cause.title[0].lower()}{cause.title[1:]}" for cause in self.causes]
        more = [f"{len(names) - _IN_HEADLINE} more"] if len(names) > _IN_HEADLINE else []
        return f"{title}: {', '.join(names[:_IN_HEADLINE] + more)}" if names else title

    @property
    def onset(self) -> str | None:
        """The first cause's onset as a sentence; None without drift."""
        return self.causes[0].onset if self.causes else None

    def as_json(self) -> dict[str, Any]:
        """The verdict for machines; times in ISO 8601."""
        values = _with_texts(asdict(self))
        values["causes"] = [_with_texts(cause) for cause in values["causes"]]
        return {**values, "headline": self.headline, "exit_code": EXIT_CODES[self.state]}


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
    sessions, weight = _people(rows)
    reason = too_few(log, params)
    enough = reason is None
    counts = log.counts_beside_sample
    columns = comparison.compare(reference.rows, rows, params, counts=counts) if enough else []
    named = _name_causes(reference, rows, columns, params)
    answered = rows[rows["outcome"] == "answered"]
    bins = params.calibration_bins
    return Verdict(
        state=("drifted" if named else "quiet") if enough else "unknown",
        reason=reason,
        model_version=reference.model_version,
        baseline=reference.name,
        reference=reference.description,
        rebased=reference.rebased is not None,
        rows=totals.rows,
        sessions=sessions,
        people=weight,
        first=totals.first and totals.first.to_pydatetime(),
        last=totals.last and totals.last.to_pydatetime(),
        since=named[0].since if named else None,
        before_window=bool(named) and named[0].before_window,
        causes=named,
        columns=columns,
        proxies={} if answered.empty else quality.proxies(reference.labelled, reference.rows, rows, bins),
        labels=None if labels is None else label_metrics.measure(log, labels, reference, params),
        missing={name: totals.missing[name] / totals.answered for name in comparison.TESTED if totals.missing[name]},
        versions=log.versions,
        bad_lines=log.bad_lines,
    )


def too_few(log: Log, params: MonitoringParams) -> str | None:
    """Why a window allows no verdict, as a sentence; None if it does.

    Of a log that knows no sessions the number of people is not known.
    """
    rows, (sessions, weight) = log.totals.rows, _people(log.rows)
    if rows < params.min_rows:
        return f"Too few predictions to tell: {rows:,} of this model in the window; {params.min_rows:,} are needed."
    if weight is not None and weight < params.min_people:
        return (
            f"Too few people to tell: by its {sessions:,} session{'s' if sessions > 1 else ''} the window weighs as "
            f"{int(weight):,} with equally many predictions each; {params.min_people:,} are needed."
        )
    return None


def _people(rows: pd.DataFrame) -> tuple[int, float | None]:
    """Number of sessions, and number of people as by `monitoring.drift_tests.people`; None without sessions."""
    codes = session_codes(rows.set_index(SESSION))
    return (0, None) if codes is None else (int(codes.max()) + 1, people(codes, len(rows)))


def _name_causes(
    reference: Reference, rows: pd.DataFrame, columns: list[ColumnDrift], params: MonitoringParams
) -> list[Cause]:
    """Causes of the drift with their onsets."""
    drifted = {column.column: column for column in columns if column.drifted}
    if not drifted:
        return []
    level = params.false_alarm_rate / len(columns)
    before, live = (comparison.comparable(table) for table in (reference.rows, rows))
    onsets = {name: causes.find_onset(before[name], live[name], column, level) for name, column in drifted.items()}
    named = causes.name_causes(columns, reference.name, onsets=onsets, rows=len(rows))
    start = onsets[named[0].column]
    if params.min_rows <= len(rows) - start.row < len(rows):
        # The rows before the onset only dilute the change.
        late = comparison.compare(reference.rows, rows.iloc[start.row :], params)
        onsets = {column.column: onsets.get(column.column, start) for column in late}
        named = causes.name_causes(late, reference.name, onsets=onsets, rows=len(rows)) or named
    return [
        cause.at(rows["time"].iloc[onset.row].to_pydatetime(), onset.before_window)
        for cause, onset in ((cause, onsets[cause.column]) for cause in named)
    ]


def _with_texts(values: dict[str, Any]) -> dict[str, Any]:
    """Values with times in ISO 8601."""
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in values.items()}
