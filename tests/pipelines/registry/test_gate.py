"""`pipelines.registry.gate`: who becomes champion, from metrics and predictions alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pydantic
import pytest
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from pipelines.evaluation import multiply_adds
from pipelines.evaluation.predictions import Predictions, ValidationPredictions
from pipelines.params import GateParams, Params
from pipelines.registry import gate
from pipelines.registry.gate import Decision, Difference, GateEntry
from service.moods import MOODS
from tests.conftest import ROOT

RULE = GateParams(
    metric="validation.ferplus.weighted_f1",
    max_bytes=1_000_000,
    max_multiply_adds=10_000_000,
    max_latency_ratio=2.0,
    confidence=0.95,
    resamples=2000,
    min_improvement=0.0,
    max_slice_loss=0.02,
    max_mood_loss=0.03,
    min_mood_photos=20,
    seed=20,
)
PER_MOOD = 500
PHOTOS = {"positive": 300, "negative": 25, "neutral": 400, "other": 12}
CORRUPTED = ("dark", "mouth_covered")


def truth(counts: Mapping[str, int]) -> NDArray[np.int8]:
    """The true moods of so many images of each."""
    return np.repeat(np.arange(len(MOODS), dtype=np.int8), [counts[mood] for mood in MOODS])


def predicted(counts: Mapping[str, int], right: float, others: Mapping[str, float], skip: int = 0) -> NDArray[np.int8]:
    """A mood for each image: of each true mood a share is right, the rest is taken for the next mood.

    Args:
        counts: images of each mood.
        right: the share.
        others: the share for moods that have another.
        skip: by how many images the wrong ones are moved on, so that another model errs on others.
    """
    parts = []
    for code, mood in enumerate(MOODS):
        wrong = np.arange(counts[mood]) >= round(counts[mood] * others.get(mood, right))
        parts.append((code + np.roll(wrong, skip)) % len(MOODS))
    return np.concatenate(parts).astype(np.int8)


def predictions(
    right: float,
    *,
    moods: Mapping[str, float] | None = None,
    corrupted: Mapping[str, float] | None = None,
    photos: float = 0.9,
    photo_moods: Mapping[str, float] | None = None,
    skip: int = 0,
) -> ValidationPredictions:
    """Predictions for 2,000 faces, clean and corrupted in two ways, and for photos; `predicted` explains the shares."""
    faces = dict.fromkeys(MOODS, PER_MOOD)
    shares = dict.fromkeys(CORRUPTED, right) | dict(corrupted or {})
    return ValidationPredictions(
        Predictions(truth(faces), np.eye(4, dtype=np.float32)[predicted(faces, right, moods or {}, skip)]),
        Predictions(truth(PHOTOS), np.eye(4, dtype=np.float32)[predicted(PHOTOS, photos, photo_moods or {}, skip)]),
        {name: predicted(faces, shares[name], {}, skip) for name in CORRUPTED},
    )


def entry(name: str, score: float, **values: Any) -> GateEntry:
    return GateEntry(
        **{"name": name, "digest": f"digest of {name}", "score": score, "size_bytes": 200_000}
        | {"multiply_adds": 2_000_000, "latency_ratio": 0.7, "latency_ms": 0.2}
        | values
    )


CHAMPION = entry("champion", 0.80)


def decide(challenger: ValidationPredictions, champion: ValidationPredictions | None = None, **rule: Any) -> Decision:
    """The decision about a challenger of score 0.9 with these predictions; the champion is right in 80 %."""
    best = entry("challenger", 0.9)
    seen = {best.digest: challenger, CHAMPION.digest: champion or predictions(0.80)}
    return gate.decide([best], CHAMPION, RULE.model_copy(update=rule), seen)


def part(decision: Decision, subject: str) -> Difference:
    """What was found on some images."""
    assert decision.evidence is not None
    return next(part for part in decision.evidence.parts if part.subject == subject)


def test_the_best_candidate_becomes_the_first_champion() -> None:
    decision = gate.decide([entry("good", 0.7), entry("best", 0.8)], None, RULE, {})
    assert decision.promoted
    assert decision.challenger is not None
    assert decision.challenger.name == "best"
    assert "best is the first champion" in decision.reason
    assert decision.evidence is None


def test_a_clearly_better_challenger_replaces_the_champion() -> None:
    decision = decide(predictions(0.85))
    assert decision.promoted
    assert "challenger replaces the champion, champion" in decision.reason
    assert decision.evidence is not None
    assert decision.evidence.metric.difference == pytest.approx(0.05)
    assert decision.evidence.metric.low > 0


@pytest.mark.parametrize("skip", [0, 100], ids=["the same errors", "as many errors on other images"])
def test_a_challenger_of_equal_quality_is_refused(skip: int) -> None:
    decision = decide(predictions(0.80, skip=skip))
    assert not decision.promoted
    assert "The champion stays" in decision.reason
    assert "the interval must lie above 0" in decision.reason


def test_a_worse_challenger_is_refused() -> None:
    assert not decide(predictions(0.75)).promoted


def test_a_gain_that_may_be_chance_is_refused() -> None:
    decision = decide(predictions(0.81, skip=100))
    assert not decision.promoted
    assert decision.evidence is not None
    assert decision.evidence.metric.difference > 0 > decision.evidence.metric.low


def test_the_same_gain_is_no_chance_if_both_err_on_the_same_images() -> None:
    assert decide(predictions(0.81)).promoted


@pytest.mark.parametrize(("improvement", "promoted"), [(0.03, True), (0.045, False)])
def test_an_improvement_can_be_asked_for(improvement: float, promoted: bool) -> None:
    assert decide(predictions(0.85), min_improvement=improvement).promoted is promoted


def test_a_challenger_that_is_better_overall_and_much_worse_on_one_mood_is_refused() -> None:
    decision = decide(predictions(0.90, moods={"negative": 0.65}))
    assert not decision.promoted
    assert decision.evidence is not None
    assert decision.evidence.metric.holds
    assert "is worse on mood negative (f1 " in decision.reason
    assert part(decision, "mood negative").difference < -RULE.max_mood_loss


def test_a_challenger_that_is_better_overall_and_a_little_worse_on_one_mood_is_promoted() -> None:
    decision = decide(predictions(0.85, moods={"negative": 0.78}))
    assert decision.promoted
    assert -RULE.max_mood_loss < part(decision, "mood negative").difference < 0.01


def test_a_challenger_that_is_better_overall_and_much_worse_under_one_corruption_is_refused() -> None:
    decision = decide(predictions(0.85, corrupted={"dark": 0.75}))
    assert not decision.promoted
    assert "is worse on corruption dark (weighted_f1 0.7500 against 0.8000)" in decision.reason
    assert not part(decision, "corruption dark").holds
    assert part(decision, "corruption mouth_covered").holds


def test_a_challenger_that_is_better_overall_and_much_worse_on_photos_is_refused() -> None:
    decision = decide(predictions(0.85, photos=0.86))
    assert not decision.promoted
    assert not part(decision, "photos").holds


def test_a_mood_of_the_photos_that_is_much_less_often_found_refuses_a_challenger() -> None:
    decision = decide(predictions(0.85, photo_moods={"negative": 0.4}))
    assert not decision.promoted
    assert "is worse on photos: mood negative (f1 " in decision.reason


def test_a_photo_or_two_of_a_scarce_mood_do_not_decide() -> None:
    # 2 of 25 are some points of F1, beyond the margin, and may be chance.
    decision = decide(predictions(0.85, photo_moods={"negative": 0.80}))
    assert decision.promoted
    lost = part(decision, "photos: mood negative")
    assert lost.difference < -RULE.max_mood_loss
    assert lost.high >= 0


def test_a_mood_with_too_few_photos_is_not_compared() -> None:
    decision = decide(predictions(0.85, photo_moods={"other": 0.0}), max_slice_loss=0.1)
    assert decision.promoted
    assert decision.evidence is not None
    compared = [part.subject for part in decision.evidence.parts if part.subject.startswith("photos: mood")]
    assert compared == ["photos: mood positive", "photos: mood negative", "photos: mood neutral"]


def test_predictions_for_other_images_are_not_compared() -> None:
    other = predictions(0.8)
    swapped = replace(other, ferplus=Predictions(other.ferplus.moods[::-1], other.ferplus.probabilities))
    with pytest.raises(ValueError, match="measure one of them again"):
        decide(predictions(0.85), swapped)


def test_the_same_predictions_give_the_same_evidence() -> None:
    assert decide(predictions(0.85, skip=7)).evidence == decide(predictions(0.85, skip=7)).evidence


def test_the_interval_agrees_with_drawing_image_by_image() -> None:
    ours, theirs, random = predictions(0.83, skip=60), predictions(0.80), np.random.default_rng(1)
    truths, first, second = theirs.ferplus.moods, theirs.ferplus.predicted, ours.ferplus.predicted
    differences = []
    for _ in range(400):
        drawn = random.integers(len(truths), size=len(truths))
        scores = [f1_score(truths[drawn], one[drawn], average="weighted") for one in (first, second)]
        differences.append(scores[1] - scores[0])
    evidence = decide(ours, theirs).evidence
    assert evidence is not None
    low, high = np.quantile(differences, [0.025, 0.975])
    assert (evidence.metric.low, evidence.metric.high) == (pytest.approx(low, abs=4e-3), pytest.approx(high, abs=4e-3))


def test_the_decision_with_its_evidence_can_be_written_as_json() -> None:
    written = json.loads(json.dumps(asdict(decide(predictions(0.85)))))
    assert written["evidence"]["metric"]["margin"] == 0
    assert [part["subject"] for part in written["evidence"]["parts"]][:5] == [
        *(f"mood {mood}" for mood in MOODS),
        "corruption dark",
    ]
    assert all(part["holds"] is True for part in written["evidence"]["parts"])


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"size_bytes": 1_000_001}, "1,000,001 bytes are more than 1,000,000"),
        ({"multiply_adds": 10_000_001}, "10,000,001 multiply-adds are more than 10,000,000"),
        ({"latency_ratio": 2.5}, "a face takes 2.5 times as long as the fixed network, more than 2"),
    ],
    ids=["too large", "too many multiply-adds", "too slow"],
)
def test_a_candidate_outside_a_bound_is_not_considered(values: dict[str, Any], complaint: str) -> None:
    best, second = entry("best", 0.9, **values), entry("second", 0.85)
    decision = gate.decide(
        [best, second], CHAMPION, RULE, {second.digest: predictions(0.85), CHAMPION.digest: predictions(0.80)}
    )
    assert decision.challenger == second
    assert decision.out_of_bounds == {"best": [complaint]}
    alone = gate.decide([best], CHAMPION, RULE, {})
    assert not alone.promoted
    assert alone.challenger is None


def test_a_candidate_on_the_bound_is_inside() -> None:
    edge = entry("edge", 0.9, size_bytes=1_000_000, multiply_adds=10_000_000, latency_ratio=2.0)
    assert gate.decide([edge], None, RULE, {}).promoted


def test_a_candidate_that_was_timed_on_a_busy_machine_is_inside() -> None:
    assert gate.decide([entry("busy", 0.9, latency_ms=1000.0)], None, RULE, {}).promoted


def test_the_champion_does_not_replace_itself() -> None:
    decision = gate.decide([CHAMPION], CHAMPION, RULE, {})
    assert not decision.promoted
    assert "is the champion itself" in decision.reason


def test_of_equal_candidates_the_smaller_one_challenges() -> None:
    decision = gate.decide([entry("large", 0.8), entry("small", 0.8, size_bytes=100_000)], None, RULE, {})
    assert decision.challenger is not None
    assert decision.challenger.name == "small"


def test_a_rule_that_decides_on_test_metrics_is_rejected() -> None:
    with pytest.raises(pydantic.ValidationError, match="metric"):
        GateParams(**RULE.model_dump() | {"metric": "test.ferplus.weighted_f1"})


def test_the_projects_own_rule_asks_for_less_than_a_megabyte_and_lets_the_champions_graph_through() -> None:
    rule, graph = Params.read(ROOT / "params.yaml").gate, ROOT / "models" / "champion" / "mood.onnx"
    assert rule.max_bytes <= 1_000_000
    released = {"size_bytes": graph.stat().st_size, "multiply_adds": multiply_adds.count(graph)}
    assert gate.broken_bounds(entry("champion", 0.8, **released), rule) == []
    doubled = {"multiply_adds": 2 * released["multiply_adds"]}
    assert len(gate.broken_bounds(entry("twice the work", 0.8, **doubled), rule)) == 1
