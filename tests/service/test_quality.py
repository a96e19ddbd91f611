"""`service.quality`: what the rule of reliability looks at, what it says, and which rule a bundle has."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from service import quality
from service.detector import Face
from service.images import Frame
from service.moods import MOODS
from service.quality import EVERY_ANSWER, NO_ANSWER, RULE_FILE, Condition, Measures, ReliabilityRule

Grey = NDArray[np.uint8]
DIGEST = "a" * 64


@pytest.fixture(scope="module")
def crop(astronaut: Grey) -> Grey:
    """The astronaut's face as the classifier sees it."""
    face = cv2.cvtColor(astronaut[60:210, 150:300], cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(face, (48, 48), interpolation=cv2.INTER_AREA), np.uint8)


def smeared(crop: Grey, degrees: float) -> Grey:
    """The face, blurred in one direction."""
    kernel = np.zeros((5, 5), np.float32)
    kernel[2] = 0.2
    turn = cv2.getRotationMatrix2D((2, 2), degrees, 1)
    return np.asarray(cv2.filter2D(crop, -1, cv2.warpAffine(kernel, turn, (5, 5))), np.uint8)


def compressed(crop: Grey, shift: int) -> Grey:
    """The face after strong compression, in blocks that begin at some row and column."""
    moved = np.roll(crop, (shift, shift), (0, 1))
    _, data = cv2.imencode(".jpg", moved, [cv2.IMWRITE_JPEG_QUALITY, 20])
    return np.roll(np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8), (-shift, -shift), (0, 1))


def rule(**confidences: float) -> ReliabilityRule:
    """A rule that asks for 0.6, or what is given for a mood, and for 0.9 if it is dark or blurred."""
    return ReliabilityRule(
        confidences=dict.fromkeys(MOODS, 0.6) | confidences,
        conditions=(
            Condition(reason="dark", measure="brightness", below=0.3, confidence=0.9),
            Condition(reason="blurred", measure="detail", below=0.2, confidence=0.8),
            Condition(reason="blurred", measure="blocks", above=1.4, confidence=0.8),
        ),
    )


def measures(**changes: float) -> Measures:
    """Measures of a face under no condition."""
    usual = {"brightness": 0.5, "contrast": 0.2, "detail": 0.35, "blocks": 1.1, "eyes": 0.3, "mouth": 0.3}
    return Measures(**(usual | {"pixels": 100.0, "turn": 0.0, "tilt": 0.0, "outside": 0.0} | changes))


def test_a_blur_of_any_direction_takes_the_detail_away_and_light_does_not(crop: Grey) -> None:
    sharp = Measures.of(crop).detail
    for degrees in (0, 45, 90, 135):
        assert Measures.of(smeared(crop, degrees)).detail < 0.7 * sharp
    assert Measures.of((crop * 0.5).astype(np.uint8)).detail == pytest.approx(sharp, rel=0.1)
    assert Measures.of((crop * 0.5 + 100).astype(np.uint8)).detail == pytest.approx(sharp, rel=0.1)


@pytest.mark.parametrize("shift", [0, 3, 6])
def test_blocks_of_strong_compression_are_found_wherever_they_begin(crop: Grey, shift: int) -> None:
    assert Measures.of(compressed(crop, shift)).blocks > 1.15 * Measures.of(crop).blocks


def test_a_plain_cover_over_eyes_or_mouth_shows_where_it_is(crop: Grey) -> None:
    glasses, mask = crop.copy(), crop.copy()
    glasses[10:22, 2:46] = 20
    mask[29:, 2:46] = 200
    plain, over_eyes, over_mouth = (Measures.of(one) for one in (crop, glasses, mask))
    assert over_eyes.eyes < 0.03 < plain.eyes
    assert over_mouth.mouth < 0.03 < plain.mouth
    assert over_eyes.mouth > 0.03
    assert over_mouth.eyes > 0.03


def test_size_and_pose_are_those_of_the_face_in_the_image_as_it_was_sent(crop: Grey) -> None:
    frame = Frame(np.zeros((240, 320, 3), np.uint8), 640, 480)  # reduced by 2
    face = Face(-10, 100, 40, 50, 0.99, yaw=-25.0, roll=8.0)
    found = Measures.of(crop, frame, face)
    assert (found.pixels, found.turn, found.tilt) == (100.0, 25.0, 8.0)
    assert found.outside == pytest.approx(15 / 50)  # the square around the face begins at -15
    inside = Measures.of(crop, frame, Face(100, 100, 40, 50, 0.99))
    assert (inside.outside, inside.turn, inside.tilt) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("crop", [np.zeros((48, 48), np.uint8), np.full((48, 48), 255, np.uint8)])
def test_a_face_of_one_shade_has_finite_measures(crop: Grey) -> None:
    assert np.isfinite(list(vars(Measures.of(crop)).values())).all()


def test_every_mood_has_a_confidence_of_its_own() -> None:
    asked = rule(negative=0.75)
    assert asked.reasons("positive", 0.7, measures()) == []
    assert asked.reasons("negative", 0.7, measures()) == ["uncertain"]
    assert asked.reasons("negative", 0.75, measures()) == []


def test_a_condition_asks_for_more_and_is_no_reason_if_it_gets_it() -> None:
    assert rule().reasons("neutral", 0.85, measures(brightness=0.2)) == ["dark"]
    assert rule().reasons("neutral", 0.9, measures(brightness=0.2)) == []
    assert rule().reasons("neutral", 0.85, measures(brightness=0.3)) == []


def test_reasons_are_in_order_and_each_is_given_once() -> None:
    seen = measures(brightness=0.2, detail=0.1, blocks=2.0)
    assert rule().reasons("other", 0.5, seen) == ["uncertain", "dark", "blurred"]
    assert rule().reasons("other", 0.7, seen) == ["dark", "blurred"]


@pytest.mark.parametrize("mood", MOODS)
def test_without_a_rule_either_all_answers_are_reliable_or_none(mood: str) -> None:
    assert EVERY_ANSWER.reasons(mood, 0.25, measures(brightness=0.0)) == []
    assert NO_ANSWER.reasons(mood, 1.0, measures()) == ["uncertain"]


def test_a_rule_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = rule().model_copy(update={"model_digest": DIGEST})
    (tmp_path / RULE_FILE).write_text(written.model_dump_json())
    assert ReliabilityRule.load(tmp_path, DIGEST) == written


def test_a_classifier_of_an_earlier_release_without_a_rule_promises_nothing(tmp_path: Path) -> None:
    assert ReliabilityRule.load(tmp_path, DIGEST) is NO_ANSWER


def test_a_rule_of_another_classifier_is_refused(tmp_path: Path) -> None:
    (tmp_path / RULE_FILE).write_text(rule().model_copy(update={"model_digest": "b" * 64}).model_dump_json())
    with pytest.raises(ValueError, match="fitted for another classifier"):
        ReliabilityRule.load(tmp_path, DIGEST)


def test_a_rule_that_lacks_a_mood_is_refused(tmp_path: Path) -> None:
    (tmp_path / RULE_FILE).write_text(json.dumps({"confidences": {"positive": 0.5}}))
    with pytest.raises(ValidationError, match="the moods are"):
        ReliabilityRule.load(tmp_path, DIGEST)


def test_every_measure_and_reason_of_the_released_rule_is_known() -> None:
    released = Path(quality.__file__).parents[1] / "bundle" / "classifier"
    metadata = json.loads((released / "metadata.json").read_text())
    found = ReliabilityRule.load(released, metadata["digest"])
    assert found.model_digest == metadata["digest"]
    assert {condition.measure for condition in found.conditions} <= set(vars(measures()))
    assert all(0.3 < confidence < 1 for confidence in found.confidences.values())
