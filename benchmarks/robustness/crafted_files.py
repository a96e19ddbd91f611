"""Image files of any structure, valid or not, built from segments and chunks.

Sources: ITU-T T.81, annexes B and C (JPEG); RFC 2083, chapters 3, 4 and 8 (PNG); RFC 9649, chapter 2 (WebP).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

SIDE: Final = 5_000
"""Side of the largest square that the service accepts, in pixels."""

SOF0, SOF2, SOF9, SOF10 = 0xC0, 0xC2, 0xC9, 0xCA
"""Frame headers of JPEG: sequential and progressive, in Huffman codes and in arithmetic codes."""


def segment(marker: int, body: bytes) -> bytes:
    """A JPEG marker segment."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def scan(components: Sequence[int], first: int, last: int, high: int = 0, low: int = 0, data: bytes = b"") -> bytes:
    """A JPEG scan.

    Args:
        components: Numbers of its components.
        first: First coefficient.
        last: Last coefficient.
        high: Lowest bit that earlier scans have coded, plus one; 0 in a first scan.
        low: Lowest bit that this scan codes.
        data: Entropy-coded data; a decoder takes missing data as zeros.
    """
    specification = b"".join(bytes([component, 0]) for component in components)
    return segment(0xDA, bytes([len(components)]) + specification + bytes([first, last, high << 4 | low])) + data


def jpeg(
    scans: Iterable[bytes],
    *,
    frame: int = SOF2,
    width: int = SIDE,
    height: int = SIDE,
    components: int = 3,
    before: bytes = b"",
) -> bytes:
    """A JPEG file without subsampling, from its scans.

    Its Huffman tables have the codes 0 and 10 for DC (categories 0 and 1), and 0, 10 and 110 for AC: end of block, the
    longest run of ends of band, and a coefficient of 1.

    Args:
        scans: Scans, and segments between them.
        frame: Marker of its frame header.
        width: Width in pixels.
        height: Height in pixels.
        components: Number of components.
        before: Segments before its frame header.
    """
    layout = b"".join(bytes([component, 0x11, 0]) for component in range(1, components + 1))
    return b"".join(
        [
            b"\xff\xd8",
            before,
            segment(0xDB, b"\x00" + bytes([16] * 64)),
            segment(frame, struct.pack(">BHHB", 8, height, width, components) + layout),
            segment(0xC4, _huffman_table(0x00, (0, 1)) + _huffman_table(0x10, (0x00, 0xE0, 0x01))),
            *scans,
            b"\xff\xd9",
        ]
    )


def _huffman_table(destination: int, symbols: Sequence[int]) -> bytes:
    """A table whose n-th symbol has a code of n bits: n - 1 ones and a zero."""
    counts = [1] * len(symbols) + [0] * (16 - len(symbols))
    return bytes([destination, *counts, *symbols])


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def png(
    width: int = 640,
    height: int = 480,
    *,
    colour: int = 2,
    depth: int = 8,
    interlaced: bool = False,
    filtering: int = 0,
    before: bytes = b"",
    between: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A PNG whose pixels are zeros, or rise if they are filtered.

    Args:
        width: Width in pixels.
        height: Height in pixels.
        colour: Colour type.
        depth: Bits per sample.
        interlaced: Whether it has Adam7's seven passes.
        filtering: Filter of every row; 4 is Paeth's.
        before: Chunks before its pixels.
        between: Chunks amid its pixels.
        after: Chunks after its pixels.
    """
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    compressor, pixels = zlib.compressobj(6), []
    for rows, columns in _adam7(width, height) if interlaced else [(height, width)]:
        row = (columns * _PNG_CHANNELS[colour] * depth + 7) // 8
        line = bytes([filtering]) + bytes([1 if filtering else 0]) * row
        many = max(1, (1 << 20) // len(line))
        pixels += [compressor.compress(line * min(many, rows - top)) for top in range(0, rows, many)]
    data = b"".join(pixels) + compressor.flush()
    palette = chunk(b"PLTE", bytes(3)) if colour == 3 else b""
    half = len(data) // 2 if between else len(data)
    parts = [chunk(b"IDAT", data[:half]), between, chunk(b"IDAT", data[half:]) if between else b""]
    return b"".join(
        [_PNG_SIGNATURE, chunk(b"IHDR", header), palette, before, *parts, after, chunk(b"IEND")],
    )


def _adam7(width: int, height: int) -> list[tuple[int, int]]:
    """Rows and columns of the seven passes."""
    passes = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
    sizes = [(-((top - height) // down), -((left - width) // right)) for top, down, left, right in passes]
    return [(rows, columns) for rows, columns in sizes if rows > 0 and columns > 0]


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP file from its chunks."""
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + b"\x00" * (len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


class LittleEndianBits:
    """A writer of bits, least significant first, as in lossless WebP."""

    def __init__(self) -> None:
        self._parts: list[NDArray[np.uint8]] = []

    def write(self, bits: str, *, times: int = 1) -> None:
        """Append bits, in the order in which they are read."""
        self._parts.append(np.tile(np.array([int(bit) for bit in bits if bit != " "], np.uint8), times))

    def write_number(self, value: int, count: int) -> None:
        """Append a number of `count` bits."""
        self.write(f"{value:0{count}b}"[::-1])

    def write_bytes(self, values: NDArray[np.uint8]) -> None:
        """Append the bits of each byte, most significant first, as a flat prefix code has them."""
        self._parts.append(np.unpackbits(values))

    def to_bytes(self) -> bytes:
        """The bits, filled up with zeros to whole bytes."""
        return np.packbits(np.concatenate(self._parts), bitorder="little").tobytes()
