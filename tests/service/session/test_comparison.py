"""`service.session.comparison`: a session beside the person's own baseline."""

from __future__ import annotations

import numpy as np
import pytest

from service.moods import MOODS
from service.session.comparison import Comparison, compare, effective_size, share
from service.session.summary import Accumulator, Summary

POSITIVE, NEGATIVE, NEUTRAL = (MOODS.index(mood) for mood in ("positive", "negative", "neutral"))
STAY = 5.0


def session(random: np.random.Generator, minutes: float, *, stay: float, prior: list[float]) -> Summary:
    """A simulated session, a frame a second: a mood stays for `stay` seconds and then is drawn from the prior."""
    found, mood = Accumulator(), int(random.choice(4, p=prior))
    for time in range(round(60 * minutes)):
        if random.uniform() < 1 - np.exp(-1 / stay):
            mood = int(random.choice(4, p=prior))
        balance = {POSITIVE: 0.7, NEGATIVE: -0.7}.get(mood, 0.0) + 0.3 * random.normal()
        found.add(float(time), mood=mood, probability=0.9, balance=float(balance), reliable=True)
    return found.summary(1.0)


def compared(prior: list[float], other: list[float], *, stay: float, count: int) -> list[Comparison]:
    random = np.random.default_rng(1)
    return [
        compare(
            session(random, 5, stay=stay, prior=prior), session(random, 5, stay=stay, prior=other), stay_seconds=STAY
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("stay", [5.0, 15.0])
def test_the_intervals_hold_the_true_difference_about_as_often_as_they_say(stay: float) -> None:
    prior, other = [0.4, 0.2, 0.3, 0.1], [0.2, 0.4, 0.3, 0.1]
    found = compared(prior, other, stay=stay, count=60)
    for index, mood in enumerate(MOODS):
        true = prior[index] - other[index]
        held = np.mean([one.moods[mood].difference.low <= true <= one.moods[mood].difference.high for one in found])
        assert held >= 0.87, mood
    true = 0.7 * 0.2 - 0.7 * -0.2
    balances = [one.balance.difference for one in found if one.balance is not None]
    assert np.mean([one.low <= true <= one.high for one in balances]) >= 0.87


def test_a_session_that_is_like_the_baseline_is_seldom_called_different() -> None:
    same = [0.25, 0.25, 0.35, 0.15]
    found = compared(same, same, stay=10.0, count=60)
    assert np.mean([one.balance is not None and one.balance.clear for one in found]) <= 0.12


def test_a_great_difference_is_seen_within_five_minutes() -> None:
    (one,) = compared([0.7, 0.05, 0.2, 0.05], [0.05, 0.7, 0.2, 0.05], stay=6.0, count=1)
    assert one.balance is not None
    assert one.balance.clear
    assert one.balance.difference.mean > 0.5
    assert one.moods["positive"].clear
    assert one.moods["negative"].difference.high < 0
    assert not one.moods["other"].clear


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
    sizes = [effective_size(one.summary(1.0), "positive", STAY) for one in (found, broken)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)  # three episodes with two changes would be worth twice as much


def test_sessions_without_an_answer_differ_in_nothing_that_is_known() -> None:
    empty, full = Accumulator(), Accumulator()
    empty.add(0.0, mood=None)
    full.add(0.0, mood=NEGATIVE, probability=0.9, balance=-0.8, reliable=True)
    one = compare(full.summary(1.0), empty.summary(1.0), stay_seconds=STAY)
    assert one.balance is None
    assert not any(difference.clear for difference in one.moods.values())
