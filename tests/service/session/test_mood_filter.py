"""`service.session.mood_filter`: the mood over time."""

from __future__ import annotations

import numpy as np
import pytest

from service.moods import MOODS
from service.session.mood_filter import FilterSettings, MoodFilter

SETTINGS = FilterSettings(5.0, 1.0, 0.3, (0.3, 0.3, 0.3, 0.1))
HAPPY, SAD = (0.8, 0.06, 0.1, 0.04), (0.05, 0.8, 0.1, 0.05)


def after(frames: list[tuple[float, tuple[float, ...]]], **options: bool) -> MoodFilter:
    found = MoodFilter(SETTINGS)
    for time, probabilities in frames:
        found.update(time, probabilities, **options)
    return found


def test_before_the_first_frame_the_prior_holds_and_after_it_what_it_says() -> None:
    assert MoodFilter(SETTINGS).predict(3.0) == pytest.approx(SETTINGS.prior)
    assert after([(0.0, HAPPY)]).probabilities == pytest.approx(HAPPY)


def test_a_single_frame_among_others_does_not_change_the_mood() -> None:
    frames = [(time / 4, HAPPY) for time in range(12)]
    frames[8] = (2.0, SAD)
    found = MoodFilter(SETTINGS)
    assert {MOODS[int(np.argmax(found.update(*frame)))] for frame in frames} == {"positive"}


def test_another_mood_is_followed_within_one_and_a_half_seconds() -> None:
    found = after([(time / 4, HAPPY) for time in range(40)])
    times = [10 + step / 4 for step in range(20)]
    changed = next(time for time in times if np.argmax(found.update(time, SAD)) == MOODS.index("negative"))
    assert changed - 10 <= 1.5


def test_how_much_a_second_says_hardly_depends_on_the_frame_rate() -> None:
    slow, fast = (after([(step / rate, HAPPY) for step in range(3 * rate + 1)]) for rate in (4, 30))
    assert slow.probabilities == pytest.approx(fast.probabilities, abs=0.03)


def test_the_same_picture_again_and_again_makes_nothing_certain() -> None:
    still = after([(step / 10, (0.5, 0.2, 0.2, 0.1)) for step in range(600)])
    assert still.probabilities.max() < 0.97
    assert still.probabilities.sum() == pytest.approx(1.0)


def test_a_long_gap_leads_back_to_the_prior() -> None:
    found = after([(0.0, HAPPY)])
    assert found.predict(100.0) == pytest.approx(SETTINGS.prior, abs=1e-4)


def test_an_unreliable_frame_counts_less() -> None:
    frames = [(step / 4, HAPPY) for step in range(8)]
    reliable, unreliable = (MoodFilter(SETTINGS) for _ in range(2))
    for time, probabilities in frames:
        reliable.update(time, probabilities)
        unreliable.update(time, probabilities, reliable=False)
    assert unreliable.probabilities[0] < reliable.probabilities[0]


def test_a_filter_goes_on_where_another_ended() -> None:
    whole = after([(0.0, HAPPY), (0.5, SAD), (1.0, SAD)])
    half = after([(0.0, HAPPY), (0.5, SAD)])
    assert MoodFilter(SETTINGS, half.probabilities.tolist(), half.time).update(1.0, SAD) == pytest.approx(
        whole.probabilities
    )
