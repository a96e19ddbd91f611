from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pytest

from monitoring import report, verdict
from monitoring.log import Log
from monitoring.params import MonitoringParams
from monitoring.reference import Reference
from pipelines import markdown
from tests.conftest import ROOT
from tests.support.predictions import NOW, predictions


@pytest.fixture
def rows() -> pd.DataFrame:
    return pd.DataFrame(predictions(200, seed=1, brightness=0.2)).assign(time=pd.Timestamp(NOW))


def test_the_first_screen_names_drift_cause_and_log_quality(
    rows: pd.DataFrame, reference: Reference, params: MonitoringParams
) -> None:
    window = Log(rows, {"invalid JSON": 3}, by_version={"7": 200, "6": 1500})
    found = verdict.reach(window, reference, params)
    page = report.render(found, rows, reference.rows, "<html><head></head><body><p>sections</p></body></html>")
    assert "<h1>Drifted against the reference photos: darker faces</h1>" in page
    assert found.causes[0].explanation in page
    assert "Brightness over the window" in page
    assert "3 × invalid JSON" in page
    assert "1,500 × version 6" in page
    assert page.index("</main>") < page.index("<p>sections</p>")


def test_too_few_rows_still_make_a_page(rows: pd.DataFrame, reference: Reference, params: MonitoringParams) -> None:
    for count in (0, 20):
        some = rows.head(count)
        page = report.render(verdict.reach(Log(some, {}), reference, params), some, reference.rows, None)
        assert "<h1>Cannot tell</h1>" in page
        assert f"Too few predictions to tell: {count} of this model in the window" in page


def test_text_from_outside_is_escaped(rows: pd.DataFrame, reference: Reference, params: MonitoringParams) -> None:
    found = replace(verdict.reach(Log(rows, {}), reference, params), reference="<script>alert(1)</script>")
    page = report.render(found, rows, reference.rows, None)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_the_committed_page_on_detected_drift_is_the_committed_json_rendered() -> None:
    found = json.loads((ROOT / "reports/monitoring/power.json").read_text())
    page = markdown.page(ROOT / "monitoring/power.md.j2", **found)
    assert page == (ROOT / "reports/monitoring/power.md").read_text()
