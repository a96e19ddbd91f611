"""The windows on the dashboards: judged as the report judges them, and never by two references unmarked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pandas as pd
import pytest
from evidently.ui.workspace import Workspace

from monitoring import trends, verdict
from monitoring.dashboard import DRIFTED
from monitoring.log import Log, Totals
from monitoring.params import MonitoringParams
from monitoring.reference import Reference
from tests.support.predictions import NOW, in_sessions, predictions, rebase_record

FIRST = pd.Timestamp(NOW).floor("D") - pd.Timedelta(days=10)


class Days:
    """A log of whole days, of which it is known which were read."""

    def __init__(self, *days: pd.DataFrame) -> None:
        self.rows = {FIRST + pd.Timedelta(days=index): rows for index, rows in enumerate(days)}
        self.read_starts: list[pd.Timestamp] = []

    @property
    def counts(self) -> dict[pd.Timestamp, int]:
        return {start: len(rows) for start, rows in self.rows.items()}

    def read(self, starts: list[pd.Timestamp]) -> dict[pd.Timestamp, Log]:
        self.read_starts += starts
        return {start: Log(self.rows[start].assign(time=start + pd.Timedelta(hours=8)), {}) for start in starts}


def day(seed: int, *, brightness: float = 0.5, count: int = 150) -> pd.DataFrame:
    return pd.DataFrame(predictions(count, seed, brightness=brightness))


@pytest.fixture
def rebased(reference: Reference) -> Reference:
    """A reference that is a window of dark frames."""
    rows = pd.DataFrame(predictions(400, seed=9, brightness=0.25)).assign(source="live", label=None)
    return replace(reference, rows=rows, rebased=rebase_record())


def runs(params: MonitoringParams) -> Iterator[Any]:
    workspace = Workspace(str(params.output / "workspace"))
    (project,) = workspace.search_project(trends.PROJECT)
    for identity in workspace.list_runs(project.id):
        run = workspace.get_run(project.id, identity)
        assert run is not None
        yield run


def drifted(params: MonitoringParams) -> dict[tuple[str, str], float]:
    """The number of drifted columns that the dashboard shows, by day and reference."""
    found = {}
    for run in runs(params):
        for result in run.metric_results.values():
            metric = result.metric_value_location.metric.params
            if metric["type"].endswith(":MeanValue") and metric["column"] == DRIFTED:
                found[run.metadata["window"][:10], run.metadata["reference"]] = float(result.value)
    return dict(sorted(found.items()))


def dashboard(params: MonitoringParams) -> list[Any]:
    workspace = Workspace(str(params.output / "workspace"))
    (project,) = workspace.search_project(trends.PROJECT)
    return project.dashboard.model().panels


def test_the_dashboard_counts_the_columns_that_the_report_calls_drifted(
    reference: Reference, params: MonitoringParams
) -> None:
    """A window whose shifts are significant but too small to matter, one with fewer frames without a face, and one of
    which the rows are a sample without those that have no face."""
    faces = ["no_face" if index % 5 == 0 else "answered" for index in range(len(reference.rows))]
    reference = replace(reference, rows=reference.rows.assign(outcome=faces))
    small = day(1, count=1500).assign(brightness=lambda rows: rows["brightness"] + 0.012)
    days = Days(small, day(2, brightness=0.2), day(3, count=300))
    *_, last = days.rows
    counted = Totals.of(days.rows[last].assign(outcome="no_face", time=last))

    def read(starts: list[pd.Timestamp]) -> dict[pd.Timestamp, Log]:
        found = days.read(starts)
        return {**found, last: replace(found[last], rows=found[last].rows.head(150), counted=counted)}

    assert trends.update(days.counts, read, reference, params) == 3
    verdicts = [verdict.reach(log, reference, params) for log in read([*days.rows]).values()]
    assert list(drifted(params).values()) == [sum(one.drifted for one in found.columns) for found in verdicts]
    assert list(drifted(params).values()) == [0, 1, 1]
    assert any(one.significant and not one.drifted for one in verdicts[0].columns), "else this proves nothing"


def test_only_what_is_new_has_grown_or_was_judged_otherwise_is_read(
    reference: Reference, rebased: Reference, params: MonitoringParams
) -> None:
    days = Days(day(1), day(2), day(3, count=params.min_rows - 1))
    first, second, third = days.rows
    assert trends.update(days.counts, days.read, reference, params) == 2
    assert trends.update(days.counts, days.read, reference, params) == 0
    assert days.read_starts == [first, second]
    days.rows[third] = day(3)
    assert trends.update(days.counts, days.read, reference, params) == 1
    assert days.read_starts[2:] == [third]
    assert trends.update(days.counts, days.read, rebased, params) == 3
    stricter = params.model_copy(update={"numerical_shift": params.numerical_shift / 2})
    assert trends.update(days.counts, days.read, rebased, stricter) == 3
    assert len(list(runs(params))) == 3


def test_after_a_rebase_windows_are_judged_anew_by_the_new_reference(
    reference: Reference, rebased: Reference, params: MonitoringParams
) -> None:
    days = Days(day(1), day(2, brightness=0.25))
    for judge, expected in ((reference, [0, 1]), (rebased, [1, 0]), (reference, [0, 1])):
        trends.update(days.counts, days.read, judge, params)
        found = drifted(params)
        assert list(found.values()) == expected
        assert {name for _, name in found} == {trends.label(judge)}


def test_windows_that_cannot_be_judged_anew_stay_apart_from_those_of_the_new_reference(
    reference: Reference, rebased: Reference, params: MonitoringParams
) -> None:
    days = Days(day(1), day(2, brightness=0.25))
    trends.update(days.counts, days.read, reference, params)
    first, second = days.rows
    trends.update({second: 150}, days.read, rebased, params)
    assert set(drifted(params)) == {
        (str(first.date()), trends.label(reference)),
        (str(second.date()), trends.label(rebased)),
    }
    by_reference = [panel for panel in dashboard(params) if panel.title.startswith("Drifted columns")]
    shown = [{value.metadata["reference"] for value in panel.values} for panel in by_reference]
    current, earlier = {trends.label(rebased)}, {trends.label(reference)}
    assert shown == [current, earlier]
    assert all(next(iter(names)) in panel.subtitle for panel, names in zip(by_reference, shown, strict=True))


def test_a_part_of_a_window_does_not_replace_the_whole(
    reference: Reference, rebased: Reference, params: MonitoringParams
) -> None:
    days = Days(day(1, brightness=0.25))
    trends.update(days.counts, days.read, reference, params)
    (start,) = days.rows
    assert trends.update({start: 120}, days.read, rebased, params) == 0
    assert set(drifted(params)) == {(str(start.date()), trends.label(reference))}


def test_the_dashboard_says_in_words_what_the_newest_window_says(
    reference: Reference, rebased: Reference, params: MonitoringParams
) -> None:
    days = Days(day(1, brightness=0.2), day(2))
    first, second = days.rows
    trends.update({first: 150}, days.read, reference, params)
    assert dashboard(params)[0].title == f"{first:%Y-%m-%d %H:%M} UTC: drifted: brightness"
    trends.update(days.counts, days.read, reference, params)
    assert dashboard(params)[0].title == f"{second:%Y-%m-%d %H:%M} UTC: no drift"
    trends.update({}, days.read, rebased, params)
    assert dashboard(params)[0].title == "No window judged yet"
    assert trends.label(rebased) in dashboard(params)[0].subtitle


def test_windows_are_read_in_batches_that_fit_into_memory(
    reference: Reference, params: MonitoringParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trends, "_ROWS_AT_ONCE", 320)
    days, batches = Days(*(day(seed) for seed in range(3))), []

    def read(starts: list[pd.Timestamp]) -> dict[pd.Timestamp, Log]:
        batches.append(len(starts))
        return days.read(starts)

    assert trends.update(days.counts, read, reference, params) == 3
    assert batches == [2, 1]


def test_two_rebases_and_two_models_have_labels_of_their_own(reference: Reference, rebased: Reference) -> None:
    assert rebased.rebased is not None
    earlier = rebased.rebased.model_copy(update={"first": datetime.fromisoformat("2026-01-02T03:04:00Z")})
    others = [
        reference,
        rebased,
        replace(rebased, rebased=earlier),
        replace(reference, model_version="8"),
        replace(reference, model_digest="a" * 64),
    ]
    assert len({trends.label(one) for one in others}) == len(others)
    assert trends.label(reference) == "the reference photos, model 7"


def test_a_day_of_few_people_is_not_judged(reference: Reference, params: MonitoringParams) -> None:
    few, many = (pd.DataFrame(in_sessions(predictions(160, seed=1, brightness=0.2), frames)) for frames in (40, 8))
    days = Days(few, many)
    assert trends.update(days.counts, days.read, reference, params) == 1
    assert [run.metadata["window"] for run in runs(params)] == [(FIRST + pd.Timedelta(days=1)).isoformat()]
