"""What an image file says about itself in its markers: format, size, number of scans, orientation. No pixel is decoded.

A file is refused here if its markers cannot be honest, since reading them alone would take long. Whatever does not make
pixels (thumbnails, profiles, comments, animations of PNG) is left out of what the image libraries get to see.

Sources: ITU-T T.81, annex B (JPEG); RFC 2083, chapters 3 and 4 (PNG); RFC 9649, chapter 2 (WebP).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final, Literal

from service import orientation
from service.errors import InvalidImageError
from service.orientation import UPRIGHT

Format = Literal["JPEG", "PNG", "WEBP"]

MAX_SCANS: Final[int] = 100
"""Most scans of a JPEG file. Encoders write about 10, and libjpeg's own default for four components is 18; each scan
visits every block of the image again, with or without data."""

MAX_SEGMENTS: Final[int] = 1_000
"""Most segments of a JPEG file outside its coded pixels. Metadata of 10 MB in the longest segments has 153."""

_CHUNK_BYTES: Final[int] = 1_024
"""Least average size of a chunk of a PNG or WebP file, beyond the first `MAX_SEGMENTS`; encoders write 8,192 and up."""

_MARKERS: Final[int] = 10_000
_MARKER_BYTES: Final[int] = 64
"""Scans are counted among at most `_MARKERS` bytes of 0xFF, and one more in so many bytes; in noise one in 256 is 0xFF.
Counting takes a few milliseconds at most."""

_JPEG: Final[bytes] = b"\xff\xd8\xff"
_PNG: Final[bytes] = b"\x89PNG\r\n\x1a\n"

DAMAGED: Final[str] = (
    "The image is damaged or incomplete: it was recognised but could not be decoded. Send the whole file."
)

_FILL: Final = re.compile(rb"\xff+")
_RESTARTS: Final = range(0xD0, 0xD8)
_SOI, _EOI, _SOS, _TEM, _APP1 = 0xD8, 0xD9, 0xDA, 0x01, 0xE1
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_COMMON_FRAMES: Final = frozenset({0xC0, 0xC1, 0xC2})  # baseline, sequential, progressive; all in Huffman codes
_PROGRESSIVE_FRAMES: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_METADATA: Final = frozenset({*range(0xE0, 0xF0), 0xFE})
# The segments that say which colours the components are.
_COLOURS: Final = {0xE0: b"JFIF\x00", 0xEE: b"Adobe"}
_EXIF: Final[bytes] = b"Exif\x00\x00"
_XMP: Final[bytes] = b"http://ns.adobe.com/xap/1.0/\x00"

_PIXEL_CHUNKS: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_TEXT_CHUNKS: Final = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_WEBP_CHUNKS: Final = frozenset({b"VP8 ", b"VP8L", b"VP8X"})
_UNCOMMON_CHUNKS: Final = frozenset({b"VP8L", b"ALPH", b"ANIM", b"ANMF"})
_UNCOMMON_FLAGS: Final[int] = 0x12  # of a VP8X chunk: alpha, animation


@dataclass(frozen=True)
class Header:
    """What an image file says about itself.

    Attributes:
        format: Pillow's name of its format.
        width: Width in pixels, as it is stored.
        height: Height in pixels, as it is stored.
        orientation: Orientation by EXIF or XMP, 1 to 8.
        content: The file; of JPEG and PNG without metadata.
        scans: Number of scans of a JPEG file; otherwise 1.
        reducible: Whether a decoder can skip work on a reduced image: the file is a JPEG in one scan.
        uncommon: Whether it uses a part of its format that cameras and browsers do not use, and whose cost is not
            bounded by the number of pixels.
    """

    format: Format
    width: int
    height: int
    orientation: int
    content: bytes
    scans: int = 1
    reducible: bool = False
    uncommon: bool = False

    @property
    def pixels(self) -> int:
        """Width x height."""
        return self.width * self.height


def read(data: bytes) -> Header | None:
    """The header of an image file; None if it is in no format that is known here.

    Raises:
        InvalidImageError: The file is damaged, or its markers cannot be those of an honest file.
    """
    if data.startswith(_JPEG):
        header = _read_jpeg(data)
    elif data.startswith(_PNG):
        header = _read_png(data)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP" and data[12:16] in _WEBP_CHUNKS:
        header = _read_webp(data)
    else:
        return None
    if header is None or not header.pixels:
        raise InvalidImageError(DAMAGED)
    return header


class _Parts:
    """The parts of a file that are kept."""

    def __init__(self, data: bytes, end: int) -> None:
        self._data = data
        self._ranges = [[0, end]]

    def keep(self, start: int, end: int) -> None:
        """Keep a part after those that are kept already."""
        if self._ranges[-1][1] == start:
            self._ranges[-1][1] = end
        else:
            self._ranges.append([start, end])

    def join(self) -> bytes:
        """The parts in one piece."""
        if self._ranges == [[0, len(self._data)]]:
            return self._data
        view = memoryview(self._data)
        return b"".join(view[start:end] for start, end in self._ranges)


def _read_jpeg(data: bytes) -> Header | None:
    """The header of a JPEG file; None if it is damaged.

    Raises:
        InvalidImageError: There are too many segments or scans.
    """
    parts, view = _Parts(data, 2), memoryview(data)
    frame: tuple[int, int, int, int] | None = None  # marker, rows, columns, components
    exif: int | None = None  # 0 after a block without one: only the first block is read
    xmp: int | None = None
    at = 2
    for _ in range(MAX_SEGMENTS):
        at = data.find(b"\xff", at)
        fill = _FILL.match(data, at) if at >= 0 else None
        if fill is None or fill.end() + 3 > len(data):
            return None
        marker, body = data[fill.end()], fill.end() + 3
        if marker in _RESTARTS or marker in (0, _TEM, _SOI):
            at = fill.end() + 1
            continue
        start, at = fill.end() - 1, fill.end() + 1 + int.from_bytes(data[body - 2 : body], "big")
        if marker in _FRAMES:
            if frame is not None or body + 6 > len(data):
                return None
            frame = (marker, *struct.unpack_from(">HHB", data, body + 1))
        if marker == _EOI or (marker == _SOS and frame is None):
            return None
        if marker == _SOS and frame is not None:
            parts.keep(start, len(data))
            kind, height, width, components = frame
            progressive = kind in _PROGRESSIVE_FRAMES
            one_scan = not progressive and data[body : body + 1] == bytes([components])
            scans = 1 if one_scan else _count_scans(data, at)
            common = kind in _COMMON_FRAMES and (one_scan or progressive) and scans > 0
            return Header(
                "JPEG",
                width,
                height,
                exif or xmp or UPRIGHT,
                parts.join(),
                scans=scans or MAX_SCANS,
                reducible=one_scan and common,
                uncommon=not common,
            )
        if marker not in _METADATA or data.startswith(_COLOURS.get(marker, b"-"), body):
            parts.keep(start, at)
        elif marker == _APP1 and exif is None and data.startswith(_EXIF, body):
            exif = orientation.of_exif(view[body:at]) or 0
        elif marker == _APP1 and xmp is None and data.startswith(_XMP, body):
            xmp = orientation.of_xmp(view[body:at]) or 0
    raise InvalidImageError(f"The JPEG has more than {MAX_SEGMENTS:,} segments before its pixels. Save it again.")


def _count_scans(data: bytes, at: int) -> int:
    """The number of scans of a JPEG file; 0 if there are so many markers that counting would take time.

    Args:
        data: Content of the file.
        at: Start of the first scan's coded pixels.

    Raises:
        InvalidImageError: There are more than `MAX_SCANS`.
    """
    scans = 1
    for _ in range(_MARKERS + len(data) // _MARKER_BYTES):
        at = data.find(b"\xff", at, len(data) - 1)
        if at < 0:
            return scans
        marker = data[at + 1]
        if marker == 0 or marker in _RESTARTS:  # a coded 0xFF, or the end of an interval
            at += 2
        elif marker == 0xFF:
            at += 1
        elif marker == _EOI:
            return scans
        else:
            scans += marker == _SOS
            if scans > MAX_SCANS:
                raise InvalidImageError(
                    f"The JPEG has more than {MAX_SCANS} scans; image programs write about 10. Save it again."
                )
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0


def _check_count(chunks: int, data: bytes) -> None:
    """Check the number of chunks read so far.

    Raises:
        InvalidImageError: There are too many for a file of this size.
    """
    if chunks > MAX_SEGMENTS + len(data) // _CHUNK_BYTES:
        raise InvalidImageError(f"The image has more than {chunks - 1:,} chunks in {len(data):,} bytes. Save it again.")


def _read_png(data: bytes) -> Header | None:
    """The header of a PNG file; None if it is damaged.

    Raises:
        InvalidImageError: There are too many chunks.
    """
    parts, chunks, at = _Parts(data, len(_PNG)), 0, len(_PNG)
    size: tuple[int, int] | None = None
    exif: int | None = None  # 0 after a chunk without one: only the first chunk is read
    text: int | None = None
    while at + 8 <= len(data):
        chunks += 1
        _check_count(chunks, data)
        length, kind = struct.unpack_from(">I4s", data, at)
        start, body, at = at, at + 8, at + 12 + length
        if kind in _PIXEL_CHUNKS:
            parts.keep(start, at)
        if kind == b"IHDR":
            if size is not None or body + 8 > len(data):
                return None
            size = struct.unpack_from(">II", data, body)
        elif kind == b"eXIf" and exif is None:
            exif = orientation.of_exif(memoryview(data)[body : at - 4]) or 0
        elif kind in _TEXT_CHUNKS and text is None and data.startswith(orientation.PNG_KEYWORDS, body):
            text = orientation.of_png_text(kind, data[body : at - 4]) or 0
        elif kind == b"IEND":
            break
    return None if size is None else Header("PNG", *size, exif or text or UPRIGHT, parts.join())


def _read_webp(data: bytes) -> Header | None:
    """The header of a WebP file; None if it is damaged.

    Raises:
        InvalidImageError: There are too many chunks.
    """
    chunks, at, uncommon, exif, xmp = 0, 12, False, b"", b""
    while at + 8 <= len(data):
        chunks += 1
        _check_count(chunks, data)
        kind, length = struct.unpack_from("<4sI", data, at)
        body, at = at + 8, at + 8 + length + length % 2
        flags = data[body] if kind == b"VP8X" and body < len(data) else 0
        uncommon |= kind in _UNCOMMON_CHUNKS or bool(flags & _UNCOMMON_FLAGS)
        if kind == b"EXIF":
            exif = exif or data[body : body + length]
        elif kind == b"XMP ":
            xmp = xmp or data[body : body + length]
    size = _webp_size(data)
    turned = orientation.of_exif(exif) or orientation.of_xmp(xmp) or UPRIGHT
    return None if size is None else Header("WEBP", *size, turned, data, uncommon=uncommon)


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height from a WebP file's first chunk; None if it is incomplete."""
    if len(data) < 30:
        data = data.ljust(30, b"\x00") if data[12:16] == b"VP8L" and len(data) >= 25 else b""
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L" and data[20] == 0x2F:
        sides = int.from_bytes(data[21:25], "little")
        return 1 + (sides & 0x3FFF), 1 + (sides >> 14 & 0x3FFF)
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None
