"""`service.session.tracker`: who is who, by the places of boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.detector import Face
from service.faces import overlap
from service.session.tracker import Tracker


def face(x: int, y: int = 100, side: int = 100) -> Face:
    return Face(x, y, side, side, 0.99)


def test_the_largest_face_at_the_start_is_the_subject() -> None:
    tracker, numbers = Tracker().follow([face(0, side=60), face(200)], 0.0)
    assert tracker.subject == numbers[1]


def test_a_face_that_moves_keeps_its_number() -> None:
    tracker, _ = Tracker().follow([face(100)], 0.0)
    for step in range(1, 20):
        tracker, numbers = tracker.follow([face(100 + 15 * step)], step / 4)
        assert numbers == [1]


def test_the_subject_stays_it_while_a_larger_face_passes_by() -> None:
    tracker, _ = Tracker().follow([face(100)], 0.0)
    tracker, numbers = tracker.follow([face(102), face(300, side=180)], 0.25)
    assert numbers == [1, 2]
    assert tracker.subject == 1


def test_the_subject_who_turned_away_is_the_same_after_a_few_seconds() -> None:
    tracker, _ = Tracker().follow([face(100)], 0.0)
    tracker, _ = tracker.follow([], 1.0)
    tracker, numbers = tracker.follow([face(160)], 6.0)
    assert numbers == [tracker.subject] == [1]


def test_a_face_elsewhere_or_of_another_size_is_another_person() -> None:
    tracker, _ = Tracker().follow([face(100)], 0.0)
    for other in (face(900), face(110, side=300)):
        followed, numbers = tracker.follow([other], 1.0)
        assert numbers == [2]
        assert followed.subject == 1


def test_half_a_minute_later_the_next_face_is_a_new_subject() -> None:
    tracker, _ = Tracker().follow([face(100)], 0.0)
    tracker, numbers = tracker.follow([face(400)], 40.0)
    assert tracker.subject == numbers[0] == 2


def test_a_crowd_is_bounded() -> None:
    tracker = Tracker()
    for step in range(30):
        tracker, _ = tracker.follow([face(150 * column, 150 * step) for column in range(8)], step / 10)
    assert len(tracker.tracks) <= 16
    assert tracker.of_subject() is not None


def test_whoever_passes_in_front_takes_the_subjects_number_along_only_until_the_subject_is_seen_again() -> None:
    tracker, _ = Tracker().follow([face(300)], 0.0)
    for step, x in enumerate((360, 420, 480, 540), 1):  # all that a look at the known place finds
        tracker, numbers = tracker.follow([face(x)], step / 4)
        assert numbers == [1]
    tracker, numbers = tracker.follow([face(600), face(303)], 1.25)
    assert numbers == [2, 1]
    tracker, numbers = tracker.follow([face(660), face(301)], 1.5)
    assert numbers == [2, 1]


def test_the_subject_is_known_again_after_somebody_has_left_with_the_number() -> None:
    tracker, _ = Tracker().follow([face(300)], 0.0)
    for step, x in enumerate((360, 420, 480, 540, 600), 1):
        tracker, _ = tracker.follow([face(x)], step / 4)
    tracker, numbers = tracker.follow([face(302)], 2.0)
    assert numbers == [1]


def test_a_subject_who_moves_on_is_not_confused_with_who_sits_down_at_the_old_place() -> None:
    tracker, _ = Tracker().follow([face(300)], 0.0)
    for step in range(1, 17):
        tracker, _ = tracker.follow([face(300 + 25 * step)], step / 4)
    tracker, numbers = tracker.follow([face(725), face(300)], 4.25)
    assert numbers == [1, 2]


@pytest.mark.parametrize("side", [100, 130])
def test_the_subject_stays_it_whoever_passes_in_front(side: int) -> None:
    """The face in front hides the other. Between two looks at the whole frame, one a second, only the face nearest to
    where the subject is expected is seen."""
    random = np.random.default_rng(side)
    kept = 0
    for _ in range(100):
        tracker, rate, speed = Tracker(), int(random.choice([2, 4, 10])), random.uniform(100, 500)
        for step in range(10 * rate):
            shift = random.integers(-4, 5, 2)
            people = {"subject": face(300 + int(shift[0]), 100 + int(shift[1]))}
            x = round(-side + speed * (step / rate - 2))
            if -side < x < 700 and step > 2 * rate:
                people["passer"] = face(x, 100, side)
                if abs(x + side / 2 - people["subject"].x - 50) < (100 + side) / 2 - 40:
                    del people["subject"]
            if step % rate and (subject := tracker.of_subject()) is not None:
                expected = subject.expected(step / rate)
                people = dict(sorted(people.items(), key=lambda one: -overlap(one[1], expected))[:1])
                people = {name: one for name, one in people.items() if overlap(one, expected) > 0.25}
            tracker, numbers = tracker.follow(list(people.values()), step / rate)
        kept += "subject" in people and numbers[list(people).index("subject")] == 1
    assert kept >= 85


@given(
    st.lists(
        st.tuples(
            st.floats(0, 5),
            st.lists(st.tuples(st.integers(-50, 900), st.integers(-50, 900), st.integers(1, 400)), max_size=6),
        ),
        max_size=30,
    )
)
def test_whatever_comes_each_face_has_a_number_of_its_own_and_the_subject_changes_only_after_half_a_minute(
    frames: list[tuple[float, list[tuple[int, int, int]]]],
) -> None:
    tracker, time = Tracker(), 0.0
    for seconds, boxes in frames:
        time += seconds
        before = tracker.of_subject()
        tracker, numbers = tracker.follow([face(*box) for box in boxes], time)
        assert len(numbers) == len(set(numbers)) == len(boxes)
        assert all(1 <= number <= tracker.last for number in numbers)
        assert {track.number for track in tracker.tracks if track.time == time} >= set(numbers)
        assert len(tracker.tracks) <= 16
        if before is not None and time - before.time <= 30:
            assert tracker.subject == before.number
        if boxes:
            assert tracker.of_subject() is not None
