"""`service.session.timeline`: a session as a picture."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

import numpy as np
import pytest

from service.moods import MOODS
from service.session.comparison import compare
from service.session.mood_filter import FilterSettings
from service.session.recording import Recording
from service.session.timeline import COLOURS, clock, draw, moving_balance
from tests.support.sessions import estimate, recording

SETTINGS = FilterSettings(stay_seconds=5, correlation_seconds=1, unreliable_weight=0.3, prior=(0.27, 0.27, 0.33, 0.13))
GOOD, BAD = [0.9, 0.03, 0.05, 0.02], [0.04, 0.9, 0.03, 0.03]
LEFT, RIGHT = 90.0, 890.0


@pytest.fixture
def session() -> Recording:
    """A hundred seconds: positive, a gap of 20, negative, five without a face, and ten unreliable ones."""
    return recording(
        [
            *((float(second), estimate(GOOD)) for second in range(40)),
            *((float(second), estimate(BAD)) for second in range(60, 85)),
            *((float(second), None) for second in range(85, 90)),
            *((float(second), estimate(BAD, reliable=False)) for second in range(90, 100)),
        ]
    )


def bars(picture: str, **wanted: str) -> list[tuple[float, float]]:
    """Start and end, in seconds, of the bars with these attributes in a picture of a hundred seconds."""
    found = []
    for one in ElementTree.fromstring(picture).findall("{http://www.w3.org/2000/svg}rect"):
        if all(one.get(name) == value for name, value in wanted.items()):
            start, width = float(one.get("x", "0")), float(one.get("width", "0"))
            found.append(tuple(round((x - LEFT) / (RIGHT - LEFT) * 100, 1) for x in (start, start + width)))
    return found


def test_the_lanes_show_which_mood_it_was_and_when(session: Recording) -> None:
    picture = draw(session, SETTINGS)
    assert bars(picture, fill=COLOURS["positive"]) == [
        (0.0, 41.0)
    ]  # the last frame before a gap stands for two seconds
    assert bars(picture, fill=COLOURS["negative"]) == [(60.0, 85.0), (90.0, 100.0)]
    assert bars(picture, fill=COLOURS["neutral"]) == []
    tops = {rect.get("fill"): rect.get("y") for rect in ElementTree.fromstring(picture).iter() if rect.get("fill")}
    assert tops[COLOURS["positive"]] != tops[COLOURS["negative"]]  # told apart without colours


def test_times_without_an_answer_are_grey_and_unreliable_ones_hatched(session: Recording) -> None:
    picture = draw(session, SETTINGS)
    assert bars(picture, **{"class": "gap"}) == [(41.0, 60.0), (85.0, 90.0)]
    assert bars(picture, **{"class": "hatched"}) == [(90.0, 100.0)]


def test_the_curve_breaks_where_nothing_is_known_and_lies_in_its_interval(session: Recording) -> None:
    pieces = list(moving_balance(list(session.spans()), SETTINGS))
    assert [(round(piece[0][0]), round(piece[-1][0])) for piece in pieces] == [(0, 41), (60, 85), (90, 100)]
    for piece in pieces:
        assert all(-1 <= one.low <= one.mean <= one.high <= 1 for _, one in piece)
    assert draw(session, SETTINGS).count("<polyline") == 3


def test_unreliable_frames_count_for_less_in_the_curve() -> None:
    def middle(reliable: bool) -> float:
        frames = [
            (float(second), estimate(GOOD if second % 2 else BAD, reliable=bool(second % 2) or reliable))
            for second in range(20)
        ]
        (piece,) = moving_balance(list(recording(frames).spans()), SETTINGS)
        return piece[len(piece) // 2][1].mean

    assert middle(reliable=True) == pytest.approx(0.0, abs=0.1)
    assert middle(reliable=False) > 0.3


def test_the_curve_follows_a_change_and_its_interval_is_wide_there() -> None:
    random = np.random.default_rng(0)

    def own(mood: int) -> Sequence[float]:
        return random.dirichlet(np.ones(4) + 8 * np.eye(4)[mood]).tolist()

    session = recording([(step / 4, estimate(own(0 if step < 400 else 1))) for step in range(800)])
    (piece,) = moving_balance(list(session.spans()), SETTINGS)
    by_time = {round(time): one for time, one in piece}
    assert by_time[50].low > 0.2
    assert by_time[150].high < -0.2
    assert by_time[100].high - by_time[100].low > 1.5 * (by_time[50].high - by_time[50].low)


def test_shares_and_balance_are_written_beside_them(session: Recording) -> None:
    texts = [
        one.text for one in ElementTree.fromstring(draw(session, SETTINGS)).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert texts[0] == "1:40 min, 80 frames: 94 % with an answer, 81 % reliable, 0.0 changes a minute"
    assert re.fullmatch(r"Balance [+−]0\.\d\d \(95 % interval −?\+?[01]\.\d\d to [+−][01]\.\d\d\)", texts[1] or "")
    assert set(MOODS) <= set(texts)
    assert "54 %  0:41" in texts


def test_the_baselines_balance_is_drawn_if_there_is_one(session: Recording) -> None:
    comparison = compare(session.summary, session.summary, stay_seconds=5)
    assert "the baseline's mean" in draw(session, SETTINGS, comparison)
    assert "baseline" not in re.sub(r"<style>.*</style>", "", draw(session, SETTINGS), flags=re.DOTALL)


@pytest.mark.parametrize("frames", [[(0.0, None)], [(7.0, estimate(GOOD))], [(0.0, estimate(GOOD)), (86_400.0, None)]])
def test_the_shortest_and_the_longest_session_can_be_drawn(frames: list[tuple[float, None]]) -> None:
    picture = draw(recording(frames), SETTINGS)
    root = ElementTree.fromstring(picture)
    assert root.tag.endswith("svg")
    assert "nan" not in picture
    assert len(list(root.iter("{http://www.w3.org/2000/svg}text"))) < 60  # the axis is not crowded


def test_a_picture_loads_nothing_and_runs_nothing(session: Recording) -> None:
    picture = draw(session, SETTINGS)
    assert not re.search(r"<script|<image|<foreignObject|href|\son\w+=|@import|url\((?!#hatch)", picture)


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.7, "1:00"), (754, "12:34"), (3_725, "1:02:05")])
def test_a_time_is_written_as_a_clock_does(seconds: float, text: str) -> None:
    assert clock(seconds) == text
