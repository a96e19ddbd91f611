"""The orientation of an image from its metadata: EXIF, and XMP where there is no EXIF.

A general reader of metadata would read every entry; here only one number is wanted, from a block that anybody may have
written.
"""

from __future__ import annotations

import binascii
import contextlib
import re
import struct
import zlib
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

UPRIGHT: Final[int] = 1

_TAG: Final[int] = 0x0112
_WHOLE_NUMBERS: Final = {3: "H", 4: "I"}  # SHORT and LONG
_EXIF_PREFIX: Final[bytes] = b"Exif\x00\x00"
_MAX_ENTRIES: Final[int] = 1_000
"""Most entries of a directory that are looked at; cameras write about 30."""

_XMP: Final = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
_PNG_XMP: Final[bytes] = b"XML:com.adobe.xmp"
_PNG_EXIF: Final[bytes] = b"Raw profile type exif"  # ImageMagick's: an EXIF block in hexadecimal digits
PNG_KEYWORDS: Final[tuple[bytes, bytes]] = (_PNG_XMP + b"\x00", _PNG_EXIF + b"\x00")
"""Beginnings of the text chunks that may hold an orientation."""

_MAX_INFLATED: Final[int] = 1 << 20

_ROTATIONS: Final = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}
_FLIPS: Final = {2: 1, 4: 0}
QUARTER_TURNS: Final = frozenset({5, 6, 7, 8})
"""Orientations whose upright image is as wide as the stored one is high."""


def of_exif(block: bytes | memoryview) -> int | None:
    """The orientation in an EXIF block, 1 to 8; None if the block has none or is damaged.

    Args:
        block: TIFF structure (EXIF 2.32, section 4.5), with or without the prefix that JPEG files give it.
    """
    data = bytes(block[: len(_EXIF_PREFIX)])
    view = memoryview(block)[len(_EXIF_PREFIX) :] if data == _EXIF_PREFIX else memoryview(block)
    order = {b"II": "<", b"MM": ">"}.get(bytes(view[:2]), "")
    if not order:
        return None
    try:
        (directory,) = struct.unpack_from(order + "I", view, 4)
        (count,) = struct.unpack_from(order + "H", view, directory)
        for at in range(directory + 2, directory + 2 + 12 * min(count, _MAX_ENTRIES), 12):
            tag, kind, values = struct.unpack_from(order + "HHI", view, at)
            if tag == _TAG and kind in _WHOLE_NUMBERS and values == 1:
                return _valid(struct.unpack_from(order + _WHOLE_NUMBERS[kind], view, at + 8)[0])
    except struct.error:  # cut off
        pass
    return None


def of_xmp(text: bytes | memoryview) -> int | None:
    """The orientation in an XMP packet, 1 to 8; None if it has none."""
    match = _XMP.search(text)
    return None if match is None else int(match[1])


def of_png_text(kind: bytes, chunk: bytes) -> int | None:
    """The orientation in a PNG's text chunk that begins with one of `PNG_KEYWORDS`, 1 to 8; None if it has none.

    Args:
        kind: `tEXt`, `zTXt` or `iTXt`.
        chunk: Content of the chunk.
    """
    keyword, _, text = chunk.partition(b"\x00")
    if keyword == _PNG_XMP and kind == b"iTXt":
        packet = text[2:].split(b"\x00", 2)[-1]  # after the language and the translated keyword
        return of_xmp(_inflate(packet) if text[:1] == b"\x01" else packet)
    if keyword == _PNG_EXIF and kind != b"iTXt":
        lines = (_inflate(text[1:]) if kind == b"zTXt" else text).split(b"\n")
        with contextlib.suppress(binascii.Error):
            return of_exif(binascii.unhexlify(b"".join(lines[3:])))
    return None


def turn(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Pixels as they are stored, (rows, columns, channels), turned and mirrored to be upright (EXIF 2.32, 4.6.4)."""
    if orientation in _FLIPS:
        turned = cv2.flip(pixels, _FLIPS[orientation])
    elif orientation in _ROTATIONS:
        turned = cv2.rotate(pixels, _ROTATIONS[orientation])
    elif orientation in (5, 7):
        turned = cv2.transpose(pixels if orientation == 5 else cv2.rotate(pixels, cv2.ROTATE_180))
    else:
        return pixels
    return np.asarray(turned, dtype=np.uint8)


def _valid(number: int) -> int | None:
    return number if 1 <= number <= 8 else None


def _inflate(data: bytes) -> bytes:
    """Compressed text, at most `_MAX_INFLATED` bytes of it; empty if it is damaged."""
    try:
        return zlib.decompressobj().decompress(data, _MAX_INFLATED)
    except zlib.error:
        return b""
