"""FER2013: its official CSV file joined with the votes of FER+, or folders of images without votes.

Sources: Goodfellow et al., "Challenges in Representation Learning" (ICML 2013), for the images; Barsoum et al.,
"Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label Distribution" (ICMI 2016), for the
votes.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.data import dataset
from pipelines.data.dataset import DatasetError, Row
from pipelines.ingest.files import emotion_folders, entries, is_grey, open_csv, reason, records
from pipelines.ingest.report import Report
from service import images
from service.errors import MeaaError

FER2013_COLUMNS: Final = ("emotion", "pixels", "Usage")
"""Columns that are read from the official `fer2013.csv` (ICML 2013 challenge)."""

FERPLUS_VOTES: Final = (*dataset.PHOTO_EMOTIONS, "unknown", "NF")
"""Vote columns of FER+'s `fer2013new.csv`, in the order of `dataset.VOTE_COLUMNS`."""

ANNOTATORS: Final[int] = 10
"""Number of votes that FER+ collected per image."""

SPLIT_FOLDERS: Final[dict[str, str]] = {
    **dict.fromkeys(("train", "training"), "Training"),
    **dict.fromkeys(("val", "valid", "validation", "publictest"), "PublicTest"),
    **dict.fromkeys(("test", "testing", "privatetest"), "PrivateTest"),
}
"""Splits by the lower-case names of image folders."""

_GREY_LEVELS: Final[dict[str, int]] = {str(level): level for level in range(256)}
_IMAGE_NAME: Final = re.compile(r"fer\d{7}\.png")
_ABSENT: Final[Any] = object()


@dataclass(frozen=True)
class VoteRow:
    """A row of `fer2013new.csv`.

    Attributes:
        usage: Split, equal to that in the corresponding row of `fer2013.csv`.
        image_name: `ferNNNNNNN.png`; empty if FER+ removed the image. The number cannot be computed from the row: some
            removed images have no number, so at the end it is 85 lower.
        votes: Votes in the order of `dataset.VOTE_COLUMNS`.
    """

    usage: str
    image_name: str
    votes: tuple[int, ...]


def read_votes(path: Path, report: Report) -> list[VoteRow | None]:
    """Read the votes of FER+.

    Args:
        path: `fer2013new.csv`, or a zip or tar archive with it.
        report: Receives the invalid rows.

    Returns:
        One entry per row of the file; None for an invalid row.

    Raises:
        DatasetError: The file is damaged or lacks a column.
    """
    found: list[VoteRow | None] = []
    lines_by_name: dict[str, int] = {}
    with open_csv(path, "fer2013new.csv") as stream:
        for line, record in records(stream, path, ("Usage", "Image name", *FERPLUS_VOTES)):
            try:
                row = _vote_row(record)
                if row.image_name and lines_by_name.setdefault(row.image_name, line) != line:
                    raise DatasetError(f"line {lines_by_name[row.image_name]} has the image {row.image_name} already")
                found.append(row)
            except DatasetError as error:
                report.reject(path, line, error)
                found.append(None)
    return found


def _vote_row(record: dict[str, str]) -> VoteRow:
    """Check and convert a row of `fer2013new.csv`."""
    usage, name = _usage(record["Usage"]), record["Image name"].strip()
    if name and not _IMAGE_NAME.fullmatch(name):
        raise DatasetError(f"the image name {name!r} is not of the form ferNNNNNNN.png")
    votes = []
    for column in FERPLUS_VOTES:
        text = record[column].strip()
        if not (text.isascii() and text.isdigit() and int(text) <= ANNOTATORS):
            raise DatasetError(f"the votes for {column!r} are {text!r}, not a number from 0 to {ANNOTATORS}")
        votes.append(int(text))
    if name and not 1 <= sum(votes) <= ANNOTATORS:
        raise DatasetError(f"the row has {sum(votes)} votes, not 1 to {ANNOTATORS}")
    return VoteRow(usage, name, tuple(votes))


def fer2013_rows(path: Path, votes_path: Path, votes: Sequence[VoteRow | None], report: Report) -> Iterator[Row]:
    """Rows of `fer2013.parquet`, in the order of the official file.

    Args:
        path: `fer2013.csv`, a zip or tar archive with it, or Kaggle's zip archive with `fer2013.tar.gz`.
        votes_path: File with the votes, for messages.
        votes: Votes from `read_votes`; entry i belongs to row i.
        report: Receives the invalid rows, and the number of rows that FER+ removed.

    Raises:
        DatasetError: A file is damaged or lacks a column, or the numbers of rows differ.
    """
    count = 0
    with open_csv(path, "fer2013.csv") as stream:
        for numbered, vote in zip_longest(records(stream, path, FER2013_COLUMNS), votes, fillvalue=_ABSENT):
            if numbered is _ABSENT or vote is _ABSENT:
                raise DatasetError(
                    f"{path} and {votes_path} are joined row by row, so they must have the same number of rows; but "
                    f"{votes_path if vote is _ABSENT else path} ends after {count:,} rows, before the other."
                )
            count += 1
            report.came += 1
            if vote is None:
                continue  # `read_votes` has reported it
            line, record = numbered
            if not vote.image_name:
                report.left_out["removed by FER+"] += 1
                continue
            try:
                usage = _usage(record["Usage"])
                if usage != vote.usage:
                    raise DatasetError(f"the row's usage is {usage}, but FER+ has {vote.usage} for {vote.image_name}")
                emotion, pixels = _emotion_of_code(record["emotion"]), parse_pixels(record["pixels"])
            except DatasetError as error:
                report.reject(path, line, error)
                continue
            yield _fer2013_row(vote.image_name, pixels, usage, emotion, vote.votes)


def parse_pixels(text: str) -> NDArray[np.uint8]:
    """Convert the `pixels` of `fer2013.csv`, 2,304 numbers from 0 to 255 in rows, to a grey image, uint8 (48, 48).

    Raises:
        DatasetError: The number of pixels is wrong, or one is not a grey level.
    """
    words = text.split()
    if len(words) != dataset.FER2013_SIDE**2:
        raise DatasetError(f"the image has {len(words):,} pixels, not {dataset.FER2013_SIDE**2:,}")
    try:
        levels = bytes(map(_GREY_LEVELS.__getitem__, words))
    except KeyError as error:
        raise DatasetError(f"the pixel {error.args[0]!r} is not a number from 0 to 255") from None
    return np.frombuffer(levels, np.uint8).reshape(dataset.FER2013_SIDE, dataset.FER2013_SIDE)


def encode_png(grey: NDArray[np.uint8]) -> bytes:
    """Encode a grey image, uint8 (height, width), as PNG with the settings of the published `fer2013.parquet`."""
    settings = [cv2.IMWRITE_PNG_COMPRESSION, 9, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_FILTERED]
    return cv2.imencode(".png", grey, settings)[1].tobytes()


def _fer2013_row(name: str, grey: NDArray[np.uint8], usage: str, emotion: str, votes: Sequence[int]) -> Row:
    """Row of `fer2013.parquet`, from votes in the order of `dataset.VOTE_COLUMNS`."""
    return {
        "image": {"bytes": encode_png(grey), "path": name},
        "usage": usage,
        "emotion": emotion,
        **dict(zip(dataset.VOTE_COLUMNS, votes, strict=True)),
    }


def _usage(text: str) -> str:
    """Check the name of a split."""
    if text.strip() not in dataset.USAGES:
        raise DatasetError(f"the usage {text.strip()!r} is none of {', '.join(dataset.USAGES)}")
    return text.strip()


def _emotion_of_code(text: str) -> str:
    """Look up the emotion of a code in `fer2013.csv`."""
    codes = {str(code): emotion for code, emotion in enumerate(dataset.FER2013_EMOTIONS)}
    if text.strip() not in codes:
        raise DatasetError(f"the emotion {text.strip()!r} is not a code from 0 to {len(codes) - 1}")
    return codes[text.strip()]


def folder_rows(root: Path, report: Report, *, validation_share: float, seed: int) -> Iterator[Row]:
    """Rows of `fer2013.parquet` from `SPLIT/EMOTION/picture`, as Kaggle's image versions of FER2013 are laid out.

    Such folders have no votes, so every vote is 0, and only `label_source: fer2013` can use these rows. `train` becomes
    `Training`, `test` becomes `PrivateTest`, and `validation` becomes `PublicTest`. If there is no validation folder,
    a random share of each emotion's training images becomes `PublicTest`.

    Args:
        root: Folder with the splits.
        report: Receives the invalid pictures.
        validation_share: Share of the training images, in [0, 1).
        seed: Seed of the random choice.

    Raises:
        DatasetError: No folder in `root` is named as a split.
    """
    splits = _split_folders(root, report)
    draws = "PublicTest" not in splits.values()
    for folder, usage in splits.items():
        for emotion, files in emotion_folders(folder, dataset.FER2013_EMOTIONS, report):
            drawn: set[Path] = set()
            if draws and usage == "Training":
                drawn = set(random.Random(f"{seed} {emotion}").sample(files, round(validation_share * len(files))))
            for file in files:
                report.came += 1
                try:
                    grey = _read_face(file)
                except (OSError, MeaaError, DatasetError) as error:
                    report.reject(file, None, reason(error))
                    continue
                name, split = file.relative_to(root).as_posix(), "PublicTest" if file in drawn else usage
                yield _fer2013_row(name, grey, split, emotion, [0] * len(dataset.VOTE_COLUMNS))


def _split_folders(root: Path, report: Report) -> dict[Path, str]:
    """Folders named as splits; anything beside them is a problem."""
    found = {}
    for entry in entries(root):
        if entry.is_dir() and entry.name.lower() in SPLIT_FOLDERS:
            found[entry] = SPLIT_FOLDERS[entry.name.lower()]
        else:
            report.reject(entry, None, f"it is not a folder named as a split ({', '.join(SPLIT_FOLDERS)})")
    if not found:
        raise DatasetError(f"{root} has no folder named as a split; expected is {root}/train/angry/….jpg, and so on.")
    return found


def _read_face(path: Path) -> NDArray[np.uint8]:
    """Read a face of FER2013 from an image file, grey uint8 (48, 48)."""
    pixels = images.decode(path.read_bytes())
    height, width = pixels.shape[:2]
    if (height, width) != (dataset.FER2013_SIDE, dataset.FER2013_SIDE):
        raise DatasetError(
            f"it has {width} x {height} pixels; a face of FER2013 has {dataset.FER2013_SIDE} x {dataset.FER2013_SIDE} "
            "(for photos there is `ingest photos`)"
        )
    return np.ascontiguousarray(
        pixels[..., 0] if is_grey(pixels) else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8
    )
