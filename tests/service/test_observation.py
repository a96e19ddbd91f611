"""`service.observation`: the row of numbers that is kept of a request."""

from __future__ import annotations

import json
from dataclasses import asdict

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from service.appearance import Appearance
from service.detector import Face
from service.estimator import MoodEstimate
from service.images import Frame
from service.moods import MOODS
from service.observation import RELIABLE, Observation, reliability_of
from service.quality import Quality
from service.schema import Reason
from tests.support.models import described

FACE = Face(x=170, y=60, width=110, height=150, confidence=0.99, yaw=-12.5, roll=3.0)  # the astronaut's
Image = NDArray[np.uint8]


def estimated(image: Image, probabilities: tuple[float, ...], *, faces: int = 1, reasons: list[Reason]) -> MoodEstimate:
    appearance = Appearance.of(image, FACE)
    quality = Quality.of(reasons, appearance, FACE, Frame(image, 512, 512))
    return MoodEstimate("positive", dict(zip(MOODS, probabilities, strict=True)), FACE, faces, appearance, quality)


def test_a_row_says_what_was_answered_and_how_the_face_looked(astronaut: Image) -> None:
    estimate = estimated(astronaut, (0.7, 0.1, 0.1, 0.1), faces=2, reasons=["uncertain", "turned"])
    row = asdict(Observation.of(Frame(astronaut, 512, 512), estimate, model=described("3"), seconds=0.0125))
    assert row["outcome"] == "answered"
    assert (row["mood"], row["confidence"], row["probability_negative"]) == ("positive", 0.7, 0.1)
    assert row["entropy"] == pytest.approx(0.94045, abs=1e-5)
    assert row["face_share"] == pytest.approx(150 / 512, abs=1e-5)
    assert (row["faces"], row["frame_width"], row["latency_ms"]) == (2, 512, 12.5)
    assert (row["reliability"], row["yaw"], row["roll"]) == ("turned", -12.5, 3.0)
    assert len(json.dumps(row)) < 850


@pytest.mark.parametrize(
    ("reasons", "value"),
    [([], RELIABLE), (["uncertain"], "uncertain"), (["uncertain", "dark", "blurred"], "dark"), (["small"], "small")],
)
def test_the_reason_that_is_logged_is_the_first_in_the_picture(reasons: list[Reason], value: str) -> None:
    assert reliability_of(reasons) == value


def test_a_face_in_a_reduced_frame_has_the_size_that_it_had_in_the_image(astronaut: Image) -> None:
    half = np.asarray(cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA), np.uint8)
    whole, reduced = (
        Observation.of(
            Frame(pixels, 512, 512),
            estimated(astronaut, (0.25,) * 4, reasons=[]),
            model=described("3"),
            seconds=0.0,
        )
        for pixels in (astronaut, half)
    )
    assert reduced.face_share == whole.face_share


def test_a_row_of_a_frame_without_a_face_describes_none(astronaut: Image) -> None:
    row = asdict(Observation.of(Frame(astronaut, 512, 512), None, model=described("3"), seconds=0.01))
    assert row["outcome"] == "no_face"
    known = {name for name, value in row.items() if value is not None}
    assert known == {
        "time", "request", "model_version", "model_digest", "outcome", "faces", "frame_width", "frame_height",
        "latency_ms",
    }  # fmt: skip


def test_darkness_blur_and_colour_each_move_their_own_metric(astronaut: Image) -> None:
    plain = Appearance.of(astronaut, FACE)
    dark = Appearance.of((astronaut * 0.4).astype(np.uint8), FACE)
    blurred = Appearance.of(np.asarray(cv2.GaussianBlur(astronaut, (0, 0), 2), np.uint8), FACE)
    cool = Appearance.of((astronaut * np.array([0.7, 1, 1])).astype(np.uint8), FACE)
    assert dark.brightness < 0.5 * plain.brightness
    assert dark.sharpness == pytest.approx(plain.sharpness, rel=0.2)
    assert blurred.sharpness < 0.3 * plain.sharpness
    assert blurred.brightness == pytest.approx(plain.brightness, rel=0.02)
    assert cool.warmth < plain.warmth - 0.2


def test_a_grey_picture_has_no_colour(astronaut: Image) -> None:
    grey = np.repeat(astronaut.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    found = Appearance.of(grey, FACE)
    assert (found.colourfulness, found.warmth, found.tint) == pytest.approx((0, 0, 0), abs=1e-6)


@pytest.mark.parametrize("face", [Face(-40, -40, 60, 60, 1.0), Face(500, 500, 90, 90, 1.0), Face(600, 600, 5, 5, 1.0)])
def test_a_box_that_reaches_over_the_edge_is_described_as_far_as_there_are_pixels(astronaut: Image, face: Face) -> None:
    assert 0 <= Appearance.of(astronaut, face).brightness <= 1
