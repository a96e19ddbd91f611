"""`service.session.comparison`: a session beside the person's own baseline."""

from __future__ import annotations

import numpy as np
import pytest

from service.moods import MOODS
from service.session.comparison import Comparison, compare
from service.session.summary import Accumulator
from tests.support.sessions import simulated

NEGATIVE = MOODS.index("negative")
STAY = 5.0


def compared(prior: list[float], other: list[float], *, stay: float, count: int) -> list[Comparison]:
    random = np.random.default_rng(1)
    return [
        compare(
            simulated(random, 5, stay=stay, prior=prior),
            simulated(random, 5, stay=stay, prior=other),
            stay_seconds=STAY,
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("stay", [5.0, 15.0, 30.0])
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
    found = compared(same, same, stay=20.0, count=60)
    figures = [[*one.moods.values(), *([] if one.balance is None else [one.balance])] for one in found]
    assert np.mean([any(figure.clear for figure in one) for one in figures]) <= 0.15


def test_a_great_difference_is_seen_within_five_minutes() -> None:
    (one,) = compared([0.7, 0.05, 0.2, 0.05], [0.05, 0.7, 0.2, 0.05], stay=6.0, count=1)
    assert one.balance is not None
    assert one.balance.clear
    assert one.balance.difference.mean > 0.5
    assert one.moods["positive"].clear
    assert one.moods["negative"].difference.high < 0
    assert not one.moods["other"].clear


def test_sessions_without_an_answer_differ_in_nothing_that_is_known() -> None:
    empty, full = Accumulator(), Accumulator()
    empty.add(0.0, mood=None)
    full.add(0.0, mood=NEGATIVE, probability=0.9, balance=-0.8, reliable=True)
    one = compare(full.summary(1.0), empty.summary(1.0), stay_seconds=STAY)
    assert one.balance is None
    assert not any(difference.clear for difference in one.moods.values())
