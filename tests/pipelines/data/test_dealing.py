"""Dealing new people out: nobody moves, moods stay balanced, and pictures that are the same stay together."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.data.dealing import Bonds, Pictures, bonds, deal
from pipelines.data.splits import SPLITS
from pipelines.params import PhotoSplits
from service.moods import MOODS
from tests.support.toys import pictures

SHARES = PhotoSplits(validation=0.1, test=0.15)
WANTED = [0.75, 0.1, 0.15]
FREE = Bonds({}, {})
THRESHOLD = 0.9


def crowd(prefix: str, photos: int, seed: int) -> tuple[NDArray[np.str_], NDArray[np.int8]]:
    """Photos of people, few of whom have many, and their moods, two of which are rare."""
    random = np.random.default_rng(seed)
    numbers = random.zipf(2.0, photos).clip(max=1000) + 1000 * random.integers(0, photos // 10, photos)
    moods = random.choice(len(MOODS), photos, p=[0.45, 0.05, 0.42, 0.08])
    return np.array([f"{prefix}{number}" for number in numbers]), moods.astype(np.int8)


def shares(persons: NDArray[np.str_], moods: NDArray[np.int8], people: dict[str, str]) -> NDArray[np.float64]:
    """Shares of the splits (columns) in the photos of each mood (rows)."""
    split = np.array([people[person] for person in persons])
    return np.array([[(split[moods == mood] == name).mean() for name in SPLITS] for mood in range(len(MOODS))])


def test_everybody_is_dealt_out_balanced_by_mood() -> None:
    persons, moods = crowd("p", 3000, seed=0)
    people = deal(persons, moods, {}, SHARES, FREE)
    assert set(people) == set(persons)
    np.testing.assert_allclose(shares(persons, moods, people), [WANTED] * len(MOODS), atol=0.01)


def test_who_has_many_photos_trains() -> None:
    persons = np.array(["many"] * 200 + [f"p{number}" for number in range(400)])
    people = deal(persons, np.zeros(600, np.int8), {}, SHARES, FREE)
    assert people["many"] == "train"


def test_nobody_moves_if_people_are_added_twice_and_the_moods_stay_balanced() -> None:
    persons, moods = crowd("p", 3000, seed=0)
    people = deal(persons, moods, {}, SHARES, FREE)
    for addition in range(2):
        more_persons, more_moods = crowd(f"new{addition} ", 80, seed=addition + 1)
        persons, moods = np.concatenate([persons, more_persons]), np.concatenate([moods, more_moods])
        before, people = people, deal(persons, moods, people, SHARES, FREE)
        assert {person: people[person] for person in before} == before
        assert {people[person] for person in more_persons} == set(SPLITS)
        np.testing.assert_allclose(shares(persons, moods, people), [WANTED] * len(MOODS), atol=0.02)


@pytest.mark.parametrize("before", [None, "train", "test"])
def test_many_new_people_are_balanced_among_themselves_whatever_the_others_are(before: str | None) -> None:
    persons, moods = crowd("p", 3000, seed=0)
    people = deal(persons, moods, {} if before is None else dict.fromkeys(persons.tolist(), before), SHARES, FREE)
    more_persons, more_moods = crowd("new", 1000, seed=5)
    people = deal(np.concatenate([persons, more_persons]), np.concatenate([moods, more_moods]), people, SHARES, FREE)
    np.testing.assert_allclose(shares(more_persons, more_moods, people), [WANTED] * len(MOODS), atol=0.03)


@pytest.mark.parametrize("photos", [1, 50])
def test_people_who_come_one_at_a_time_do_not_all_train(photos: int) -> None:
    people: dict[str, str] = {}
    persons = np.array([f"p{number}" for number in range(100) for _ in range(photos)])
    for count in range(photos, len(persons) + 1, photos):
        people = deal(persons[:count], np.zeros(count, np.int8), people, SHARES, FREE)
    found = [list(people.values()).count(split) / 100 for split in SPLITS]
    np.testing.assert_allclose(found, WANTED, atol=0.02)


def test_the_order_of_the_photos_does_not_matter() -> None:
    persons, moods = crowd("p", 500, seed=0)
    assert deal(persons, moods, {}, SHARES, FREE) == deal(persons[::-1], moods[::-1], {}, SHARES, FREE)


def test_somebody_whose_photos_are_gone_keeps_the_split() -> None:
    assert deal(np.array(["b"]), np.zeros(1, np.int8), {"a": "test"}, SHARES, FREE)["a"] == "test"


@pytest.mark.parametrize("split", SPLITS)
def test_a_new_person_with_a_picture_of_an_assigned_one_goes_where_that_is(split: str) -> None:
    faces = pictures(40, seed=1)
    faces[39] = faces[0][:, ::-1]  # mirrored, under another name
    owners = np.array([f"p{number}" for number in range(40)])
    assigned = {"p0": split} | dict.fromkeys(owners[1:20], "train" if split != "train" else "test")
    bound = bonds(Pictures(faces, owners), Pictures(faces[:0], owners[:0]), assigned, THRESHOLD)
    assert bound.split == {"p39": split}
    assert deal(owners, np.zeros(40, np.int8), assigned, SHARES, bound)["p39"] == split


def test_a_picture_that_training_has_wins_over_one_that_test_has() -> None:
    faces = pictures(4, seed=1)
    photos = Pictures(np.concatenate([faces[:1], faces[:2]]), np.array(["trains", "new", "new"]))
    others = Pictures(faces[1:3], np.array(["test", "validation"]))
    assert bonds(photos, others, {"trains": "train"}, THRESHOLD).split == {"new": "train"}


def test_new_people_who_share_a_picture_stay_together() -> None:
    faces = pictures(60, seed=1)
    faces[1], faces[2] = faces[0], faces[0]
    owners = np.array([f"p{number}" for number in range(60)])
    bound = bonds(Pictures(faces, owners), Pictures(faces[:0], owners[:0]), {}, THRESHOLD)
    assert {bound.group[person] for person in ("p0", "p1", "p2")} == {"p0"}
    assert len(set(bound.group.values())) == 58
    for moods in (np.zeros(60, np.int8), (np.arange(60) % 4).astype(np.int8)):
        people = deal(owners, moods, {}, SHARES, bound)
        assert people["p0"] == people["p1"] == people["p2"]


def test_nothing_is_compared_if_nobody_is_new() -> None:
    faces = pictures(2, seed=1)
    photos = Pictures(faces, np.array(["a", "b"]))
    assert bonds(photos, photos, {"a": "train", "b": "test"}, THRESHOLD) == Bonds({}, {})
