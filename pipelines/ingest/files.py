"""Readers for originals: folders of pictures, and CSV files, plain or in archives."""

from __future__ import annotations

import csv
import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Final, TextIO

import numpy as np
from numpy.typing import NDArray

from pipelines.data import dataset
from pipelines.data.dataset import DatasetError
from pipelines.ingest.report import Report

_CLUTTER: Final = frozenset({"thumbs.db", "desktop.ini"})


def is_grey(pixels: NDArray[np.uint8]) -> bool:
    """Whether an RGB image, uint8 (height, width, 3), has no colour."""
    return bool((pixels == pixels[..., :1]).all())


def reason(error: Exception) -> str:
    """Message of an error without the file's name, which the report puts in front."""
    if isinstance(error, OSError):
        return f"the file cannot be read: {error.strerror or error}"
    return str(error)


def entries(folder: Path) -> list[Path]:
    """Entries of a folder, sorted by name, without hidden files and the files that desktops leave."""
    return sorted(
        entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.name.lower() not in _CLUTTER
    )


def emotion_folders(folder: Path, vocabulary: Sequence[str], report: Report) -> Iterator[tuple[str, list[Path]]]:
    """Emotions that have a folder, with its files at any depth; anything beside such folders is a problem."""
    for entry in entries(folder):
        if not entry.is_dir():
            report.reject(entry, None, "it is not in a folder named as an emotion")
            continue
        files = list(_files_below(entry))
        try:
            emotion = dataset.emotion_in(vocabulary, entry.name)
        except DatasetError as error:
            report.reject(entry, None, f"{error}; the folder of that name has {len(files):,} files")
            continue
        yield emotion, files


def _files_below(folder: Path) -> Iterator[Path]:
    """Files in a folder at any depth, in an order that is the same on every system."""
    for entry in entries(folder):
        if entry.is_dir():
            yield from _files_below(entry)
        else:
            yield entry


def records(stream: TextIO, path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV file with their line numbers; a row that ends early has empty text in the missing columns.

    Raises:
        DatasetError: A column is absent, or the file is not CSV.
    """
    reader = csv.DictReader(stream, restval="")
    try:
        # Kaggle's later version of the file has spaces in front of its column names.
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        missing = [column for column in columns if column not in reader.fieldnames]
        if missing:
            raise DatasetError(
                f"{path} has no column {', '.join(map(repr, missing))}; its first line has: "
                f"{', '.join(reader.fieldnames)[:200] or 'nothing'}."
            )
        for record in reader:
            yield reader.line_num, record
    except csv.Error as error:
        raise DatasetError(f"{path}:{reader.line_num}: the file cannot be read as CSV: {error}") from error


@contextmanager
def open_csv(path: Path, member: str) -> Iterator[TextIO]:
    """Open a CSV file, or the CSV file in a zip or tar archive, as a stream of text.

    Args:
        path: CSV file or archive.
        member: Name of the CSV file in the archive.

    Raises:
        DatasetError: The file is absent or damaged, or the archive has no such member.
    """
    if not path.is_file():
        raise DatasetError(f"{path} is not a file.")
    try:
        with ExitStack() as stack:
            binary: IO[bytes] = stack.enter_context(path.open("rb"))
            if zipfile.is_zipfile(binary):
                binary = _open_zipped(binary, member, stack)
            elif tarfile.is_tarfile(path):
                binary.seek(0)
                binary = _open_tarred(binary, member, stack)
            else:
                binary.seek(0)
            # A damaged character is reported with the row that it makes invalid.
            yield io.TextIOWrapper(binary, encoding="utf-8-sig", errors="replace", newline="")
    except (EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile) as error:
        raise DatasetError(f"{path} is damaged or incomplete: {error}") from error


def _open_zipped(archive: IO[bytes], member: str, stack: ExitStack) -> IO[bytes]:
    """Open a file in a zip archive, or in a tar.gz archive of the same name inside it, as in Kaggle's download."""
    opened = stack.enter_context(zipfile.ZipFile(archive))
    members = {PurePosixPath(name).name: name for name in opened.namelist()}
    if member in members:
        return stack.enter_context(opened.open(members[member]))
    packed = f"{Path(member).stem}.tar.gz"
    if packed in members:
        return _open_tarred(stack.enter_context(opened.open(members[packed])), member, stack)
    raise DatasetError(f"The zip archive has no {member}; it has {', '.join(sorted(members)[:10]) or 'nothing'}.")


def _open_tarred(archive: IO[bytes], member: str, stack: ExitStack) -> IO[bytes]:
    """Open a file in a tar archive, compressed or not, without reading the archive beyond it."""
    opened = stack.enter_context(tarfile.open(fileobj=archive, mode="r:*"))  # noqa: SIM115 (the stack closes it)
    for entry in opened:
        if entry.isfile() and PurePosixPath(entry.name).name == member:
            extracted = opened.extractfile(entry)
            assert extracted is not None  # it is a regular file
            return extracted
    raise DatasetError(f"The tar archive has no {member}.")
