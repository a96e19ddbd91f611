"""The dashboard of the trends in Evidently's interface: what each window's run states, and the panels that show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from evidently.sdk.models import DashboardPanelPlot, PanelMetric
from evidently.sdk.panels import bar_plot_panel, counter_panel, line_plot_panel, text_panel
from evidently.ui.workspace import Project

from service.moods import MOODS

DRIFTED: Final = "drifted_columns"
"""Column of a window's data set with the number of its drifted columns, in every row. Evidently's own metric,
`DriftedColumnsCount`, knows neither margins nor smallest shifts, and its server could not load a metric of ours."""
PREDICTIONS: Final = "predictions"
"""Column with the number of its predictions, of which the rows may be a sample."""
LEVELS: Final = ("brightness", "contrast", "sharpness", "face_share", "confidence", "detector_confidence")
"""Columns whose means are shown."""
CATEGORIES: Final = ("mood", "outcome")
"""Columns whose shares are shown."""


@dataclass(frozen=True)
class Judgement:
    """What a run states about its window, as metadata.

    Attributes:
        window: Start of the window, in ISO 8601.
        rows: Number of its predictions.
        model_version: Version of the champion that made them.
        reference: What they were compared with, in words that tell any two references apart.
        judged_by: Digest of reference and thresholds.
        drifted: Columns that drifted, separated by commas.
    """

    window: str
    rows: int
    model_version: str
    reference: str
    judged_by: str
    drifted: str

    def as_metadata(self) -> dict[str, str]:
        """The attributes as texts, which is what the interface filters by."""
        return {name: str(value) for name, value in asdict(self).items()}

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Judgement:
        """The judgement from a run's metadata; what they lack, such as a reference, is empty."""
        rows = int(metadata.get("rows") or 0)
        texts = {field.name: str(metadata.get(field.name, "")) for field in fields(cls) if field.name != "rows"}
        return cls(rows=rows, **texts)


def show(project: Project, reference: str, judgements: Sequence[Judgement]) -> None:
    """Make a project's dashboard show its runs, if it does not do so yet.

    Args:
        project: The project.
        reference: The current reference, as in `Judgement.reference`.
        judgements: Those of all runs.
    """
    wanted, shown = panels(reference, judgements), project.dashboard.model().panels
    if [panel.dict(exclude={"id"}) for panel in shown] != [panel.dict(exclude={"id"}) for panel in wanted]:
        project.dashboard.clear_dashboard()
        for panel in wanted:
            project.dashboard.add_panel(panel)


def panels(reference: str, judgements: Sequence[Judgement]) -> list[DashboardPanelPlot]:
    """The panels; drift has one for each reference, the current one first. Arguments: see `show`."""
    newest = {one.reference: one for one in sorted(judgements, key=lambda one: one.window) if one.reference}
    earlier = sorted(newest.keys() - {reference}, key=lambda name: newest[name].window, reverse=True)
    count = [_mean(PREDICTIONS, "predictions")]
    moods = [_share("mood", mood, mood) for mood in MOODS]
    faces = [_share("outcome", "answered", "with a face")]
    found = [
        _newest(reference, newest.get(reference)),
        counter_panel("Predictions in the newest window", count, size="half"),
        _drift("Drifted columns", reference),
        *(_drift("Drifted columns, by an earlier reference", name) for name in earlier),
        bar_plot_panel("Predictions", count, size="half"),
        bar_plot_panel("Mood mix", moods, "Shares of the predictions.", size="half", stacked=True),
        line_plot_panel("Frames with a face", faces, "Share of all frames.", size="half"),
    ]
    for column in LEVELS:
        title = column.replace("_", " ").capitalize()
        found.append(line_plot_panel(title, [_mean(column, title)], "Mean of each window.", size="half"))
    return found


def _newest(reference: str, newest: Judgement | None) -> DashboardPanelPlot:
    """What the newest window says, in words. Evidently's counter would show "no value" for no drifted column."""
    against = f"Against {reference}."
    if newest is None:
        return text_panel("No window judged yet", against, size="half")
    drifted = newest.drifted.replace("_", " ")
    start = newest.window[:16].replace("T", " ")
    return text_panel(f"{start} UTC: {f'drifted: {drifted}' if drifted else 'no drift'}", against, size="half")


def _drift(title: str, reference: str) -> DashboardPanelPlot:
    """The number of drifted columns by one reference, as a line: a bar of height 0 would look like a missing window."""
    return line_plot_panel(
        title, [_mean(DRIFTED, "columns", {"reference": reference})], f"Against {reference}.", size="half"
    )


def _mean(column: str, legend: str, metadata: dict[str, str] | None = None) -> PanelMetric:
    """The mean of a column, in the runs with some metadata."""
    return PanelMetric(legend=legend, metric="MeanValue", metric_labels={"column": column}, metadata=metadata or {})


def _share(column: str, category: str, legend: str) -> PanelMetric:
    """The share of a category in a column."""
    labels = {"column": column, "label": category, "value_type": "share"}
    return PanelMetric(legend=legend, metric="UniqueValueCount", metric_labels=labels)
