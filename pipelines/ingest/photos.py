"""Photos of people, from a CSV file with labels or from folders named as emotions."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from pipelines.data import dataset
from pipelines.data.dataset import DatasetError, Row
from pipelines.ingest.files import emotion_folders, is_grey, open_csv, reason, records
from pipelines.ingest.report import Report
from service import images
from service.errors import MeaaError

JPEG_QUALITY: Final[int] = 92
"""Of photos that are scaled down: what the published `photos.parquet` has."""

_JPEG_SIGNATURE: Final = b"\xff\xd8\xff"


@dataclass(frozen=True)
class LabelledPhoto:
    """A picture and what is said of it.

    Attributes:
        file: where the picture lies.
        name: its `path` in the Parquet file.
        emotion: in whatever spelling the source has.
        identity: who is in the picture; empty to take it from the file's name.
        source: the file that says so: a CSV file, or the picture itself where its folder says so.
        line: of the CSV file.
    """

    file: Path
    name: str
    emotion: str
    identity: str
    source: Path
    line: int | None


def photos_in_csv(labels: Path, folder: Path) -> list[LabelledPhoto]:
    """The photos that a CSV file lists, by name.

    The columns `image` (relative to the folder) and `emotion` are read, and `identity` where there is one. The column
    `user.id` of muxspace/facial_expressions is not an identity: it says who labelled the picture.

    Raises:
        DatasetError: the file lacks a column.
    """
    found = []
    with open_csv(labels, labels.name) as stream:
        for line, record in records(stream, labels, ("image", "emotion")):
            name = record["image"].strip()
            identity = record.get("identity", "").strip()
            found.append(LabelledPhoto(folder / name, name, record["emotion"], identity, labels, line))
    return sorted(found, key=lambda photo: (photo.name, photo.line))


def photos_in_folders(root: Path, report: Report) -> list[LabelledPhoto]:
    """The photos below `EMOTION/`, at any depth, by name.

    Raises:
        DatasetError: no folder in `root` is named as an emotion.
    """
    found = [
        LabelledPhoto(file, file.relative_to(root).as_posix(), emotion, "", file, None)
        for emotion, files in emotion_folders(root, dataset.PHOTO_EMOTIONS, report)
        for file in files
    ]
    if not found:
        raise DatasetError(
            f"{root} has no pictures in folders named as emotions ({', '.join(dataset.PHOTO_EMOTIONS)}). "
            "Sort them so, or give a CSV file with the columns image,emotion by --labels."
        )
    return sorted(found, key=lambda photo: photo.name)


def photo_rows(photos: Iterable[LabelledPhoto], report: Report, existing: Iterable[Row] = ()) -> Iterator[Row]:
    """Rows of `photos.parquet`: those that exist, as they are, and then the new ones.

    A picture that is there already (the same bytes once stored, under any name) with the same emotion is left out and
    counted. With another emotion, or where another picture has its name, it is a problem: the first one stays.

    Args:
        photos: the new ones.
        report: gets what is wrong, and the count of pictures that were there already.
        existing: rows of the file that is added to.
    """
    emotions: dict[bytes, str] = {}
    names: dict[bytes, str] = {}
    taken: set[str] = set()

    def remember(row: Row) -> None:
        digest = hashlib.sha256(row["image"]["bytes"]).digest()
        emotions[digest], names[digest] = row["emotion"], row["image"]["path"]
        taken.add(row["image"]["path"])

    for row in existing:
        remember(row)
        yield row
    for photo in photos:
        try:
            if not photo.name:
                raise DatasetError("no image is named")
            emotion = dataset.emotion_in(dataset.PHOTO_EMOTIONS, photo.emotion)
            data = stored_photo(photo.file.read_bytes())
            digest = hashlib.sha256(data).digest()
            if emotions.get(digest) == emotion:
                report.left_out["there already"] += 1
                continue
            if digest in emotions:
                raise DatasetError(f"the same picture as {names[digest]}, which is labelled {emotions[digest]}")
            if photo.name in taken:
                raise DatasetError(f"another picture is named {photo.name} already")
        except (OSError, MeaaError, DatasetError) as error:
            report.reject(photo.source, photo.line, f"{photo.name}: {reason(error)}" if photo.line else reason(error))
            continue
        row = {
            "image": {"bytes": data, "path": photo.name},
            "emotion": emotion,
            "identity": photo.identity or identity_of(photo.name),
        }
        remember(row)
        yield row


def stored_photo(data: bytes) -> bytes:
    """A photo as it is stored: JPEG, at most `dataset.PHOTO_SIDE` pixels on the longer side.

    A JPEG file that is small enough stays as it is, to the byte; anything else is scaled, turned upright, and grey
    where it has no colour.

    Args:
        data: a whole JPEG, PNG or WebP file.

    Raises:
        InvalidImageError, UnsupportedTypeError, TooLargeError: see `service.images.decode`.
    """
    pixels = images.decode(data)
    if max(pixels.shape[:2]) <= dataset.PHOTO_SIDE and data.startswith(_JPEG_SIGNATURE):
        return data
    photo = Image.fromarray(pixels[..., 0] if is_grey(pixels) else pixels)
    photo.thumbnail((dataset.PHOTO_SIDE, dataset.PHOTO_SIDE), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    photo.save(encoded, "JPEG", quality=JPEG_QUALITY)
    return encoded.getvalue()


def identity_of(name: str) -> str:
    """Who is in a picture, as its name tells.

    `First_Last_0001.jpg`, as in Labeled Faces in the Wild, names the person. Of any other name the letters count,
    without case, digits and signs: pictures of one series (a film, a camera) then count as one person, which can
    cost variety in a split but never lets a person be in two. Where there is more to know, say so in a column
    `identity`.

    >>> identity_of("George_W_Bush_0330.jpg")
    'George_W_Bush'
    >>> identity_of("happiness/Avinash_10.jpg")
    'avinash'
    """
    stem = Path(name).stem
    person = re.fullmatch(r"(.+_.+)_\d{4}", stem)
    if person:
        return person[1]
    # A name without letters tells nothing of who it is: the picture is then taken to be of a person of its own.
    return "".join(filter(str.isalpha, stem)).lower() or stem
