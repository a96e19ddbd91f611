"""Trends: windows over time in an Evidently workspace, shown as dashboards by `make monitor-ui`.

Drift is that of the report: the same tests, margins and smallest shifts. Every window carries what it was judged by:
the reference and the thresholds. If either changes, windows whose rows are still at hand are judged anew; each
reference has a panel of its own, so windows judged by different references are never in one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.core.report import Snapshot
from evidently.metrics import MeanValue, UniqueValueCount
from evidently.sdk.models import DashboardPanelPlot, PanelMetric
from evidently.sdk.panels import bar_plot_panel, counter_panel, line_plot_panel
from evidently.ui.workspace import Project, Workspace

from monitoring import comparison
from monitoring.log import Log
from monitoring.params import MonitoringParams
from monitoring.reference import Reference
from service.moods import MOODS

PROJECT: Final = "Mood estimation, live"
DRIFTED: Final = "drifted_columns"
"""Column of a window's data set with the number of its drifted columns, in every row. Evidently's own metric,
`DriftedColumnsCount`, knows neither margins nor smallest shifts, and its server could not load a metric of ours."""
PREDICTIONS: Final = "predictions"
"""Column with the number of its predictions, of which the rows may be a sample."""

_ROWS_AT_ONCE: Final = 200_000
_LEVELS: Final = ("brightness", "contrast", "sharpness", "face_share", "confidence", "detector_confidence")
_CATEGORIES: Final = ("mood", "outcome")
_WINDOW, _ROWS, _VERSION, _JUDGE, _REFERENCE = "window", "rows", "model_version", "judged_by", "reference"  # of a run


Read = Callable[[list[pd.Timestamp]], Mapping[pd.Timestamp, Log]]
"""Type of a function that reads windows by their starts."""


def update(counts: Mapping[pd.Timestamp, int], read: Read, reference: Reference, params: MonitoringParams) -> int:
    """Bring the workspace up to date.

    A window is judged if it has enough rows, and if it is new, has gained rows, or was judged by another reference or
    other thresholds. A window of which only a part is at hand keeps its older judgement. No other window is read.

    Args:
        counts: Number of rows of the reference's model version, by start of the window; `monitoring.log.Log.by_window`.
        read: Reads the windows that are to be judged.
        reference: Reference of the comparison.
        params: Width of a window, fewest rows, and thresholds.

    Returns:
        Number of windows judged.
    """
    workspace = Workspace.create(str(params.output / "workspace"))
    project = _project(workspace)
    known = {
        (run.metadata.get(_WINDOW), run.metadata.get(_VERSION)): (identity, run.metadata)
        for identity in workspace.list_runs(project.id)
        if (run := workspace.get_run(project.id, identity)) is not None
    }
    judge, due = _judge(reference, params), {}
    for start, count in counts.items():
        _, before = known.get((start.isoformat(), reference.model_version), (None, {}))
        seen = int(before.get(_ROWS, 0))
        if count >= max(params.min_rows, seen) and (count > seen or before.get(_JUDGE) != judge):
            due[start] = min(count, params.sample_rows)
    for start, window in (entry for starts in _batches(due, _ROWS_AT_ONCE) for entry in read(starts).items()):
        key = (start.isoformat(), reference.model_version)
        if key in known:
            workspace.delete_run(project.id, known[key][0])
        metadata = {
            _WINDOW: key[0],
            _ROWS: str(window.totals.rows),
            _VERSION: reference.model_version,
            _JUDGE: judge,
            _REFERENCE: label(reference),
        }
        middle = start + timedelta(hours=params.trend_hours / 2)
        run = _run(window, middle, reference, params, metadata)
        known[key] = (workspace.add_run(project.id, run).id, metadata)
    _show(project, label(reference), [metadata for _, metadata in known.values()])
    return len(due)


def label(reference: Reference) -> str:
    """What windows were compared with, in words that tell any two references apart."""
    digest = f" ({reference.model_digest[:12]})" if reference.model_digest else ""
    what = f"{reference.name} from {reference.period} UTC" if reference.rebased else reference.name
    return f"{what}, model {reference.model_version}{digest}"


def _batches(due: Mapping[pd.Timestamp, int], rows: int) -> Iterator[list[pd.Timestamp]]:
    """Starts of windows whose rows, by number, fit into memory together: at least one window, at most `rows` rows."""
    batch: list[pd.Timestamp] = []
    held = 0
    for start, count in due.items():
        if batch and held + count > rows:
            yield batch
            batch, held = [], 0
        batch.append(start)
        held += count
    if batch:
        yield batch


def _judge(reference: Reference, params: MonitoringParams) -> str:
    """Digest of all that decides about a window beside its rows."""
    thresholds = params.model_dump_json(exclude={"log", "output", "rebase", "webhook"})
    return hashlib.sha256(f"{reference.identity} {thresholds}".encode()).hexdigest()


def _run(
    window: Log, middle: pd.Timestamp, reference: Reference, params: MonitoringParams, metadata: dict[str, str]
) -> Snapshot:
    """A window as a run of Evidently."""
    rows, before = window.rows, reference.rows
    found = comparison.compare(before, rows, params, complete=False)
    drifted = [column.column for column in found if column.drifted]
    levels = [name for name in _LEVELS if rows[name].notna().any() and before[name].notna().any()]
    categories = [name for name in _CATEGORIES if rows[name].notna().any() and before[name].notna().any()]
    exact = [DRIFTED, PREDICTIONS]
    definition = DataDefinition(numerical_columns=[*exact, *levels], categorical_columns=categories)
    live, compared = (
        Dataset.from_pandas(
            part[[*levels, *categories]].assign(**dict(zip(exact, values, strict=True))), data_definition=definition
        )
        for part, values in ((rows, (len(drifted), window.totals.rows)), (before, (0, len(before))))
    )
    metrics: list[Any] = [MeanValue(column=name) for name in (*exact, *levels)]
    metrics += [UniqueValueCount(column=name) for name in categories]
    return Report(metrics).run(
        live,
        compared,
        timestamp=middle.tz_convert(None).to_pydatetime(),
        metadata=metadata,
        tags=[f"against {metadata[_REFERENCE]}", *(f"drifted: {name}" for name in drifted)],
        name=metadata[_WINDOW][:16].replace("T", " "),
    )


def _project(workspace: Workspace) -> Project:
    """The project, created if it is missing."""
    found = workspace.search_project(PROJECT)
    description = "Live predictions by window; drift is that of `make drift`."
    return found[0] if found else workspace.create_project(PROJECT, description)


def _show(project: Project, current: str, runs: Iterable[Mapping[str, str]]) -> None:
    """Make the dashboard show the runs, if it does not do so yet.

    Args:
        project: The project.
        current: Label of the current reference.
        runs: Metadata of all runs.
    """
    latest: dict[str, str] = {}
    for metadata in runs:
        if name := metadata.get(_REFERENCE):
            latest[name] = max(latest.get(name, ""), metadata[_WINDOW])
    others = sorted(latest.keys() - {current}, key=lambda name: latest[name], reverse=True)
    panels = _panels([current, *others])
    shown = project.dashboard.model().panels
    if [panel.dict(exclude={"id"}) for panel in shown] != [panel.dict(exclude={"id"}) for panel in panels]:
        project.dashboard.clear_dashboard()
        for panel in panels:
            project.dashboard.add_panel(panel)


def _panels(references: list[str]) -> list[DashboardPanelPlot]:
    """The dashboard's panels; the first reference is the current one."""

    def mean(column: str, legend: str, metadata: dict[str, str] | None = None) -> PanelMetric:
        return PanelMetric(legend=legend, metric="MeanValue", metric_labels={"column": column}, metadata=metadata or {})

    def share(column: str, category: str, legend: str) -> PanelMetric:
        labels = {"column": column, "label": category, "value_type": "share"}
        return PanelMetric(legend=legend, metric="UniqueValueCount", metric_labels=labels)

    def drifted(reference: str) -> list[PanelMetric]:
        return [mean(DRIFTED, "columns", {_REFERENCE: reference})]

    count = [mean(PREDICTIONS, "predictions")]
    moods = [share("mood", mood, mood) for mood in MOODS]
    faces = [share("outcome", "answered", "with a face")]
    against = f"Against {references[0]}."
    panels = [
        counter_panel("Drifted columns in the newest window", drifted(references[0]), against, size="half"),
        counter_panel("Predictions in the newest window", count, size="half"),
    ]
    for index, reference in enumerate(references):
        title = "Drifted columns" if index == 0 else "Drifted columns, by an earlier reference"
        panels.append(bar_plot_panel(title, drifted(reference), f"Against {reference}.", size="half"))
    panels += [
        bar_plot_panel("Predictions", count, size="half"),
        bar_plot_panel("Mood mix", moods, "Shares of the predictions.", size="half", stacked=True),
        line_plot_panel("Frames with a face", faces, "Share of all frames.", size="half"),
    ]
    for column in _LEVELS:
        title = column.replace("_", " ").capitalize()
        panels.append(line_plot_panel(title, [mean(column, title)], "Mean of each window.", size="half"))
    return panels
