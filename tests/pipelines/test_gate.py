"""`pipelines.gate`: who becomes champion, on figures alone."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest

from pipelines import gate
from pipelines.gate import Contender
from pipelines.params import GateParams, read_gate
from tests.conftest import ROOT

RULE = GateParams(metric="validation.ferplus.weighted_f1", max_bytes=1_000_000, max_latency_ms=2.0, min_improvement=0.0)


def contender(name: str, score: float, **figures: Any) -> Contender:
    return Contender(
        **{"name": name, "digest": f"digest of {name}", "score": score, "size_bytes": 200_000, "latency_ms": 0.2}
        | figures
    )


CHAMPION = contender("champion", 0.80)


def test_the_best_candidate_becomes_the_first_champion() -> None:
    decision = gate.decide([contender("good", 0.7), contender("best", 0.8)], None, RULE)
    assert decision.promoted
    assert decision.challenger is not None
    assert decision.challenger.name == "best"
    assert "best is the first champion" in decision.reason


def test_a_better_challenger_replaces_the_champion() -> None:
    decision = gate.decide([contender("challenger", 0.8001)], CHAMPION, RULE)
    assert decision.promoted
    assert "0.8001 against 0.8000" in decision.reason


@pytest.mark.parametrize("score", [0.80, 0.79], ids=["equal", "worse"])
def test_a_challenger_that_is_not_better_is_refused(score: float) -> None:
    decision = gate.decide([contender("challenger", score)], CHAMPION, RULE)
    assert not decision.promoted
    assert "The champion stays" in decision.reason


@pytest.mark.parametrize(
    ("figures", "complaint"),
    [
        ({"size_bytes": 1_000_001}, "1,000,001 bytes are more than 1,000,000"),
        ({"latency_ms": 2.5}, "2.5 ms a face are more than 2"),
    ],
    ids=["too large", "too slow"],
)
def test_a_candidate_outside_a_bound_is_not_considered(figures: dict[str, Any], complaint: str) -> None:
    best, second = contender("best", 0.9, **figures), contender("second", 0.85)
    decision = gate.decide([best, second], CHAMPION, RULE)
    assert decision.challenger == second
    assert decision.out_of_bounds == {"best": [complaint]}
    alone = gate.decide([best], CHAMPION, RULE)
    assert not alone.promoted
    assert alone.challenger is None


def test_a_candidate_on_the_bound_is_inside() -> None:
    assert gate.decide([contender("edge", 0.9, size_bytes=1_000_000, latency_ms=2.0)], None, RULE).promoted


def test_the_champion_does_not_replace_itself() -> None:
    decision = gate.decide([CHAMPION], CHAMPION, RULE)
    assert not decision.promoted
    assert "is the champion itself" in decision.reason


def test_of_equal_candidates_the_smaller_one_challenges() -> None:
    decision = gate.decide([contender("large", 0.8), contender("small", 0.8, size_bytes=100_000)], None, RULE)
    assert decision.challenger is not None
    assert decision.challenger.name == "small"


@pytest.mark.parametrize(("score", "promoted"), [(0.809, False), (0.81, True)])
def test_an_improvement_can_be_asked_for(score: float, promoted: bool) -> None:
    rule = RULE.model_copy(update={"min_improvement": 0.01})
    decision = gate.decide([contender("challenger", score)], CHAMPION, rule)
    assert decision.promoted is promoted


def test_a_figure_is_found_by_its_dotted_name() -> None:
    assert gate.figure({"validation": {"ferplus": {"weighted_f1": 0.8}}}, RULE.metric) == 0.8
    with pytest.raises(KeyError, match=r"no figure 'validation\.ferplus\.weighted_f1'"):
        gate.figure({"validation": {}}, RULE.metric)


def test_a_rule_that_decides_on_test_figures_is_rejected() -> None:
    with pytest.raises(pydantic.ValidationError, match="metric"):
        GateParams(**RULE.model_dump() | {"metric": "test.ferplus.weighted_f1"})


def test_the_projects_own_rule_is_valid_and_asks_for_less_than_a_megabyte() -> None:
    assert read_gate(ROOT / "params.yaml").max_bytes <= 1_000_000
