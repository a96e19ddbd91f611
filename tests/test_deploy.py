"""Alert rules and dashboard ask for metrics and labels that the service has."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from service import metrics
from service.openapi import outcomes
from tests.conftest import ROOT

ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboard.json"
_SELECTOR = re.compile(r"(meaa_[a-z_]+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)(?:=|!=|=~|!~)"([^"]*)"')


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def expressions() -> dict[str, str]:
    """The queries of rules and panels, by their names."""
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    found = {rule["alert"]: rule["expr"] for rule in rules}
    for panel in panels():
        found |= {f"{panel['title']} {target['refId']}": target["expr"] for target in panel["targets"]}
    return found


EXPRESSIONS = expressions()
FAMILIES = {
    name: set(metric._labelnames)
    for metric in vars(metrics).values()
    if hasattr(metric, "_labelnames")
    for name in (metric._name, f"{metric._name}_total", f"{metric._name}_count", f"{metric._name}_bucket")
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_a_query_asks_for_a_metric_and_labels_that_there_are(name: str) -> None:
    selectors = _SELECTOR.findall(EXPRESSIONS[name])
    assert selectors
    for metric, matchers in selectors:
        assert metric in FAMILIES
        assert {label for label, _ in _MATCHER.findall(matchers)} <= FAMILIES[metric]


def test_codes_that_queries_ask_for_are_sent_by_the_service() -> None:
    codes = {str(code) for _, code in outcomes()}
    asked = {
        value
        for expression in EXPRESSIONS.values()
        for metric, matchers in _SELECTOR.findall(expression)
        if metric.startswith("meaa_requests")
        for label, values in _MATCHER.findall(matchers)
        if label == "code"
        for value in values.split("|")
    }
    assert asked
    assert asked <= codes


def test_panels_do_not_overlap_and_have_numbers_of_their_own() -> None:
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels())
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in panels()}) == len(panels())


@pytest.mark.parametrize("metric", ["sessions_open", "session_ends_total", "session_frames_total", "answers_total"])
def test_what_happens_in_sessions_is_on_the_dashboard(metric: str) -> None:
    assert any(f"meaa_{metric}" in target["expr"] for panel in panels() for target in panel["targets"])
