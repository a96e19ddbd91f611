"""The dataset: two Parquet files, their schemas and vocabularies, and functions that read and write them.

`fer2013.parquet` holds the grey faces of FER2013, each with the ten votes that FER+ collected. `photos.parquet` holds
press photos and film stills, each with one label and the identity of the person. `pipelines.ingest` writes both files.
The stages read them through this module, which checks the schema. `params.yaml` maps emotions to moods.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
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
"""Upper limit on the longer side of a photo, in pixels."""

FER2013_EMOTIONS: Final[tuple[str, ...]] = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""Labels of FER2013, ordered by their codes in the official `fer2013.csv`."""

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
"""Other spellings in public datasets, by emotion of FER+."""

PHOTO_EMOTIONS: Final[tuple[str, ...]] = tuple(_SYNONYMS)
"""Labels of the photos: the emotions of FER+, in its order."""

USAGES: Final[tuple[str, ...]] = ("Training", "PublicTest", "PrivateTest")
"""Official splits of FER2013: training, validation and test."""

EMOTIONS: Final[tuple[str, ...]] = (*PHOTO_EMOTIONS, "unknown")
"""Choices of the FER+ annotators for a face: the columns of `FaceSet.emotions`."""

VOTE_COLUMNS: Final[tuple[str, ...]] = (*(f"votes_{emotion}" for emotion in EMOTIONS), "votes_not_a_face")
"""Columns with the number of FER+ annotators who chose an emotion, `unknown` or `not a face`.

The order is that of `fer2013new.csv`.
"""

# The Hugging Face image convention.
_IMAGE: Final = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

FER2013_SCHEMA: Final[pa.Schema] = pa.schema(
    [
        ("image", _IMAGE),
        ("usage", pa.string()),
        ("emotion", pa.string()),
        *((name, pa.uint8()) for name in VOTE_COLUMNS),
    ]
)
"""`image` is a grey 48 x 48 PNG, `usage` one of `USAGES`, `emotion` one of `FER2013_EMOTIONS`."""

PHOTOS_SCHEMA: Final[pa.Schema] = pa.schema([("image", _IMAGE), ("emotion", pa.string()), ("identity", pa.string())])
"""`image` is a JPEG of any shape, `emotion` one of `PHOTO_EMOTIONS`, `identity` who is in the picture."""


@dataclass(frozen=True)
class ParquetFormat:
    """Layout of a file.

    Attributes:
        schema: Columns of the file.
        rows_per_group: Rows in a row group, which is what a reader holds in memory at a time.
    """

    schema: pa.Schema
    rows_per_group: int


FER2013: Final = ParquetFormat(FER2013_SCHEMA, rows_per_group=2048)
PHOTOS: Final = ParquetFormat(PHOTOS_SCHEMA, rows_per_group=1024)


class DatasetError(Exception):
    """A file is missing or has the wrong content; the message names the file, the reason and what to do."""


def emotion_in(vocabulary: Sequence[str], word: str) -> str:
    """Look up an emotion in a vocabulary, by any usual synonym and without regard to case.

    >>> emotion_in(FER2013_EMOTIONS, "Happiness")
    'happy'
    >>> emotion_in(PHOTO_EMOTIONS, "happy")
    'happiness'

    Raises:
        DatasetError: The vocabulary lacks the emotion.
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
    """Read a file, or some of its columns, as a table.

    Raises:
        DatasetError: The file is absent, is not Parquet, or has another schema.
    """
    with _open(path, schema) as file:
        return file.read(columns=None if columns is None else list(columns))


def rows(path: Path, schema: pa.Schema) -> Iterator[dict[str, Any]]:
    """Iterate over the rows of a file, with one row group in memory at a time.

    Raises:
        DatasetError: The file is absent, is not Parquet, or has another schema.
    """
    with _open(path, schema) as file:
        for group in range(file.num_row_groups):
            yield from file.read_row_group(group).to_pylist()


def iterate_images(path: Path, schema: pa.Schema, rows: NDArray[np.integer[Any]] | None = None) -> Iterator[bytes]:
    """Iterate over the encoded images of a file in its own order, with 256 rows in memory at a time.

    Args:
        path: Parquet file.
        schema: Schema that the file must have.
        rows: Row numbers to keep, in any order; None keeps all.

    Raises:
        DatasetError: The file is absent, is not Parquet, or has another schema.
    """
    with _open(path, schema) as file:
        batches = file.iter_batches(batch_size=256, columns=["image"])
        images = (image["bytes"] for batch in batches for image in batch.column("image").to_pylist())
        wanted = None if rows is None else set(rows.tolist())
        yield from (data for row, data in enumerate(images) if wanted is None or row in wanted)


def count_rows(path: Path, schema: pa.Schema) -> int:
    """Count the rows of a file.

    Raises:
        DatasetError: The file is absent, is not Parquet, or has another schema.
    """
    with _open(path, schema) as file:
        return file.metadata.num_rows


@contextmanager
def _open(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file and check its schema."""
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


def write(path: Path, form: ParquetFormat, rows: Iterable[Row]) -> None:
    """Write a file, which appears or is replaced only if the iteration over the rows ends without an error.

    Equal rows give equal bytes, so that DVC sees no change if there is none.

    Args:
        path: Parquet file.
        form: Layout of the file; a row group is in memory at a time.
        rows: Rows of the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, remaining = path.with_name(f".{path.name}.{os.getpid()}.partial"), iter(rows)
    try:
        # Uncompressed: the images are compressed already.
        with pq.ParquetWriter(partial, form.schema, compression="none") as file:
            while group := list(islice(remaining, form.rows_per_group)):
                file.write_table(pa.Table.from_pylist(group, schema=form.schema), row_group_size=form.rows_per_group)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
