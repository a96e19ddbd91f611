"""The stage `prepare`: splits that stay, no picture of validation or test in training, and tables and sheets that show
the faces."""

import shutil
from collections import Counter, defaultdict
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from pipelines import paths, prepare
from pipelines.data import dataset, near_duplicates, test_sets
from pipelines.data.face_sets import FaceSet
from pipelines.data.splits import SPLITS, photos_of_split
from pipelines.params import Params
from pipelines.prepare import class_table, montage, remove_leaks
from service.moods import MOODS
from tests.conftest import ROOT
from tests.support import toys
from tests.support.toys import face_set, pictures

THRESHOLD = Params.read().prepare.duplicate_correlation


def jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """The picture after lossy compression."""
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)


ALTERATIONS = {
    "the very same": lambda image: image,
    "mirrored": lambda image: image[:, ::-1],
    "recompressed": lambda image: jpeg(image, 40),
    "darker and flatter": lambda image: (image * 0.5 + 20).astype(np.uint8),
    "scaled down and up": lambda image: cv2.resize(cv2.resize(image, (32, 32)), (48, 48)),
    "shifted by a pixel": lambda image: np.roll(image, 1, axis=1),
}


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_a_training_picture_that_stands_in_test_is_removed_also_when_it_is(alteration: str) -> None:
    test = pictures(8, seed=1)
    leaked = np.ascontiguousarray(ALTERATIONS[alteration](test[3]))
    train = np.concatenate([pictures(20, seed=2), leaked[None]])
    sets, report = remove_leaks(
        {"train": face_set(train), "validation": face_set(pictures(8, seed=3)), "test": face_set(test)}, THRESHOLD
    )
    assert sets["train"].row.tolist() == list(range(20))
    assert report["removed_because_in_test"] == report["removed"] == 1
    assert report["removed_because_in_validation"] == 0


def test_validation_and_test_stay_as_they_are_even_if_they_share_a_picture() -> None:
    shared = pictures(1, seed=4)
    validation, test = np.concatenate([pictures(5, 5), shared]), np.concatenate([shared, pictures(5, 6)])
    sets, report = remove_leaks(
        {"train": face_set(pictures(9, 7)), "validation": face_set(validation), "test": face_set(test)}, THRESHOLD
    )
    assert len(sets["validation"]) == len(sets["test"]) == 6
    assert report["validation_images_also_in_test"] == 1


def test_the_class_table_counts_each_mood_by_split_and_source() -> None:
    sets = {"train": face_set(pictures(8, 1)), "validation": face_set(pictures(4, 2), source=1)}
    table = class_table(sets).set_index(["split", "source"])
    assert table.loc[("train", "fer2013")].to_dict() == {
        "positive": 2,
        "negative": 2,
        "neutral": 2,
        "other": 2,
        "total": 8,
    }
    assert table.loc[("train", "photos"), "total"] == 0
    assert table.loc[("validation", "photos"), "total"] == 4


def test_a_montage_shows_faces_of_its_mood_only() -> None:
    bright = face_set(
        np.where(np.arange(64) % 4 == 1, 200, 50).astype(np.uint8)[:, None, None] * np.ones((1, 48, 48), np.uint8)
    )
    sheet = montage(bright, mood=1, seed=0)
    assert sheet.shape == (4 * 48, 12 * 48)
    assert set(np.unique(sheet)) == {0, 200}  # 16 faces, the rest of the sheet is black


EMOTIONS = np.array(["happiness", "anger", "neutral", "surprise"])
SHARES_OF_MOODS = [0.45, 0.1, 0.35, 0.1]


class Album:
    """Photos to which people are added, and the stage on them; each photo is a face from edge to edge."""

    def __init__(self) -> None:
        self.faces = np.empty((0, 48, 48), np.uint8)
        self.emotions: list[str] = []
        self.identities: list[str] = []

    def add(self, name: str, people: int, faces: NDArray[np.uint8], seed: int) -> None:
        """Add photos of new people, who have as many each, the last ones perhaps fewer."""
        drawn = np.random.default_rng(seed).choice(EMOTIONS, len(faces), p=SHARES_OF_MOODS)
        self.faces = np.concatenate([self.faces, faces])
        self.emotions += drawn.tolist()
        self.identities += [f"{name} {number % people}" for number in range(len(faces))]

    def prepare(self) -> dict[str, FaceSet]:
        """Run the stage; the photos of each split."""
        colours = [cv2.cvtColor(cv2.resize(face, (96, 96)), cv2.COLOR_GRAY2RGB) for face in self.faces]
        toys.write_photos(paths.PHOTOS, [np.asarray(one, np.uint8) for one in colours], self.emotions, self.identities)
        paths.PHOTO_BOXES.parent.mkdir(parents=True, exist_ok=True)
        box = {"x": 0, "y": 0, "width": 96, "height": 96, "confidence": 0.99, "faces": 1}
        pd.DataFrame([box] * len(self.faces)).to_csv(paths.PHOTO_BOXES, index=False)
        prepare.main()
        return {split: FaceSet.load(paths.face_set(split)).of_source("photos") for split in SPLITS}

    def splits_of_people(self, sets: dict[str, FaceSet]) -> dict[str, set[str]]:
        """The splits in which each person's photos are."""
        found: dict[str, set[str]] = defaultdict(set)
        for split, faces in sets.items():
            for row in faces.row:
                found[self.identities[row]].add(split)
        return found


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Album:
    """200 photos of 100 people, in a directory with FER2013."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / paths.PARAMS, tmp_path)
    toys.write_fer2013(paths.FER2013, 60)
    photos = Album()
    photos.add("old", 100, pictures(200, seed=10), seed=0)
    return photos


def test_nobody_moves_if_people_are_added_twice(album: Album) -> None:
    sets = album.prepare()
    before, trained = album.splits_of_people(sets), set(sets["train"].row)
    assert len(before) == 100
    for addition in range(2):
        album.add(f"new{addition}", 41, pictures(80, seed=11 + addition), seed=1 + addition)
        sets = album.prepare()
        # The drift reference is made of the validation photos, and the test of the test photos.
        held_out = photos_of_split(paths.PHOTOS, Params.read().prepare, "validation", "test")
        assert not trained & set(held_out.rows)
        trained |= set(sets["train"].row)
        after = album.splits_of_people(sets)
        assert {person: after[person] for person in before} == before
        assert {len(splits) for splits in after.values()} == {1}  # no person spans splits
        new = Counter(split for person in after.keys() - before.keys() for split in after[person])
        assert set(new) == set(SPLITS)
        before = after
    assert len(before) == 100 + 2 * 41


def test_people_who_are_added_are_balanced_by_mood(album: Album) -> None:
    album.prepare()
    album.add("new", 400, pictures(800, seed=12), seed=1)
    sets = album.prepare()
    new = {split: faces.ferplus_mood[faces.row >= 200] for split, faces in sets.items()}
    for mood in range(len(MOODS)):
        counts = np.array([(moods == mood).sum() for moods in new.values()])
        np.testing.assert_allclose(counts / counts.sum(), [0.75, 0.1, 0.15], atol=0.05)


def test_pictures_that_are_nearly_the_same_never_span_splits(album: Album) -> None:
    first = album.prepare()
    known = np.concatenate([faces.pixels[:4] for faces in first.values()])
    # The pictures come again, mirrored, under the names of new people.
    album.add("again", len(known), np.ascontiguousarray(known[:, :, ::-1]), seed=3)
    sets = album.prepare()
    threshold = Params.read().prepare.duplicate_correlation
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not near_duplicates.duplicated_in(sets[one].pixels, sets[other].pixels, threshold).any()
    # What trained before is in training still: a model that knows it is not tested on it.
    assert set(first["train"].row) <= set(sets["train"].row)
    assert album.splits_of_people(sets)["again 0"] == {"train"}


def test_a_second_run_writes_the_same_bytes(album: Album) -> None:
    album.prepare()
    written = [*paths.FACES.iterdir(), *paths.LEAKS.parent.iterdir(), paths.PEOPLE]
    before = [path.read_bytes() for path in written]
    album.prepare()
    assert [path.read_bytes() for path in written] == before


def test_new_people_make_another_version_of_the_photos_and_not_of_fer2013(album: Album) -> None:
    album.prepare()
    before = test_sets.read()
    album.add("new", 40, pictures(80, seed=12), seed=1)
    album.prepare()
    after = test_sets.read()
    for split in SPLITS[1:]:
        assert after[split]["fer2013"] == before[split]["fer2013"]
        assert after[split]["photos"]["version"] != before[split]["photos"]["version"]
        assert int(after[split]["photos"]["people"]) > int(before[split]["photos"]["people"])


def test_the_table_names_nobody(album: Album) -> None:
    album.prepare()
    assert not [name for name in album.identities if name in paths.PEOPLE.read_text()]


def test_fer2013_keeps_its_official_split(album: Album) -> None:
    album.prepare()
    usages = dataset.read(paths.FER2013, dataset.FER2013_SCHEMA, ["usage"]).to_pandas()["usage"]
    for split, usage in zip(SPLITS[1:], dataset.USAGES[1:], strict=True):
        rows = FaceSet.load(paths.face_set(split)).of_source("fer2013").row
        np.testing.assert_array_equal(rows, np.flatnonzero(usages == usage))
