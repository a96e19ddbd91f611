"""`service.session.summary`: a session in a few numbers."""

from __future__ import annotations

import numpy as np
import pytest

from service.moods import MOODS
from service.session.summary import MAX_EPISODES, Accumulator

POSITIVE, NEGATIVE = MOODS.index("positive"), MOODS.index("negative")
CORRELATION = 1.0


def add(found: Accumulator, time: float, mood: int | None, balance: float = 0.0) -> None:
    found.add(time, mood=mood, probability=0.9, balance=balance, reliable=mood is not None)


def test_the_summary_of_the_contracts_example() -> None:
    found = Accumulator()
    add(found, 0.0, POSITIVE, 0.88)
    add(found, 0.5, None)
    summary = found.summary(CORRELATION)
    assert (summary.seconds, summary.frames, summary.answered, summary.reliable_share) == (1.0, 2, 1, 0.5)
    assert summary.moods["positive"].share == 1.0
    assert summary.moods["positive"].seconds == 0.5
    (episode,) = summary.episodes
    assert (episode.mood, episode.start, episode.end, episode.probability) == ("positive", 0.0, 0.5, 0.9)
    assert summary.changes_per_minute == 0.0
    assert summary.balance is not None
    assert summary.balance.mean == pytest.approx(0.88)
    assert -1 <= summary.balance.low < 0.88 < summary.balance.high <= 1


def test_moods_are_measured_in_time_and_not_in_frames() -> None:
    found = Accumulator()
    for time in np.arange(0, 4, 0.1):
        add(found, float(time), POSITIVE)
    for time in (4.0, 5.0, 6.0, 7.0):
        add(found, time, NEGATIVE)
    summary = found.summary(CORRELATION)
    assert summary.moods["positive"].seconds == pytest.approx(4.0)
    assert summary.moods["negative"].seconds == pytest.approx(4.0)
    assert [episode.mood for episode in summary.episodes] == ["positive", "negative"]
    assert summary.changes_per_minute == pytest.approx(60 / 8)


def test_a_gap_ends_an_episode_and_its_time_counts_for_no_mood() -> None:
    found = Accumulator()
    for time in (0.0, 1.0, 60.0, 61.0):
        add(found, time, POSITIVE)
    summary = found.summary(CORRELATION)
    assert summary.seconds == pytest.approx(62.0)
    assert summary.moods["positive"].seconds == pytest.approx(1 + 2 + 1 + 1)
    assert [(episode.start, episode.end) for episode in summary.episodes] == [(0.0, 3.0), (60.0, 62.0)]


def test_without_an_answer_there_is_no_balance() -> None:
    found = Accumulator()
    assert found.summary(CORRELATION).balance is None
    add(found, 0.0, None)
    summary = found.summary(CORRELATION)
    assert summary.balance is None
    assert summary.seconds == 0.5
    assert {mood.share for mood in summary.moods.values()} == {0.0}


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_the_interval_of_the_balance_holds_the_true_mean_about_as_often_as_it_says(correlation: float) -> None:
    random, held = np.random.default_rng(3), 0
    for _ in range(200):
        found, value = Accumulator(), random.normal()
        for step in range(120):
            value = correlation * value + np.sqrt(1 - correlation**2) * random.normal()
            add(found, step * 0.5, POSITIVE, 0.1 + 0.3 * value)
        interval = found.summary(0.3).balance
        assert interval is not None
        held += interval.low <= 0.1 <= interval.high
    assert held / 200 > 0.9


def test_frames_that_are_alike_say_little() -> None:
    alike, different = Accumulator(), Accumulator()
    random = np.random.default_rng(0)
    values = random.uniform(-1, 1, 200)
    for step in range(200):
        add(alike, step / 4, POSITIVE, float(values[step // 20 * 20]))
        add(different, step / 4, POSITIVE, float(values[step]))
    wide, narrow = (found.summary(0.1).balance for found in (alike, different))
    assert wide is not None
    assert narrow is not None
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


@pytest.mark.parametrize("deviation", [0.0, 1e-5, 0.001, 0.02])
def test_a_balance_that_hardly_moves_is_as_certain_at_one_as_at_zero(deviation: float) -> None:
    def width(mean: float) -> float:
        random, found = np.random.default_rng(0), Accumulator()
        for time in np.cumsum(random.choice([0.3, 0.5, 0.7], 120)):
            add(found, float(time), POSITIVE, mean + deviation * random.normal())
        interval = found.summary(CORRELATION).balance
        assert interval is not None
        return interval.mean - interval.low

    assert width(0.9) == pytest.approx(width(0.0), rel=1e-3)
    assert width(0.9) < 0.15


def test_an_endless_session_keeps_the_latest_episodes() -> None:
    found = Accumulator()
    for step in range(3 * MAX_EPISODES):
        add(found, float(step), step % 2)
    summary = found.summary(CORRELATION)
    assert len(summary.episodes) == MAX_EPISODES
    assert summary.episodes[-1].end == 3 * MAX_EPISODES
    assert summary.moods["positive"].seconds == pytest.approx(1.5 * MAX_EPISODES)
