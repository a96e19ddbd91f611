"""`service.estimator`: a file in, a mood out, with the face's box in pixels of the file."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from service.errors import InvalidImageError, NoFaceError
from service.estimator import STAGES, MoodEstimator
from tests.support.pictures import TO_STORED, Pixels, encode, oriented


def test_the_face_of_a_reduced_frame_is_in_pixels_of_the_image_as_it_was_sent(
    estimator: MoodEstimator, astronaut: Pixels
) -> None:
    small = estimator.estimate(encode(astronaut)).face
    large = estimator.estimate(encode(cv2.resize(astronaut, (2048, 2048)))).face
    for name in ("x", "y", "width", "height"):
        assert getattr(large, name) == pytest.approx(4 * getattr(small, name), abs=0.08 * 4 * small.width)


def test_the_mood_hardly_depends_on_the_size_of_the_frame(estimator: MoodEstimator, astronaut: Pixels) -> None:
    frames = (encode(cv2.resize(astronaut, (side, side))) for side in (512, 1024, 2048))
    estimates = [estimator.estimate(frame) for frame in frames]
    assert len({estimate.mood for estimate in estimates}) == 1
    for estimate in estimates:
        assert estimate.probabilities[estimate.mood] == pytest.approx(
            estimates[0].probabilities[estimate.mood], abs=0.1
        )


def test_an_observer_is_told_of_every_stage_that_was_completed(estimator: MoodEstimator, photo: bytes) -> None:
    told: list[str] = []

    def observe(stage: str, seconds: float) -> None:
        assert seconds > 0
        told.append(stage)

    estimator.estimate(photo, observe=observe)
    assert told == list(STAGES)

    told.clear()
    with pytest.raises(NoFaceError):
        estimator.estimate(encode(np.zeros((100, 100, 3), np.uint8)), observe=observe)
    assert told == ["decode", "detect"]

    told.clear()
    with pytest.raises(InvalidImageError):
        estimator.estimate(photo[:1000], observe=observe)
    assert told == []


@pytest.mark.parametrize("orientation", TO_STORED)
@pytest.mark.parametrize("size", [(512, 512), (700, 500), (2048, 1500)])
def test_a_face_that_exif_turns_is_found_once_and_where_it_is_upright(
    size: tuple[int, int], orientation: int, estimator: MoodEstimator, astronaut: Pixels
) -> None:
    picture = np.asarray(cv2.resize(astronaut, size), dtype=np.uint8)
    upright, turned = (estimator.estimate(file) for file in (encode(picture), oriented(picture, orientation)))
    assert turned.face_count == upright.face_count == 1
    assert turned.mood == upright.mood
    for name in ("x", "y", "width", "height"):
        assert getattr(turned.face, name) == pytest.approx(getattr(upright.face, name), abs=0.08 * upright.face.width)


def test_who_sends_a_face_that_lies_on_its_side_is_told_to_turn_it(estimator: MoodEstimator, astronaut: Pixels) -> None:
    with pytest.raises(NoFaceError, match=r"upright: turn a picture that lies on its side, or set its EXIF"):
        estimator.estimate(encode(np.rot90(astronaut)))
