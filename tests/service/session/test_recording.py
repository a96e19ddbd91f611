"""`service.session.recording`: what is kept of a session that is played back."""

from __future__ import annotations

import functools
import gc
import weakref
from collections.abc import Iterator

import numpy as np
import pytest

from service.errors import InvalidImageError
from service.estimator import MoodEstimator
from service.images import Frame
from service.moods import MOODS
from service.session.engine import Session
from service.session.mood_filter import FilterSettings
from service.session.recording import Recording, play
from service.session.sources import Still
from tests.support.pictures import Pixels
from tests.support.sessions import estimate, recording

SETTINGS = FilterSettings(5.0, 1.0, unreliable_weight=0.3, prior=(0.27, 0.27, 0.33, 0.13))


class Source:
    """Images of which it is known whether somebody still holds them."""

    def __init__(self, pictures: list[Pixels | None]) -> None:
        self.pictures = pictures
        self.held: list[weakref.ref[Pixels]] = []

    def __iter__(self) -> Iterator[Still]:
        for place, picture in enumerate(self.pictures):
            yield Still(place / 2, functools.partial(self.load, picture))

    def load(self, picture: Pixels | None, side: int | None) -> Frame:
        if picture is None:
            raise InvalidImageError("no image")
        pixels = picture.copy()
        self.held.append(weakref.ref(pixels))
        return Frame(pixels, pixels.shape[1], pixels.shape[0])


@pytest.fixture
def played(estimator: MoodEstimator, astronaut: Pixels) -> tuple[Recording, Source, list[float]]:
    """Two frames with a face, two without, one that is no image."""
    wall = np.full((480, 480, 3), 90, np.uint8)
    source, times = Source([astronaut, wall, None, wall, astronaut]), []
    recorded = play(Session(estimator, SETTINGS), source, estimator.classifier.metadata, times.append)
    return recorded, source, times


def test_every_frame_is_kept_as_numbers_and_no_image_is(played: tuple[Recording, Source, list[float]]) -> None:
    recorded, source, times = played
    gc.collect()
    assert [take.estimate is not None for take in recorded.takes] == [True, False, False, False, True]
    assert len(source.held) == 4
    assert not any(pixels() is not None for pixels in source.held)
    assert times == [take.time for take in recorded.takes] == [0.0, 0.5, 1.0, 1.5, 2.0]


def test_each_frame_counts_once_in_the_summary(played: tuple[Recording, Source, list[float]]) -> None:
    summary = played[0].summary
    assert (summary.frames, summary.answered) == (5, 2)
    assert summary.moods["positive"].share == 1.0


def test_a_frame_stands_for_the_time_until_the_next_and_for_two_seconds_at_most() -> None:
    one = estimate([0.9, 0.03, 0.05, 0.02])
    spans = list(recording([(0.0, one), (0.5, None), (1.0, one), (9.0, one), (9.5, one)]).spans())
    assert [(start, end, known is not None) for start, end, known in spans] == [
        (0.0, 0.5, True),
        (0.5, 1.0, False),
        (1.0, 3.0, True),
        (3.0, 9.0, False),
        (9.0, 9.5, True),
        (9.5, 10.0, True),
    ]


def test_the_spans_add_up_to_the_seconds_of_the_summary() -> None:
    random = np.random.default_rng(0)
    times = np.cumsum(random.choice([0.2, 0.5, 1.0, 7.0], 200)).tolist()
    recorded = recording((time, estimate(random.dirichlet(np.ones(4)).tolist())) for time in times)
    for mood in MOODS:
        seconds = sum(end - start for start, end, known in recorded.spans() if known is not None and known.mood == mood)
        assert seconds == pytest.approx(recorded.summary.moods[mood].seconds)
    start, end = next(recorded.spans())[0], list(recorded.spans())[-1][1]
    assert end - start == pytest.approx(recorded.summary.seconds)
