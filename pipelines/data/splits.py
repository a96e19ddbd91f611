"""Splits of the photos by person. Who was assigned once stays assigned.

`splits/people.csv` is the record: one line per person, kept in git. The stage `prepare` adds people who are new to the
dataset (`pipelines.data.dealing`) and never changes a line, so a photo that a model was trained on cannot get into a
later test. The table names people by a hash.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines import paths
from pipelines.data import dataset
from pipelines.data.dataset import DatasetError
from pipelines.data.labels import moods_of_emotions
from pipelines.params import PrepareParams

SPLITS: Final[tuple[str, ...]] = ("train", "validation", "test")

_COLUMNS: Final = ["person", "split"]
_DIGITS: Final = 16


@dataclass(frozen=True)
class PhotoSplit:
    """The photos of one or several splits, with or without a detected face.

    Attributes:
        rows: Rows in the Parquet file, int64 (n,), ascending.
        moods: Indices of the labelled moods in `MOODS`, int8 (n,).
    """

    rows: NDArray[np.int64]
    moods: NDArray[np.int8]


def person_of(identity: str) -> str:
    """Name of a person in the table: 16 hexadecimal digits of a SHA-256 of the identity.

    Case, accents, spaces and punctuation do not count, so that another spelling does not make another person.

    >>> person_of("George_W_Bush") == person_of("george w. bush")
    True
    """
    letters = "".join(filter(str.isalnum, unicodedata.normalize("NFKD", identity).casefold()))
    return hashlib.sha256((letters or identity).encode()).hexdigest()[:_DIGITS]


def read_people(path: Path = paths.PEOPLE) -> dict[str, str]:
    """The split of each person, by `person_of`.

    A merge of two branches may leave two lines for one person. The split that comes first in `SPLITS` holds: whoever
    was in training must not get into a test.

    Raises:
        DatasetError: The table is absent, or a line of it is wrong.
    """
    if not path.is_file():
        raise DatasetError(
            f"{path} does not exist. Take it from git, or run the stage `prepare` (`dvc repro prepare`)."
        )
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if list(table.columns) != _COLUMNS:
        raise DatasetError(f"{path} has the columns {', '.join(table.columns)}; it should have {', '.join(_COLUMNS)}.")
    wrong = np.flatnonzero(~(table["person"].str.fullmatch(f"[0-9a-f]{{{_DIGITS}}}") & table["split"].isin(SPLITS)))
    if len(wrong):
        raise DatasetError(
            f"{path}:{wrong[0] + 2}: not a person and a split ({', '.join(SPLITS)}). If a merge left its marks, keep "
            "the lines of both sides."
        )
    first = table.assign(order=table["split"].map(SPLITS.index)).sort_values("order", kind="stable")
    return dict(first.drop_duplicates("person").set_index("person")["split"])


def write_people(people: Mapping[str, str], path: Path = paths.PEOPLE) -> None:
    """Write the table, sorted by person, so that two branches rarely add lines at the same place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(sorted(people.items()), columns=_COLUMNS)
    table.to_csv(path, index=False, lineterminator="\n")


def photo_labels(path: Path, params: PrepareParams) -> tuple[NDArray[np.str_], NDArray[np.int8]]:
    """Person and mood of every photo.

    Returns:
        Results of `person_of`, (n,), and indices in `MOODS`, int8 (n,), both in the order of the file.

    Raises:
        DatasetError: The file is absent, is not Parquet, or has another schema.
        KeyError: `prepare.moods` lacks an emotion of the file.
    """
    table = dataset.read(path, dataset.PHOTOS_SCHEMA, ["emotion", "identity"]).to_pandas()
    names = {identity: person_of(identity) for identity in table["identity"].unique()}
    return table["identity"].map(names).to_numpy(dtype=str), moods_of_emotions(table["emotion"], params)


def photos_of_split(path: Path, params: PrepareParams, *splits: str, people: Path = paths.PEOPLE) -> PhotoSplit:
    """Select the photos of one or several splits.

    Args:
        path: Parquet file of the photos.
        params: Moods of the emotions.
        splits: Names from `SPLITS`.
        people: Table of the people.

    Raises:
        DatasetError: A file is absent or wrong, or the table lacks a person of the photos.
        KeyError: `prepare.moods` lacks an emotion of the file.
    """
    persons, moods = photo_labels(path, params)
    assigned = read_people(people)
    missing = set(persons) - assigned.keys()
    if missing:
        raise DatasetError(
            f"{people} lacks {len(missing):,} of the people in {path}. Run the stage `prepare` (`dvc repro prepare`), "
            "which adds them, or check out the photos that belong to this commit (`dvc checkout`)."
        )
    rows = np.flatnonzero([assigned[person] in splits for person in persons])
    return PhotoSplit(rows, moods[rows])
