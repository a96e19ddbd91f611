"""The splits of the photos: no person in two of them, and every mood in each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.data.dataset import DatasetError
from pipelines.data.splits import SPLITS, photos_of_split, split_by_identity
from pipelines.params import Params, PhotoSplits
from service.moods import MOODS
from tests.support import toys

EMOTIONS = ("happiness", "anger", "neutral", "surprise")
PHOTOS = 160


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos of as many people, with the moods of `MOODS` in turn."""
    path = tmp_path / "photos.parquet"
    toys.write_photos(path, [np.zeros((8, 8, 3), np.uint8)] * PHOTOS, list(EMOTIONS) * (PHOTOS // len(EMOTIONS)))
    return path


def test_no_person_is_in_two_splits_and_every_split_has_every_mood() -> None:
    random = np.random.default_rng(0)
    identities = np.array(
        [f"person {number}" for number in random.zipf(2.0, 3000) + 1000 * random.integers(0, 300, 3000)]
    )
    moods = random.choice(4, 3000, p=[0.45, 0.05, 0.45, 0.05]).astype(np.int8)
    split = split_by_identity(identities, moods, PhotoSplits(folds=20, validation_folds=2, test_folds=3), seed=1)
    people = {name: set(identities[split == name]) for name in ("train", "validation", "test")}
    assert not people["train"] & people["validation"]
    assert not people["train"] & people["test"]
    assert not people["validation"] & people["test"]
    for name in people:
        assert set(moods[split == name]) == {0, 1, 2, 3}, name
    assert (split == "test").mean() == pytest.approx(0.15, abs=0.02)


def test_every_photo_is_in_exactly_one_split(photos: Path) -> None:
    rows = [set(photos_of_split(photos, Params.read().prepare, split).rows) for split in SPLITS]
    assert all(rows)
    assert sum(map(len, rows)) == len(set.union(*rows)) == PHOTOS


def test_the_photos_of_a_split_come_with_their_moods_in_the_order_of_the_file(photos: Path) -> None:
    split = photos_of_split(photos, Params.read().prepare, "train")
    assert (np.diff(split.rows) > 0).all()
    np.testing.assert_array_equal(split.moods, split.rows % len(MOODS))


def test_two_splits_are_read_as_one(photos: Path) -> None:
    params = Params.read().prepare
    both = photos_of_split(photos, params, "validation", "test")
    each = [photos_of_split(photos, params, name).rows for name in ("validation", "test")]
    np.testing.assert_array_equal(both.rows, np.sort(np.concatenate(each)))


def test_a_file_without_identities_is_refused(photos: Path) -> None:
    pq.write_table(pq.read_table(photos).drop(["identity"]), photos)
    with pytest.raises(DatasetError, match="other columns"):
        photos_of_split(photos, Params.read().prepare, "test")
