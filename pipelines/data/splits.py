"""Splits of the photos into training, validation and test, with no person in two of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from pipelines.data import dataset
from pipelines.data.labels import moods_of_emotions
from pipelines.params import PhotoSplits, PrepareParams

SPLITS: Final[tuple[str, ...]] = ("train", "validation", "test")


@dataclass(frozen=True)
class PhotoSplit:
    """The photos of one or several splits, with or without a detected face.

    Attributes:
        rows: Rows in the Parquet file, int64 (n,), ascending.
        moods: Indices of the labelled moods in `MOODS`, int8 (n,).
    """

    rows: NDArray[np.int64]
    moods: NDArray[np.int8]


def photos_of_split(path: Path, params: PrepareParams, *splits: str) -> PhotoSplit:
    """Select the photos of one or several splits.

    Args:
        path: Parquet file of the photos.
        params: Moods and splits.
        splits: Names from `SPLITS`.

    Raises:
        DatasetError: The file is absent, is not Parquet, or has another schema.
        KeyError: `prepare.moods` lacks an emotion of the file.
    """
    moods, split = split_photos(path, params)
    rows = np.flatnonzero(np.isin(split, splits))
    return PhotoSplit(rows, moods[rows])


def split_photos(path: Path, params: PrepareParams) -> tuple[NDArray[np.int8], NDArray[np.str_]]:
    """Mood and split of every photo.

    Returns:
        Indices in `MOODS`, int8 (n,), and names from `SPLITS`, (n,), both in the order of the file.

    Raises:
        DatasetError: The file is absent, is not Parquet, or has another schema.
        KeyError: `prepare.moods` lacks an emotion of the file.
    """
    table = dataset.read(path, dataset.PHOTOS_SCHEMA, ["emotion", "identity"]).to_pandas()
    moods = moods_of_emotions(table["emotion"], params)
    return moods, split_by_identity(table["identity"].to_numpy(dtype=str), moods, params.photo_splits, params.seed)


def split_by_identity(
    identities: NDArray[np.str_], moods: NDArray[np.int8], splits: PhotoSplits, seed: int
) -> NDArray[np.str_]:
    """Assign photos to splits: all photos of a person to the same one, and similar shares of the moods to each.

    The last folds are held out. Scikit-learn assigns the people with the most photos first, so the last folds hold
    many people with few photos each, and no single person dominates a metric on them.

    Args:
        identities: The person in each photo, (n,).
        moods: Indices in `MOODS`, int8 (n,).
        splits: Number of folds, and how many of them are held out.
        seed: Seed of the shuffle before the split.

    Returns:
        Names from `SPLITS`, (n,).
    """
    folds = StratifiedGroupKFold(splits.folds, shuffle=True, random_state=seed)
    fold = np.empty(len(moods), dtype=np.intp)
    for index, (_, held_out) in enumerate(folds.split(moods, moods, identities)):
        fold[held_out] = index
    split = np.full(len(moods), "train", dtype="<U10")
    split[fold >= splits.folds - splits.test_folds - splits.validation_folds] = "validation"
    split[fold >= splits.folds - splits.test_folds] = "test"
    return split
