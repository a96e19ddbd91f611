"""Trends: windows over time in an Evidently workspace, shown as dashboards by `make monitor-ui`.

Drift is that of the report: the same tests, margins and smallest shifts. Every window carries what it was judged by:
the reference and the thresholds. If either changes, windows whose rows are still at hand are judged anew; the others
stay apart from them (`monitoring.dashboard`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.core.report import Snapshot
from evidently.metrics import MeanValue, UniqueValueCount
from evidently.ui.workspace import Project, Workspace

from monitoring import comparison, dashboard, verdict
from monitoring.dashboard import CATEGORIES, DRIFTED, LEVELS, PREDICTIONS, Judgement
from monitoring.log import Log
from monitoring.params import MonitoringParams
from monitoring.reference import Reference

PROJECT: Final = "Mood estimation, live"
_ROWS_AT_ONCE: Final = 200_000

Read = Callable[[list[pd.Timestamp]], Mapping[pd.Timestamp, Log]]
"""Type of a function that reads windows by their starts."""


def update(counts: Mapping[pd.Timestamp, int], read: Read, reference: Reference, params: MonitoringParams) -> int:
    """Bring the workspace up to date.

    A window is judged if it has enough rows and people, and if it is new, has gained rows, or was judged by another
    reference or other thresholds. A window of which only a part is at hand keeps its older judgement. No other window
    is read.

    Args:
        counts: Number of rows of the reference's model version, by start of the window; `monitoring.log.Log.by_window`.
        read: Reads the windows that are to be judged.
        reference: Reference of the comparison.
        params: Width of a window, fewest rows, and thresholds.

    Returns:
        Number of windows judged.
    """
    judged_now = 0
    workspace = Workspace.create(str(params.output / "workspace"))
    project = _project(workspace)
    known: dict[tuple[str, str], tuple[Any, Judgement]] = {}
    for identity in workspace.list_runs(project.id):
        if (run := workspace.get_run(project.id, identity)) is not None:
            before = Judgement.of(run.metadata)
            known[before.window, before.model_version] = (identity, before)
    judge, version, due = _judge(reference, params), reference.model_version, {}
    for start, count in counts.items():
        _, judged = known.get((start.isoformat(), version), (None, None))
        seen = judged.rows if judged else 0
        if count >= max(params.min_rows, seen) and (count > seen or judged is None or judged.judged_by != judge):
            due[start] = min(count, params.sample_rows)
    for start, window in (entry for starts in _batches(due, _ROWS_AT_ONCE) for entry in read(starts).items()):
        if verdict.too_few(window, params):
            continue
        exact = window.counts_beside_sample
        columns = comparison.compare(reference.rows, window.rows, params, counts=exact, complete=False)
        drifted = [column.column for column in columns if column.drifted]
        judgement = Judgement(
            window=start.isoformat(),
            rows=window.totals.rows,
            model_version=version,
            reference=label(reference),
            judged_by=judge,
            drifted=", ".join(drifted),
        )
        key = judgement.window, version
        if key in known:
            workspace.delete_run(project.id, known[key][0])
        judged_now += 1
        middle = start + timedelta(hours=params.trend_hours / 2)
        run = _run(window, drifted, reference, timestamp=middle.tz_convert(None).to_pydatetime(), judgement=judgement)
        known[key] = (workspace.add_run(project.id, run).id, judgement)
    dashboard.show(project, label(reference), [judgement for _, judgement in known.values()])
    return judged_now


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
    thresholds = params.model_dump_json(exclude={"log", "output", "rebase", "feedback", "webhook"})
    return hashlib.sha256(f"{reference.identity} {thresholds}".encode()).hexdigest()


def _run(
    window: Log, drifted: list[str], reference: Reference, *, timestamp: datetime, judgement: Judgement
) -> Snapshot:
    """A window as a run of Evidently."""
    rows, before = window.rows, reference.rows
    levels, categories = (
        [name for name in names if rows[name].notna().any() and before[name].notna().any()]
        for names in (LEVELS, CATEGORIES)
    )
    exact = {DRIFTED: len(drifted), PREDICTIONS: window.totals.rows}
    definition = DataDefinition(numerical_columns=[*exact, *levels], categorical_columns=categories)
    live, compared = (
        Dataset.from_pandas(part[[*levels, *categories]].assign(**numbers), data_definition=definition)
        for part, numbers in ((rows, exact), (before, {DRIFTED: 0, PREDICTIONS: len(before)}))
    )
    metrics: list[Any] = [MeanValue(column=name) for name in (*exact, *levels)]
    metrics += [UniqueValueCount(column=name) for name in categories]
    return Report(metrics).run(
        live,
        compared,
        timestamp=timestamp,
        metadata=dict(judgement.as_metadata()),
        tags=[f"against {judgement.reference}", *(f"drifted: {name}" for name in drifted)],
        name=judgement.window[:16].replace("T", " "),
    )


def _project(workspace: Workspace) -> Project:
    """The project, created if it is missing."""
    found = workspace.search_project(PROJECT)
    description = "Live predictions by window; drift is that of `make drift`."
    return found[0] if found else workspace.create_project(PROJECT, description)
