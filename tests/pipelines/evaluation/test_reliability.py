"""The rule of reliability on made-up groups: what it promises holds, and it covers what it can."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import beta

from pipelines.data.splits import PhotoSplit
from pipelines.evaluation import reliability
from pipelines.evaluation.corruptions import CORRUPTIONS
from pipelines.evaluation.predictions import Predictions
from pipelines.evaluation.reliability import Limit, Sign, fit, reliable, risk_and_coverage, risk_coverage_curve
from pipelines.evaluation.reliability_groups import (
    CLEAN,
    EXTREMES,
    FEWEST,
    MEASURES,
    POSES,
    Group,
    corrupted_groups,
    photo_groups,
)
from service.estimator import MoodEstimator
from service.moods import MOODS
from service.quality import Measures
from tests.conftest import ROOT
from tests.support import toys

LIMIT = Limit(max_error=0.1, level=0.95)
USUAL = {"brightness": 0.5, "contrast": 0.2, "detail": 0.35, "blocks": 1.1, "eyes": 0.3, "mouth": 0.3, "pixels": 48.0}


def group(faces: int, seed: int, *, bias: float = 0.0, moods: tuple[int, ...] = (0, 1, 2, 3), **known: float) -> Group:
    """Answers with confidences between 0.3 and 1, as often right as the confidence says.

    Args:
        faces: Number of faces.
        seed: Seed of the draws.
        bias: How much less often they are right.
        moods: Moods that are answered.
        known: Measures of all faces; the others are `USUAL`, give or take a little.
    """
    random = np.random.default_rng(seed)
    answered = random.choice(moods, faces)
    confidences = random.uniform(0.3, 1.0, faces)
    rest = (1 - confidences) / 3
    probabilities = np.where(np.arange(4) == answered[:, None], confidences[:, None], rest[:, None])
    right = random.random(faces) < confidences - bias
    truth = np.where(right, answered, (answered + 1) % 4).astype(np.int8)
    values = {name: USUAL.get(name, 0.0) for name in MEASURES} | known
    noise = {name: random.normal(0, 0.01, faces) for name in MEASURES}
    return Group(Predictions(truth, probabilities), {name: values[name] + noise[name] for name in MEASURES})


@pytest.fixture(scope="module")
def groups() -> dict[str, dict[str, Group]]:
    """Clean faces, and dark ones that are wrong more often."""
    return {"faces": {CLEAN: group(4000, 1), "very_dark": group(4000, 2, bias=0.15, brightness=0.15)}}


@pytest.mark.parametrize(("called", "most"), [(1000, 84), (100, 4), (30, 0)])
def test_a_small_group_may_have_fewer_errors_than_a_large_one(called: int, most: int) -> None:
    kept = LIMIT.kept(np.array([most, most + 1]), np.array([called, called]))
    assert kept.tolist() == [True, False]


@pytest.mark.parametrize("groups", [1, 20])
def test_the_bound_is_the_exact_one_and_each_of_many_groups_needs_fewer_errors(groups: int) -> None:
    called = np.full(401, 400)
    upper = beta.ppf(1 - 0.05 / groups, np.arange(401) + 1, np.maximum(400 - np.arange(401), 1e-9))
    assert (LIMIT.for_each_of(groups).kept(np.arange(401), called) == (upper <= 0.1)).all()


def test_without_a_reliable_answer_nothing_is_promised() -> None:
    assert not LIMIT.kept(np.array([0]), np.array([0]))[0]


def test_what_is_called_reliable_keeps_to_the_limit_on_other_faces_too(groups: dict[str, dict[str, Group]]) -> None:
    rule = fit(groups, LIMIT)
    others = {CLEAN: group(4000, 3), "very_dark": group(4000, 4, bias=0.15, brightness=0.15)}
    for one in (*groups["faces"].values(), *others.values()):
        found = risk_and_coverage(one, rule)
        assert found["reliable_error"] <= 0.1 < found["error"]


def test_the_condition_is_recognised_and_asks_for_more_only_there(groups: dict[str, dict[str, Group]]) -> None:
    rule = fit(groups, LIMIT)
    condition, *_ = rule.conditions
    assert (condition.reason, condition.measure) == ("dark", "brightness")
    assert condition.below is not None
    assert 0.15 < condition.below < 0.5
    assert condition.confidence > max(rule.confidences.values())
    clean = groups["faces"][CLEAN]
    without = risk_and_coverage(clean, rule.model_copy(update={"conditions": ()}))
    assert risk_and_coverage(clean, rule)["coverage"] > 0.98 * without["coverage"]


def test_as_much_is_covered_as_the_limit_allows(groups: dict[str, dict[str, Group]]) -> None:
    clean = groups["faces"][CLEAN]
    best = max(share for share, error in risk_coverage_curve(clean, 400) if error <= 0.1)
    covered = risk_and_coverage(clean, fit(groups, LIMIT))["coverage"]
    assert 0.85 * best < covered <= best


def test_a_mood_that_is_right_more_often_needs_less_confidence() -> None:
    sure, unsure = group(2000, 5, bias=-0.3, moods=(0,)), group(2000, 6, bias=0.1, moods=(1, 2, 3))
    both = Group(
        Predictions(
            np.concatenate([sure.predictions.moods, unsure.predictions.moods]),
            np.concatenate([sure.predictions.probabilities, unsure.predictions.probabilities]),
        ),
        {name: np.concatenate([sure.measures[name], unsure.measures[name]]) for name in MEASURES},
    )
    rule = fit({"faces": {CLEAN: both}}, LIMIT)
    assert rule.confidences["positive"] < min(rule.confidences[mood] for mood in MOODS[1:])


def test_a_classifier_that_is_hardly_ever_right_is_never_called_reliable() -> None:
    rule = fit({"faces": {CLEAN: group(2000, 7, bias=0.6)}}, LIMIT)
    assert risk_and_coverage(group(2000, 8), rule)["coverage"] == 0.0


def test_a_condition_under_which_no_confidence_suffices_refuses_all(groups: dict[str, dict[str, Group]]) -> None:
    hopeless = group(2000, 9, bias=0.6, mouth=0.0)
    rule = fit({"faces": {**groups["faces"], "mouth_covered": hopeless}}, LIMIT)
    assert risk_and_coverage(hopeless, rule)["coverage"] < 0.01
    clean = groups["faces"][CLEAN]
    others = rule.model_copy(update={"conditions": [one for one in rule.conditions if one.reason != "covered"]})
    assert risk_and_coverage(clean, rule) == risk_and_coverage(clean, others)


def test_a_condition_that_needs_nothing_more_is_left_out() -> None:
    rule = fit({"faces": {CLEAN: group(4000, 1), "very_bright": group(4000, 2, bias=-0.2, brightness=0.9)}}, LIMIT)
    assert not [one for one in rule.conditions if one.reason != "turned"]


def test_a_pose_that_no_face_has_is_refused_however_certain_the_answer(groups: dict[str, dict[str, Group]]) -> None:
    posed = {"snapshots": {CLEAN: group(500, 12, bias=-0.1, turn=15.0, tilt=5.0)}}
    rule = fit(groups | posed, LIMIT)
    usual = Measures(**(dict.fromkeys(MEASURES, 0.0) | USUAL))
    for measure, seen, beyond in (("turn", 14.9, 16.0), ("tilt", 4.9, 6.0)):
        assert rule.reasons("neutral", 1.0, replace(usual, **{measure: seen})) == []
        assert rule.reasons("neutral", 1.0, replace(usual, **{measure: beyond})) == ["turned"]


def test_a_group_with_too_few_faces_does_not_count(groups: dict[str, dict[str, Group]]) -> None:
    few = group(FEWEST - 1, 10, bias=0.6, outside=0.3)
    assert fit({"faces": {**groups["faces"], "cut_off": few}}, LIMIT) == fit(groups, LIMIT)


def test_without_faces_nothing_is_called_reliable() -> None:
    rule = fit({"faces": {CLEAN: group(FEWEST - 1, 11, bias=-0.5)}}, LIMIT)
    assert risk_and_coverage(group(2000, 8), rule)["coverage"] == 0.0


def test_the_array_form_of_the_rule_is_the_services(groups: dict[str, dict[str, Group]]) -> None:
    rule = fit(groups, LIMIT)
    for one in groups["faces"].values():
        called = reliable(rule, one)
        for row in range(0, len(one.predictions), 37):
            measures = Measures(**{name: float(one.measures[name][row]) for name in MEASURES})
            mood = MOODS[one.predictions.predicted[row]]
            reasons = rule.reasons(mood, float(one.predictions.confidences[row]), measures)
            assert called[row] == (not reasons)


def test_the_risk_of_all_answers_is_the_error_and_the_most_confident_come_first() -> None:
    probabilities = np.array([[0.9, 0.1, 0, 0], [0.8, 0.2, 0, 0], [0.7, 0.3, 0, 0], [0.6, 0.4, 0, 0]])
    one = Group(Predictions(np.array([0, 0, 1, 0], np.int8), probabilities), {name: np.zeros(4) for name in MEASURES})
    assert risk_coverage_curve(one, 4) == [(0.25, 0.0), (0.5, 0.0), (0.75, 1 / 3), (1.0, 0.25)]


def test_risk_by_mood_counts_every_answer_once(groups: dict[str, dict[str, Group]]) -> None:
    found = reliability.risk_by_mood(groups["faces"][CLEAN], fit(groups, LIMIT))
    assert list(found) == list(MOODS)
    assert sum(one["faces"] for one in found.values()) == 4000


@pytest.mark.parametrize("sign", reliability.SIGNS, ids=lambda sign: f"{sign.reason} by {sign.measure}")
def test_every_sign_is_of_a_measure_and_of_groups_that_there_are(sign: Sign) -> None:
    assert sign.measure in MEASURES
    assert set(sign.groups) <= {*CORRUPTIONS, *EXTREMES, *POSES}


@pytest.fixture(scope="module")
def faces(astronaut: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Crops of one face, a little apart, uint8 (8, 48, 48)."""
    grey = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)
    crops = [grey[60 + shift : 210 + shift, 150:300] for shift in range(8)]
    return np.stack([cv2.resize(one, (48, 48), interpolation=cv2.INTER_AREA) for one in crops])


class Toy:
    """A classifier that is certain of the first mood."""

    def predict(self, faces: NDArray[np.uint8]) -> NDArray[np.float64]:
        return np.tile([0.97, 0.01, 0.01, 0.01], (len(faces), 1))


def test_the_groups_of_crops_differ_in_what_was_done_to_them(faces: NDArray[np.uint8]) -> None:
    found = corrupted_groups(Toy(), faces, np.zeros(8, np.int8), seed=1)  # type: ignore[arg-type]
    assert list(found) == [CLEAN, *CORRUPTIONS, *EXTREMES]
    medians = {
        name: {key: float(np.median(values)) for key, values in one.measures.items()} for name, one in found.items()
    }
    clean = medians[CLEAN]
    assert medians["very_dark"]["brightness"] < 0.6 * clean["brightness"]
    assert medians["motion_blur"]["detail"] < 0.75 * clean["detail"]
    assert medians["half_resolution"]["detail"] < 0.75 * clean["detail"]
    assert medians["jpeg_20"]["blocks"] > clean["blocks"] + 0.1
    assert medians["eyes_covered"]["eyes"] < 0.02 < clean["eyes"]
    assert medians["small"]["pixels"] < clean["pixels"] == 48
    assert medians["cut_off"]["outside"] > clean["outside"] == 0.0
    assert all(not one.wrong.any() for one in found.values())


def test_the_same_seed_makes_the_same_groups(faces: NDArray[np.uint8]) -> None:
    one, two, other = (
        corrupted_groups(Toy(), faces, np.zeros(8, np.int8), seed)["salt_noise"].measures["detail"]  # type: ignore[arg-type]
        for seed in (1, 1, 2)
    )
    assert one.tolist() == two.tolist() != other.tolist()


def test_photos_are_seen_as_the_service_sees_them(
    astronaut: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.evaluation import reliability_groups

    path, nobody = tmp_path / "photos.parquet", np.full((200, 200, 3), 90, np.uint8)
    cut = np.ascontiguousarray(astronaut[:, 200:])
    toys.write_photos(path, [astronaut, nobody, cut], ["happiness", "neutral", "happiness"])
    monkeypatch.setattr(reliability_groups, "FEWEST_POSED", 1)
    estimator = MoodEstimator.load(ROOT / "bundle")
    found = photo_groups(estimator, path, PhotoSplit(np.arange(3), np.array([0, 2, 0], np.int8)))
    clean = found[CLEAN]
    assert clean.predictions.moods.tolist() == [0, 0]
    assert clean.measures["pixels"].min() > 60
    assert clean.measures["outside"][0] == 0
    assert clean.measures["outside"][1] > 0.05
    assert len(found["cut_off"].predictions) == 1
    expected = estimator.estimate_pixels(astronaut).probabilities
    assert clean.predictions.probabilities[0] == pytest.approx(list(expected.values()), abs=0.05)
