"""The stage `prepare`: no picture of validation or test in training, and tables and sheets that show the faces."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

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
