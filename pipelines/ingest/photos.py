"""Photos of people, labelled by a CSV file or by folders named as emotions."""

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
"""JPEG quality of photos that are scaled down, as in the published `photos.parquet`."""

_JPEG_SIGNATURE: Final = b"\xff\xd8\xff"


@dataclass(frozen=True)
class LabelledPhoto:
    """A picture with its labels.

    Attributes:
        file: Picture file.
        name: The picture's `path` in the Parquet file.
        emotion: Emotion in the source's spelling.
        identity: Identity of the person; empty to take it from the file's name.
        source: File with the label: the CSV file, or the picture itself if its folder is the label.
        line: Line in the CSV file; None without one.
    """

    file: Path
    name: str
    emotion: str
    identity: str
    source: Path
    line: int | None


def photos_in_csv(labels: Path, folder: Path) -> list[LabelledPhoto]:
    """Photos that a CSV file lists, sorted by name.

    The file has the columns `image` (a path in the folder) and `emotion`, and optionally `identity`. The column
    `user.id` of muxspace/facial_expressions is not an identity: it names the annotator.

    Raises:
        DatasetError: The file lacks a column.
    """
    found = []
    with open_csv(labels, labels.name) as stream:
        for line, record in records(stream, labels, ("image", "emotion")):
            name = record["image"].strip()
            identity = record.get("identity", "").strip()
            found.append(LabelledPhoto(folder / name, name, record["emotion"], identity, labels, line))
    return sorted(found, key=lambda photo: (photo.name, photo.line))


def photos_in_folders(root: Path, report: Report) -> list[LabelledPhoto]:
    """Photos in folders named as emotions, at any depth, sorted by name.

    Raises:
        DatasetError: No folder in `root` is named as an emotion.
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
    """Rows of `photos.parquet`: the existing ones, unchanged, and then the new ones.

    A picture whose stored bytes occur already, under any name and with the same emotion, is left out and counted. With
    another emotion, or under the name of another picture, it is a problem, and the first row stays.

    Args:
        photos: New photos.
        report: Receives the invalid photos, and the numbers of photos that came and that are there already.
        existing: Rows of the file to which the photos are added.
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
        report.existing["", row["emotion"]] += 1
        yield row
    for photo in photos:
        report.came += 1
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
    """Convert a photo to a JPEG file with at most `dataset.PHOTO_SIDE` pixels on the longer side.

    A JPEG file that is small enough stays unchanged. Any other is scaled, turned upright, and stored grey if it has no
    colour.

    Args:
        data: JPEG, PNG or WebP file.

    Raises:
        InvalidImageError, UnsupportedTypeError, TooLargeError: See `service.images.decode`.
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
    """Identity of the person in a picture, derived from the file's name.

    `First_Last_0001.jpg`, the scheme of Labeled Faces in the Wild, names the person. From any other name only the
    letters count, in lower case. Pictures of one series (a film, a camera) then count as one person: a split may lose
    variety, but no person gets into two splits. If the identity is known, give it in a column `identity`.

    >>> identity_of("George_W_Bush_0330.jpg")
    'George_W_Bush'
    >>> identity_of("happiness/Avinash_10.jpg")
    'avinash'
    """
    stem = Path(name).stem
    person = re.fullmatch(r"(.+_.+)_\d{4}", stem)
    if person:
        return person[1]
    # A name without letters says nothing about the person: each such picture counts as another person.
    return "".join(filter(str.isalpha, stem)).lower() or stem
