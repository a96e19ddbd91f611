"""Trends: windows over time in an Evidently workspace, shown as dashboards by `make monitor-ui`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import pandas as pd
from evidently.metrics import DriftedColumnsCount, MeanValue, RowCount, UniqueValueCount
from evidently.sdk.models import PanelMetric
from evidently.sdk.panels import bar_plot_panel, counter_panel, line_plot_panel
from evidently.ui.workspace import Project, Workspace

from monitoring import comparison
from monitoring.params import MonitoringParams
from monitoring.reference import Reference
from service.moods import MOODS

PROJECT: Final = "Mood estimation, live"
_LEVELS: Final = ("brightness", "contrast", "sharpness", "face_share", "confidence", "detector_confidence")
_WINDOW: Final = "window"
_ROWS: Final = "rows"


def windows(rows: pd.DataFrame, hours: float) -> list[tuple[pd.Timestamp, pd.DataFrame]]:
    """Non-empty windows of equal width, counted from midnight UTC: start and rows, oldest first."""
    starts = rows["time"].dt.floor(pd.Timedelta(hours=hours))
    return [(start, window.reset_index(drop=True)) for start, window in rows.groupby(starts)]


def update(rows: pd.DataFrame, reference: Reference, params: MonitoringParams) -> int:
    """Add the windows that are missing from the workspace or have gained rows, if they have enough rows.

    Args:
        rows: Rows of the reference's model version.
        reference: Reference of the comparison.
        params: Width of a window, fewest rows, and thresholds.

    Returns:
        Number of windows added.
    """
    workspace = Workspace.create(str(params.output / "workspace"))
    project = _project(workspace)
    known = {
        (run.metadata.get(_WINDOW), str(run.metadata.get("model_version"))): (identity, int(run.metadata[_ROWS]))
        for identity in workspace.list_runs(project.id)
        if (run := workspace.get_run(project.id, identity)) is not None and _ROWS in run.metadata
    }
    added = 0
    for start, window in windows(rows, params.trend_hours):
        identity, count = known.get((start.isoformat(), reference.model_version), (None, 0))
        if len(window) < params.min_rows or len(window) == count:
            continue
        if identity is not None:
            workspace.delete_run(project.id, identity)
        middle = start + timedelta(hours=params.trend_hours / 2)
        run = comparison.run_metrics(
            _metrics(window, reference, params),
            reference.rows,
            window,
            params,
            timestamp=middle.tz_convert(None).to_pydatetime(),
            metadata={_WINDOW: start.isoformat(), _ROWS: str(len(window)), "model_version": reference.model_version},
            tags=[f"model {reference.model_version}"],
            name=f"{start:%Y-%m-%d %H:%M}",
        )
        workspace.add_run(project.id, run)
        added += 1
    return added


def _metrics(window: pd.DataFrame, reference: Reference, params: MonitoringParams) -> list[Any]:
    """Metrics of the dashboards. Each column's own test would take four megabytes per window; the report has them."""
    tests = comparison.choose_tests(reference.rows, window, params)
    columns = {test.column for test in tests}
    return [
        RowCount(),
        DriftedColumnsCount(
            columns=[test.column for test in tests],
            per_column_method={test.column: test.method for test in tests},
            per_column_threshold={test.column: test.threshold for test in tests},
        ),
        *(MeanValue(column=name) for name in _LEVELS if name in columns),
        *(UniqueValueCount(column=name) for name in ("mood", "outcome") if name in columns),
    ]


def _project(workspace: Workspace) -> Project:
    """The project with its dashboard, created if it is missing."""
    found = workspace.search_project(PROJECT)
    if found:
        return found[0]
    project = workspace.create_project(PROJECT, "Live predictions compared with the champion's reference, by window.")
    dashboard = project.dashboard

    def share(column: str, label: str, legend: str) -> PanelMetric:
        labels = {"column": column, "label": label, "value_type": "share"}
        return PanelMetric(legend=legend, metric="UniqueValueCount", metric_labels=labels)

    drifted = PanelMetric(legend="columns", metric="DriftedColumnsCount", metric_labels={"value_type": "count"})
    count = PanelMetric(legend="predictions", metric="RowCount")
    dashboard.add_panel(counter_panel("Drifted columns in the newest window", [drifted], size="half"))
    dashboard.add_panel(counter_panel("Predictions in the newest window", [count], size="half"))
    dashboard.add_panel(bar_plot_panel("Drifted columns", [drifted], size="half"))
    dashboard.add_panel(bar_plot_panel("Predictions", [count], size="half"))
    moods = [share("mood", mood, mood) for mood in MOODS]
    dashboard.add_panel(bar_plot_panel("Mood mix", moods, "Shares of the predictions.", size="half", stacked=True))
    faces = [share("outcome", "answered", "with a face")]
    dashboard.add_panel(line_plot_panel("Frames with a face", faces, "Share of all frames.", size="half"))
    for column in _LEVELS:
        title = column.replace("_", " ").capitalize()
        value = PanelMetric(legend=title, metric="MeanValue", metric_labels={"column": column})
        dashboard.add_panel(line_plot_panel(title, [value], "Mean of each window.", size="half"))
    return project
