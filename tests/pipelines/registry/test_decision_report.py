"""The gate's decision as Markdown."""

from __future__ import annotations

from dataclasses import asdict

from pipelines.params import Params
from pipelines.registry import decision_report, gate
from pipelines.registry.gate import GateEntry
from tests.conftest import ROOT


def test_the_first_champions_decision_needs_no_evidence() -> None:
    rule = Params.read(ROOT / "params.yaml").gate
    first = gate.decide([GateEntry("toy", "digest", 0.8, 200_000, 2_000_000, 0.7, 0.2)], None, rule, {})
    report = decision_report.render(asdict(first))
    assert "toy is the first champion" in report
    assert "| challenger | toy | 0.8000 | 200,000 | 2,000,000 | 0.700 | 0.20 ms |" in report


def test_a_decision_from_before_the_costs_were_counted_can_be_shown() -> None:
    rule = Params.read(ROOT / "params.yaml").gate
    decision = asdict(gate.decide([GateEntry("toy", "digest", 0.8, 200_000, 2_000_000, 0.7, 0.2)], None, rule, {}))
    del decision["challenger"]["multiply_adds"], decision["challenger"]["latency_ratio"]
    assert "| challenger | toy | 0.8000 | 200,000 | – | – | 0.20 ms |" in decision_report.render(decision)
