"""The dataset's two Parquet files: their schemas, and how they are read and written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.data import dataset
from pipelines.data.dataset import DatasetError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three photos."""
    path = tmp_path / "photos.parquet"
    rows = (
        {"image": {"bytes": name.encode(), "path": f"{name}.jpg"}, "emotion": "fear", "identity": name}
        for name in "abc"
    )
    dataset.write(path, dataset.PHOTOS, rows)
    return path


def test_the_published_faces_have_the_schema_and_words_that_are_declared(fer2013: Path) -> None:
    emotions = dataset.read(fer2013, dataset.FER2013_SCHEMA, ["emotion"])["emotion"]
    assert set(emotions.to_pylist()) == set(dataset.FER2013_EMOTIONS)


def test_the_published_photos_have_the_schema_and_words_that_are_declared(photos: Path) -> None:
    emotions = dataset.read(photos, dataset.PHOTOS_SCHEMA, ["emotion"])["emotion"]
    assert set(emotions.to_pylist()) == set(dataset.PHOTO_EMOTIONS)


def test_images_come_in_the_order_of_the_file(file: Path) -> None:
    assert list(dataset.iterate_images(file, dataset.PHOTOS_SCHEMA)) == [b"a", b"b", b"c"]
    assert dataset.count_rows(file, dataset.PHOTOS_SCHEMA) == 3


def test_only_the_images_of_the_given_rows_are_read(file: Path) -> None:
    assert list(dataset.iterate_images(file, dataset.PHOTOS_SCHEMA, np.array([2, 0]))) == [b"a", b"c"]


@pytest.mark.parametrize(
    "read",
    [
        lambda path: dataset.read(path, dataset.PHOTOS_SCHEMA),
        lambda path: list(dataset.rows(path, dataset.PHOTOS_SCHEMA)),
        lambda path: list(dataset.iterate_images(path, dataset.PHOTOS_SCHEMA)),
        lambda path: dataset.count_rows(path, dataset.PHOTOS_SCHEMA),
    ],
    ids=["read", "rows", "iterate_images", "count_rows"],
)
def test_a_file_with_other_columns_is_refused_however_it_is_read(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    path = tmp_path / "photos.parquet"
    pq.write_table(pa.table({"image": [b""], "emotion": ["fear"]}), path)
    with pytest.raises(DatasetError, match="other columns than it should"):
        read(path)


def test_a_file_that_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="make data"):
        dataset.read(tmp_path / "photos.parquet", dataset.PHOTOS_SCHEMA)


def test_a_file_that_is_not_parquet_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "photos.parquet"
    path.write_text("no Parquet")
    with pytest.raises(DatasetError, match=r"photos.parquet is not a Parquet file"):
        dataset.read(path, dataset.PHOTOS_SCHEMA)
