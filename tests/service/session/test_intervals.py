"""`service.session.intervals`: how certain the figures of a summary are."""

from __future__ import annotations

import numpy as np
import pytest

from service.moods import MOODS
from service.session.engine import Session
from service.session.intervals import balance, effective_size, share
from service.session.mood_filter import FilterSettings
from service.session.state import State
from service.session.summary import Accumulator
from tests.support.sessions import simulated

POSITIVE, NEUTRAL = MOODS.index("positive"), MOODS.index("neutral")
STAY = 5.0


@pytest.mark.parametrize("stay", [5.0, 15.0, 30.0])
def test_the_intervals_of_a_session_hold_the_truth_about_as_often_as_they_say(stay: float) -> None:
    random, prior = np.random.default_rng(0), [0.4, 0.2, 0.3, 0.1]
    sessions = [simulated(random, 5, stay=stay, prior=prior) for _ in range(100)]
    for mood, true in zip(MOODS, prior, strict=True):
        shares = [share(one, mood, STAY) for one in sessions]
        assert np.mean([one.low <= true <= one.high for one in shares]) >= 0.9, mood
    balances = [one for session in sessions if (one := balance(session, STAY)) is not None]
    assert np.mean([one.low <= 0.14 <= one.high for one in balances]) >= 0.9


def test_moods_that_last_make_the_balance_less_certain_than_its_frames_say() -> None:
    session = simulated(np.random.default_rng(0), 5, stay=30, prior=[0.4, 0.2, 0.3, 0.1])
    wide, narrow = balance(session, STAY), session.balance
    assert wide is not None
    assert narrow is not None
    assert wide.mean == narrow.mean
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)
    assert balance(session.model_copy(update={"balance": wide}), STAY) == wide  # once is enough


def test_the_summary_of_a_session_has_the_interval_that_its_moods_deserve() -> None:
    random, found = np.random.default_rng(0), Accumulator()
    for second in range(300):
        mood = POSITIVE if second // 30 % 2 else NEUTRAL
        own = 0.7 * (mood == POSITIVE) + 0.3 * random.normal()
        found.add(float(second), mood=mood, probability=0.9, balance=float(own), reliable=True)
    settings = FilterSettings(STAY, correlation_seconds=1.0, unreliable_weight=0.3, prior=(0.27, 0.27, 0.33, 0.13))
    session = Session(None, settings, State(session="0" * 32, summary=found))  # type: ignore[arg-type]
    assert session.summary().balance == balance(found.summary(1.0), STAY)
    assert session.summary().balance != found.summary(1.0).balance


def test_more_frames_of_the_same_minute_do_not_make_a_share_more_certain() -> None:
    def widths(rate: int) -> float:
        found = Accumulator()
        for step in range(60 * rate):
            found.add(step / rate, mood=POSITIVE if step // rate % 20 < 10 else NEUTRAL, probability=0.9, reliable=True)
        one = share(found.summary(1.0), "positive", STAY)
        return one.high - one.low

    assert widths(10) == pytest.approx(widths(1), rel=0.02)


def test_a_mood_that_never_left_is_not_certain_to_stay() -> None:
    def share_of(seconds: int) -> float:
        found = Accumulator()
        for second in range(seconds):
            found.add(float(second), mood=POSITIVE, probability=0.9, reliable=True)
        one = share(found.summary(1.0), "positive", STAY)
        assert one.mean == one.high == 1.0
        return one.low

    assert 0.1 < share_of(20) < 0.6
    assert share_of(600) > 0.9


def test_the_same_mood_before_and_after_a_gap_is_no_change() -> None:
    found, broken = Accumulator(), Accumulator()
    for second in range(120):
        found.add(float(second), mood=POSITIVE if second < 60 else NEUTRAL, probability=0.9)
        if second not in range(20, 40):
            broken.add(float(second), mood=POSITIVE if second < 60 else NEUTRAL, probability=0.9)
    assert len(broken.summary(1.0).episodes) == 3
    sizes = [effective_size(one.summary(1.0), STAY) for one in (found, broken)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)  # three episodes with two changes would be worth twice as much
