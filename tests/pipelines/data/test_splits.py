"""The table of people: no person in two splits, and nobody's name in it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines import paths
from pipelines.data import dataset
from pipelines.data.dataset import DatasetError
from pipelines.data.splits import SPLITS, person_of, photo_labels, photos_of_split, read_people, write_people
from pipelines.params import Params
from service.moods import MOODS
from tests.conftest import ROOT
from tests.support import toys

EMOTIONS = ("happiness", "anger", "neutral", "surprise")
PHOTOS = 160


@pytest.fixture
def toy_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photos of as many people, with the moods of `MOODS` in turn, and the table of the people."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "photos.parquet"
    toys.write_photos(path, [np.zeros((8, 8, 3), np.uint8)] * PHOTOS, list(EMOTIONS) * (PHOTOS // len(EMOTIONS)))
    toys.write_people(path)
    return path


@pytest.fixture
def params() -> Params:
    return Params.read(ROOT / paths.PARAMS)


def test_every_photo_is_in_exactly_one_split(toy_photos: Path, params: Params) -> None:
    rows = [set(photos_of_split(toy_photos, params.prepare, split).rows) for split in SPLITS]
    assert all(rows)
    assert sum(map(len, rows)) == len(set.union(*rows)) == PHOTOS


def test_the_photos_of_a_split_come_with_their_moods_in_the_order_of_the_file(toy_photos: Path, params: Params) -> None:
    split = photos_of_split(toy_photos, params.prepare, "train")
    assert (np.diff(split.rows) > 0).all()
    np.testing.assert_array_equal(split.moods, split.rows % len(MOODS))


def test_two_splits_are_read_as_one(toy_photos: Path, params: Params) -> None:
    both = photos_of_split(toy_photos, params.prepare, "validation", "test")
    each = [photos_of_split(toy_photos, params.prepare, name).rows for name in ("validation", "test")]
    np.testing.assert_array_equal(both.rows, np.sort(np.concatenate(each)))


def test_a_file_without_identities_is_refused(toy_photos: Path, params: Params) -> None:
    pq.write_table(pq.read_table(toy_photos).drop(["identity"]), toy_photos)
    with pytest.raises(DatasetError, match="other columns"):
        photos_of_split(toy_photos, params.prepare, "test")


def test_a_person_without_a_split_is_an_error_that_names_the_stage_to_run(toy_photos: Path, params: Params) -> None:
    people = read_people()
    people.pop(person_of("person 7"))
    write_people(people)
    with pytest.raises(DatasetError, match=r"lacks 1 of the people .*dvc repro prepare"):
        photos_of_split(toy_photos, params.prepare, "test")


def test_a_missing_table_is_an_error_that_says_where_it_comes_from(toy_photos: Path, params: Params) -> None:
    paths.PEOPLE.unlink()
    with pytest.raises(DatasetError, match="Take it from git"):
        photos_of_split(toy_photos, params.prepare, "test")


@pytest.mark.parametrize("spelling", ["josé garcía", "Jose_Garcia", "JOSE GARCIA", "José-García"])
def test_another_spelling_is_the_same_person(spelling: str) -> None:
    assert person_of(spelling) == person_of("José_García")


def test_names_without_letters_are_different_people() -> None:
    assert len({person_of(name) for name in ("20240131", "20240201", "?", "!")}) == 4


def test_the_table_survives_writing_and_reading_and_is_sorted(tmp_path: Path) -> None:
    people = {person_of(name): split for name, split in zip("abcdef", SPLITS * 2, strict=True)}
    write_people(people, tmp_path / "people.csv")
    assert read_people(tmp_path / "people.csv") == people
    lines = (tmp_path / "people.csv").read_text().splitlines()
    assert lines[1:] == sorted(lines[1:])


def test_after_a_merge_a_person_with_two_lines_is_in_training(tmp_path: Path) -> None:
    person = person_of("Eileen Collins")
    for lines in ("test\n{0},train", "train\n{0},test"):
        (tmp_path / "people.csv").write_text(f"person,split\n{person},{lines.format(person)}\n")
        assert read_people(tmp_path / "people.csv") == {person: "train"}


def test_git_keeps_the_people_whom_two_branches_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.hooksPath=")
        subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)

    def commit(people: dict[str, str]) -> None:
        write_people(people)
        git("add", "-A")
        git("commit", "-m", "people")

    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / ".gitattributes", tmp_path)
    git("init", "-b", "main")
    before = {person_of(f"old {number}"): SPLITS[number % 3] for number in range(20)}
    commit(before)
    git("branch", "theirs")
    mine = {person_of(f"mine {number}"): "train" for number in range(20)} | {person_of("both"): "test"}
    commit(before | mine)
    git("checkout", "theirs")
    theirs = {person_of(f"theirs {number}"): "test" for number in range(20)} | {person_of("both"): "train"}
    commit(before | theirs)
    git("merge", "main")
    assert read_people() == before | mine | theirs


@pytest.mark.parametrize("line", ["<<<<<<< HEAD", f"{person_of('a')},training", "Eileen Collins,test"])
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "people.csv").write_text(f"person,split\n{person_of('b')},test\n{line}\n")
    with pytest.raises(DatasetError, match=r"people\.csv:3"):
        read_people(tmp_path / "people.csv")


def test_the_committed_table_holds_hashes_and_splits_and_nothing_else() -> None:
    people = read_people(ROOT / paths.PEOPLE)
    assert all(len(person) == 16 and set(person) <= set("0123456789abcdef") for person in people)
    assert len((ROOT / paths.PEOPLE).read_text().splitlines()) == len(people) + 1
    assert set(people.values()) == set(SPLITS)


def test_the_committed_table_has_every_person_of_the_dataset(photos: Path, params: Params) -> None:
    persons, moods = photo_labels(photos, params.prepare)
    people = read_people(ROOT / paths.PEOPLE)
    assert set(persons) <= people.keys()
    names = dataset.read(photos, dataset.PHOTOS_SCHEMA, ["identity"]).to_pandas()["identity"]
    assert not set(names) & people.keys()
    split = np.array([people[person] for person in persons])
    np.testing.assert_allclose([(split == name).mean() for name in SPLITS], [0.75, 0.10, 0.15], atol=0.03)
    for name in SPLITS:
        assert set(moods[split == name]) == set(range(len(MOODS)))
