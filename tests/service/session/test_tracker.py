"""`service.session.tracker`: who is who, by the places of boxes."""

from __future__ import annotations

from service.detector import Face
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
