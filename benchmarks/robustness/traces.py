"""Traces of an image on a disk: byte strings that a stored image would contain, and the search for them."""

from __future__ import annotations

import base64
import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from service import images
from service.detector import Face
from service.faces import crop

_LENGTH: Final = 24  # bytes of a marker: enough to make a chance match impossible
_MAX_FILE_BYTES: Final = 200_000_000
_EXCLUDED: Final = (".git", ".venv", "node_modules")


def markers(data: bytes, face: Face | None = None) -> list[bytes]:
    """Byte strings that a file made from an image would contain.

    Args:
        data: Image file; its bytes in raw, hexadecimal and base64 form are markers.
        face: Face found in it; rows of its crop are markers, too.

    Returns:
        Byte strings from the file, its pixels (RGB, BGR, grey) and the face's crop, of 24 bytes or more each.
    """
    # The first kilobyte is left out: all images of a camera share their headers and tables.
    pieces = [data[start : start + _LENGTH] for start in np.linspace(1024, len(data) - 99, 40).astype(int).tolist()]
    found = [*pieces, *(piece.hex().encode() for piece in pieces)]
    for piece in pieces:
        # Base64 encodes groups of three bytes, which may start at any of three offsets.
        found += [base64.b64encode(piece[shift : shift + _LENGTH - 3]) for shift in range(3)]
    pixels = images.decode(data)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    found += _rows(pixels) + _rows(pixels[:, :, ::-1]) + _rows(grey)
    if face is not None:
        small = crop(pixels, face, size=48, margin=0.0)
        found += _rows(small) + _rows(small.astype(np.float32)) + _rows(small / np.float32(255))
    return [marker for marker in found if len(set(marker)) > _LENGTH // 3]


def _rows(pixels: NDArray[np.generic]) -> list[bytes]:
    """The middle 24 pixels of some rows."""
    rows = np.linspace(0, len(pixels) - 1, 12).astype(int)
    middle = pixels.shape[1] // 2
    return [np.ascontiguousarray(pixels[row, middle - 8 : middle + 16]).tobytes() for row in rows]


def search(directories: Iterable[Path], wanted: list[bytes], *, since: float = 0.0) -> list[Path]:
    """The files that contain any of the markers.

    Args:
        directories: Directories, searched recursively except for environments and `.git`.
        wanted: Markers.
        since: Time in seconds since 1970; files last changed before it are skipped.
    """
    return [path for directory in directories for path in _files(directory, since) if _contains(path, wanted)]


def _files(directory: Path, since: float) -> Iterator[Path]:
    for folder, names, files in os.walk(directory):
        names[:] = sorted(name for name in names if not name.startswith(_EXCLUDED))
        for path in (Path(folder) / name for name in sorted(files)):
            with contextlib.suppress(OSError):  # deleted meanwhile
                status = path.stat()
                if stat.S_ISREG(status.st_mode) and status.st_mtime >= since and status.st_size < _MAX_FILE_BYTES:
                    yield path


def _contains(path: Path, wanted: list[bytes]) -> bool:
    try:
        content = path.read_bytes()
    except OSError:  # deleted meanwhile, or not readable
        return False
    return any(marker in content for marker in wanted)
