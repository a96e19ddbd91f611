"""What an image would leave behind, and the search for it on a disk."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from service import images
from service.detector import Face
from service.faces import crop

_LENGTH: Final = 24  # bytes of a marker: enough that nothing else has them
_LARGEST_FILE: Final = 200_000_000
_LEFT_OUT: Final = (".git", ".venv", "node_modules")


def markers(data: bytes, face: Face | None = None) -> list[bytes]:
    """Pieces of an image, as they would stand in a file that was made of it.

    Args:
        data: the image file: pieces of it, also in hexadecimal and base64, are markers.
        face: found in it: rows of its crop are, too.

    Returns:
        Byte strings of `24` bytes or more, from the file, its pixels (RGB, BGR, grey) and the face's crop.
    """
    # Not the first kilobyte: headers and tables are the same for every image of a camera.
    pieces = [data[start : start + _LENGTH] for start in np.linspace(1024, len(data) - 99, 40).astype(int).tolist()]
    found = [*pieces, *(piece.hex().encode() for piece in pieces)]
    for piece in pieces:
        # Three bytes are four characters, and nobody knows where the first group began.
        found += [base64.b64encode(piece[shift : shift + _LENGTH - 3]) for shift in range(3)]
    pixels = images.decode(data)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    found += _rows(pixels) + _rows(pixels[:, :, ::-1]) + _rows(grey)
    if face is not None:
        small = crop(pixels, face, size=48, margin=0.0)
        found += _rows(small) + _rows(small.astype(np.float32)) + _rows(small / np.float32(255))
    return [marker for marker in found if len(set(marker)) > _LENGTH // 3]


def _rows(pixels: NDArray[np.generic]) -> list[bytes]:
    """The middles of some rows."""
    rows = np.linspace(0, len(pixels) - 1, 12).astype(int)
    middle = pixels.shape[1] // 2
    return [np.ascontiguousarray(pixels[row, middle - 8 : middle + 16]).tobytes() for row in rows]


def search(directories: Iterable[Path], wanted: list[bytes], *, since: float = 0.0) -> list[Path]:
    """The files that hold any of the markers.

    Args:
        directories: looked through with all that is below, but environments and git's own files.
        wanted: the markers.
        since: files last changed before are passed over, seconds since 1970.
    """
    return [path for directory in directories for path in _files(directory, since) if _holds(path, wanted)]


def _files(directory: Path, since: float) -> Iterator[Path]:
    for entry in sorted(directory.iterdir()) if directory.is_dir() else []:
        try:
            if entry.is_dir() and not entry.is_symlink():
                if not entry.name.startswith(_LEFT_OUT):
                    yield from _files(entry, since)
            elif entry.is_file() and since <= entry.stat().st_mtime and entry.stat().st_size < _LARGEST_FILE:
                yield entry
        except OSError:  # gone, or somebody else's
            continue


def _holds(path: Path, wanted: list[bytes]) -> bool:
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return any(marker in content for marker in wanted)
