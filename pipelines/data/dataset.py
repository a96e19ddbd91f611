"""What the dataset is: two Parquet files, their schemas, their vocabularies, and how they are read and written.

`fer2013.parquet` holds the grey faces of FER2013 with the ten votes that FER+ collected for each,
`photos.parquet` press photos and film stills with one label and the person's identity. `pipelines.ingest` writes
both, `pipelines.prepare` reads them; what a label means as a mood stands in `params.yaml`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

Row = Mapping[str, Any]
"""One row as Python values by column; `image` is `{"bytes": bytes, "path": str}`."""

FER2013_SIDE: Final[int] = 48
"""Height and width of a FER2013 face, in pixels."""

PHOTO_SIDE: Final[int] = 224
"""Longer side of a photo at most, in pixels."""

FER2013_EMOTIONS: Final[tuple[str, ...]] = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""The labels of FER2013; the index of a name is its code in the official `fer2013.csv`."""

PHOTO_EMOTIONS: Final[tuple[str, ...]] = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
)
"""The labels of the photos: the emotions of FER+, in its order."""

USAGES: Final[tuple[str, ...]] = ("Training", "PublicTest", "PrivateTest")
"""The official splits of FER2013: training, validation and test."""

EMOTIONS: Final[tuple[str, ...]] = (*PHOTO_EMOTIONS, "unknown")
"""What FER+'s annotators could choose for a face: the columns of `FaceSet.emotions`."""

VOTE_COLUMNS: Final[tuple[str, ...]] = (
    *(f"votes_{emotion}" for emotion in EMOTIONS),
    "votes_not_a_face",
)
"""How many of FER+'s annotators chose each emotion, neither, or no face; in the order of `fer2013new.csv`."""

# The Hugging Face image convention.
_IMAGE: Final = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

FER2013_SCHEMA: Final[pa.Schema] = pa.schema(
    [
        ("image", _IMAGE),
        ("usage", pa.string()),
        ("emotion", pa.string()),
        *((column, pa.uint8()) for column in VOTE_COLUMNS),
    ]
)
"""`image` is a grey 48 x 48 PNG, `usage` one of `USAGES`, `emotion` one of `FER2013_EMOTIONS`."""

PHOTOS_SCHEMA: Final[pa.Schema] = pa.schema([("image", _IMAGE), ("emotion", pa.string()), ("identity", pa.string())])
"""`image` is a JPEG of any shape, `emotion` one of `PHOTO_EMOTIONS`, `identity` who is in the picture."""


@dataclass(frozen=True)
class ParquetFormat:
    """How one of the files is laid out.

    Attributes:
        schema: its columns.
        rows_per_group: rows in a row group: what a reader has to hold at a time.
    """

    schema: pa.Schema
    rows_per_group: int


FER2013: Final = ParquetFormat(FER2013_SCHEMA, rows_per_group=2048)
PHOTOS: Final = ParquetFormat(PHOTOS_SCHEMA, rows_per_group=1024)

# Other words for the emotions, in the spellings of public datasets; the keys are `PHOTO_EMOTIONS`.
_SYNONYMS: Final[dict[str, tuple[str, ...]]] = {
    "neutral": (),
    "happiness": ("happy", "joy"),
    "surprise": ("surprised",),
    "sadness": ("sad",),
    "anger": ("angry",),
    "disgust": ("disgusted",),
    "fear": ("fearful", "afraid", "scared"),
    "contempt": ("contemptuous",),
}


class DatasetError(Exception):
    """A file is not what it has to be; the message says which, why, and what to do."""


def emotion_in(vocabulary: Sequence[str], word: str) -> str:
    """The word of a vocabulary for an emotion, whatever its case or usual synonym.

    >>> emotion_in(FER2013_EMOTIONS, "Happiness")
    'happy'
    >>> emotion_in(PHOTO_EMOTIONS, "happy")
    'happiness'

    Raises:
        DatasetError: the vocabulary has no such emotion.
    """
    wanted = word.strip().lower()
    for emotion, synonyms in _SYNONYMS.items():
        spellings = (emotion, *synonyms)
        if wanted in spellings:
            for known in vocabulary:
                if known in spellings:
                    return known
    raise DatasetError(f"the emotion {word.strip()!r} is none of {', '.join(vocabulary)}")


def read(path: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """A whole file of the dataset, or some of its columns, as a table.

    Raises:
        DatasetError: the file is absent, is not Parquet, or has another schema.
    """
    with _open(path, schema) as file:
        return file.read(columns=None if columns is None else list(columns))


def rows(path: Path, schema: pa.Schema) -> Iterator[dict[str, Any]]:
    """The rows of a file one by one, holding a row group at a time.

    Raises:
        DatasetError: the file is absent, is not Parquet, or has another schema.
    """
    with _open(path, schema) as file:
        for group in range(file.num_row_groups):
            yield from file.read_row_group(group).to_pylist()


def iterate_images(path: Path, schema: pa.Schema, rows: NDArray[np.integer[Any]] | None = None) -> Iterator[bytes]:
    """The image files of the column `image` in the order of the file, holding 256 rows at a time.

    Args:
        path: The Parquet file.
        schema: Its schema.
        rows: The rows to take, each once, whatever their order here; None takes all.

    Raises:
        DatasetError: the file is absent, is not Parquet, or has another schema.
    """
    with _open(path, schema) as file:
        batches = file.iter_batches(batch_size=256, columns=["image"])
        images = (image["bytes"] for batch in batches for image in batch.column("image").to_pylist())
        wanted = None if rows is None else set(rows.tolist())
        yield from (data for row, data in enumerate(images) if wanted is None or row in wanted)


def count_rows(path: Path, schema: pa.Schema) -> int:
    """The number of rows of a file.

    Raises:
        DatasetError: the file is absent, is not Parquet, or has another schema.
    """
    with _open(path, schema) as file:
        return file.metadata.num_rows


@contextmanager
def _open(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetFile]:
    """An open Parquet file of the given schema."""
    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError:
        raise DatasetError(
            f"{path} does not exist. Fetch the dataset with `make data`, or build it with `python -m pipelines.ingest`."
        ) from None
    except pa.ArrowInvalid as error:
        raise DatasetError(f"{path} is not a Parquet file: {error}") from error
    with file:
        if not file.schema_arrow.equals(schema):
            raise DatasetError(
                f"{path} has other columns than it should.\nIt has:\n{file.schema_arrow}\nIt should have:\n{schema}"
            )
        yield file


class RowWriter:
    """Writes rows to an open Parquet file, a row group at a time."""

    def __init__(self, file: pq.ParquetWriter, form: ParquetFormat) -> None:
        self._file = file
        self._form = form
        self._waiting: list[Row] = []

    def write(self, row: Row) -> None:
        """Take a row; it reaches the file with its row group."""
        self._waiting.append(row)
        if len(self._waiting) == self._form.rows_per_group:
            self.flush()

    def flush(self) -> None:
        """Write the rows that are waiting as a row group."""
        if self._waiting:
            table = pa.Table.from_pylist(self._waiting, schema=self._form.schema)
            self._file.write_table(table, row_group_size=self._form.rows_per_group)
            self._waiting.clear()


@contextmanager
def open_writer(path: Path, form: ParquetFormat) -> Iterator[RowWriter]:
    """A writer for a file that appears, or replaces the one that is there, only when the block ends without an error.

    The same rows give the same bytes, so that DVC sees no change where there is none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        # Uncompressed: the images are compressed already.
        with pq.ParquetWriter(partial, form.schema, compression="none") as file:
            writer = RowWriter(file, form)
            yield writer
            writer.flush()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
