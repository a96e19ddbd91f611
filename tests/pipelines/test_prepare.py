"""Face sets: splits without a person or a picture in two of them, and files that are the same at every run."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.data import near_duplicates
from pipelines.data.face_sets import FaceSet
from pipelines.params import Params
from pipelines.prepare import class_table, montage, remove_leaks
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


def test_a_correlation_is_exact_whatever_the_order_of_the_sum() -> None:
    one = near_duplicates.descriptors(pictures(40, 8))
    forward = one @ one.T
    backward = one[:, ::-1] @ one[:, ::-1].T
    assert (forward == backward).all()


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


def test_face_sets_are_the_same_bytes_at_every_writing_and_come_back_equal(tmp_path: Path) -> None:
    faces = face_set(pictures(10, 3))
    faces.save(tmp_path / "one.npz")
    faces.save(tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    loaded = FaceSet.load(tmp_path / "one.npz")
    assert (loaded.pixels == faces.pixels).all()
    assert (loaded.soft_labels == faces.soft_labels).all()
