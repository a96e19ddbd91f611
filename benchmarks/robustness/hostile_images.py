"""Image files that are made to cost time or memory, within the limits on bytes: `FILES`, and the functions behind it.

Sources: ITU-T T.81 (JPEG), RFC 2083 (PNG), RFC 9649 (WebP).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from benchmarks.robustness.crafted_files import (
    SIDE,
    SOF0,
    SOF9,
    SOF10,
    LittleEndianBits,
    chunk,
    jpeg,
    png,
    riff,
    scan,
    segment,
)

Pixels = NDArray[np.uint8]

MAX_BYTES: Final = 9_900_000
"""Most bytes of an image that is accepted, without the multipart body around it."""

_BLOCKS: Final = (SIDE // 8) ** 2
_END_OF_BAND_RUN: Final = 0x7FFF  # blocks; the longest that a progressive scan can code


def _ends_of_band(blocks: int) -> bytes:
    """Entropy-coded data of an AC scan without coefficients, as few bits as possible."""
    bits = ""
    while blocks:
        run = min(blocks, _END_OF_BAND_RUN)
        bits += "10" + f"{run - (1 << 14):014b}" if run >= 1 << 14 else "0" * run
        blocks -= run
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")


def spectral_scans(count: int) -> bytes:
    """A progressive JPEG that codes the same coefficients again and again, each time with the least data."""
    data = _ends_of_band(_BLOCKS)
    return jpeg([scan([1, 2, 3], 0, 0), *[scan([1], 1, 63, data=data)] * (count - 1)])


def refinement_scans(count: int) -> bytes:
    """A progressive JPEG that refines coefficients again and again: a decoder visits all 63 of every block."""
    data = _ends_of_band(_BLOCKS)
    refinements = [scan([1], 1, 63, 1, 0, data=data)] * (count - 2)
    return jpeg([scan([1, 2, 3], 0, 0), scan([1], 1, 63, 0, 1, data=data), *refinements])


def empty_scans(count: int) -> bytes:
    """A progressive JPEG whose scans have no data: ten bytes a scan."""
    return jpeg([scan([1, 2, 3], 0, 0, 0, 1), *[scan([1, 2, 3], 0, 0, 1, 0)] * (count - 1)])


def hidden_scans(count: int) -> bytes:
    """As `empty_scans`, with an end of image in a comment before the scans."""
    comment = segment(0xFE, b"\xff\xd9")
    return jpeg([scan([1, 2, 3], 0, 0, 0, 1), comment, *[b"\xff" + scan([1, 2, 3], 0, 0, 1, 0)] * (count - 1)])


def sequential_scans(count: int) -> bytes:
    """A sequential JPEG whose components are coded in scans of their own, again and again."""
    return jpeg([scan([1 + number % 3], 0, 63) for number in range(count)], frame=SOF0)


def arithmetic_scans(count: int, *, progressive: bool = False) -> bytes:
    """A JPEG with arithmetic coding, whose data a decoder continues with zeros for ever."""
    if progressive:
        refinements = [scan([1], 1, 63, 1, 0)] * (count - 2)
        return jpeg([scan([1, 2, 3], 0, 0), scan([1], 1, 63, 0, 1), *refinements], frame=SOF10)
    return jpeg([scan([1 + number % 3], 0, 63) for number in range(count)], frame=SOF9)


def _noise(width: int, height: int, channels: int = 3) -> Pixels:
    """Noise, the same every time; it repeats itself after 500 pixels."""
    tile = np.random.default_rng(1).integers(0, 256, (500, 500, channels), dtype=np.uint8)
    return np.tile(tile, (-(-height // 500), -(-width // 500), 1))[:height, :width]


def noise_jpeg(width: int = SIDE, height: int = SIDE, *, quality: int = 20, progressive: bool = False) -> bytes:
    """A JPEG of noise without subsampling, as an encoder writes it."""
    return encode(_noise(width, height), "JPEG", quality=quality, subsampling=0, progressive=progressive)


def jpeg_segments(count: int, marker: int = 0xE5, body: bytes = b"") -> bytes:
    """A JPEG with many segments before its frame header."""
    return jpeg([scan([1, 2, 3], 0, 0)], width=640, height=480, before=segment(marker, body) * count)


def jpeg_exif_segments(count: int) -> bytes:
    """A JPEG whose EXIF block comes in pieces, each of which a decoder may append to those before."""
    return jpeg_segments(count, 0xE1, b"Exif\x00\x00" + bytes(60))


def jpeg_resources(segments: int) -> bytes:
    """A JPEG with Photoshop resource blocks of no content, as many as fit."""
    block = b"8BIM\x04\x04\x00\x00\x00\x00\x00\x00"
    return jpeg_segments(segments, 0xED, b"Photoshop 3.0\x00" + block * ((65_533 - 14) // len(block)))


def jpeg_fill(count: int) -> bytes:
    """A JPEG with fill bytes before a marker."""
    return jpeg([scan([1, 2, 3], 0, 0)], width=640, height=480, before=b"\xff" * count)


def jpeg_junk(count: int) -> bytes:
    """A JPEG with bytes between two segments that belong to neither."""
    return jpeg([scan([1, 2, 3], 0, 0)], width=640, height=480, before=segment(0xE5, b"") + bytes(count))


def jpeg_restarts() -> bytes:
    """A JPEG that restarts its decoder after every block."""
    markers = b"".join(b"\x00\xff" + bytes([0xD0 + number % 8]) for number in range(_BLOCKS))
    return jpeg([scan([1, 2, 3], 0, 63, data=markers)], frame=SOF0, before=segment(0xDD, b"\x00\x01"))


def png_chunks(kind: bytes, count: int, *, place: str = "before") -> bytes:
    """A PNG with many chunks of no content: `before`, `between` or `after` its pixels."""
    return png(**{place: chunk(kind) * count})


def png_profiles(count: int) -> bytes:
    """A PNG with many colour profiles, each of which inflates to a megabyte."""
    return png(before=chunk(b"iCCP", b"a\x00\x00" + zlib.compress(bytes(1 << 20), 9)) * count)


def png_texts(count: int) -> bytes:
    """A PNG with many texts after its pixels, each of which inflates to a megabyte."""
    return png(after=chunk(b"zTXt", b"a\x00\x00" + zlib.compress(bytes(1 << 20), 9)) * count)


def webp_frames(count: int, side: int = SIDE) -> bytes:
    """An animated WebP whose first frame covers its canvas, with many small frames after it."""
    canvas = struct.pack("<I", 0x12)  # animation, alpha
    canvas += (side - 1).to_bytes(3, "little") * 2
    small = _webp_chunk(encode(np.zeros((16, 16, 4), np.uint8), "WEBP", lossless=True))
    large = _webp_chunk(encode(np.zeros((side, side, 4), np.uint8), "WEBP", lossless=True, method=0))
    frames = [(b"ANMF", _frame(side, large)), *[(b"ANMF", _frame(16, small))] * count]
    return riff((b"VP8X", canvas), (b"ANIM", bytes(6)), *frames)


def _frame(side: int, image: bytes) -> bytes:
    """The content of an animation's frame in the upper left corner."""
    return bytes(6) + (side - 1).to_bytes(3, "little") * 2 + bytes(4) + image


def _webp_chunk(file: bytes) -> bytes:
    """The only chunk of a simple WebP file."""
    return file[12:]


def webp_chunks(count: int) -> bytes:
    """A WebP with many chunks that mean nothing."""
    image = _webp_chunk(encode(np.zeros((480, 640, 3), np.uint8), "WEBP"))
    size = (639).to_bytes(3, "little") + (479).to_bytes(3, "little")
    return riff((b"VP8X", bytes(4) + size), (image[:4], image[8:]), *[(b"abcd", b"")] * count)


def webp_code_groups(width: int = 1_024, height: int = 1_024) -> bytes:
    """A lossless WebP with prefix codes of its own for every square of four by four pixels.

    A decoder builds five tables for each group of codes. See RFC 9649, sections 3.7.1 to 3.7.3.
    """
    squares = -(-width // 4) * -(-height // 4)
    count = min(squares, 1 << 16)
    one_symbol, two_symbols = "1 0 0 0", "1 1 0 0 10000000"
    bits = LittleEndianBits()
    bits.write_number(0x2F, 8)
    bits.write_number(width - 1, 14)
    bits.write_number(height - 1, 14)
    bits.write("0 000")  # no alpha, version 0
    bits.write("0 0 1 000")  # no transform, no colour cache, more than one group, squares of four pixels
    bits.write("0")  # entropy image: no colour cache
    # Green and red, which hold the number of the group: 256 symbols of eight bits, by lengths of 8 and a run of zeros.
    lengths = "0 0001" + "000 100" + "000" * 9 + "100" + "0"
    bits.write(lengths + "0" * 256 + "1 1011000")  # green has 24 symbols more: a run of 11 + 13 zeros
    bits.write(lengths + "0" * 256)
    bits.write(one_symbol, times=3)
    numbers = np.resize(np.arange(count), squares)
    bits.write_bytes(np.stack([numbers & 255, numbers >> 8], axis=-1).astype(np.uint8))
    bits.write(two_symbols * 5, times=count)
    bits.write("0" * 4, times=width * height)
    return riff((b"VP8L", bits.to_bytes()))


def webp_noise(*, height: int = SIDE, lossless: bool) -> bytes:
    """A WebP of noise with transparency."""
    return encode(_noise(SIDE, height, 4), "WEBP", lossless=lossless, quality=5, method=0)


def mosaic(width: int, height: int, side: int) -> bytes:
    """A JPEG full of faces.

    Args:
        width: Width in pixels.
        height: Height in pixels.
        side: Side of a face in pixels; the smallest that the detector looks for is 8 % of the shorter side.
    """
    face = np.asarray(skimage.data.astronaut())[61:172, 168:279]
    tile = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
    tiles = np.tile(tile, (-(-height // side), -(-width // side), 1))[:height, :width]
    return encode(np.asarray(tiles, dtype=np.uint8), "JPEG", quality=60)


def encode(pixels: Pixels, format: str, **options: object) -> bytes:
    """An image file from pixels, uint8 (height, width, channels)."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, format, **options)
    return file.getvalue()


FILES: Final[dict[str, Callable[[], bytes]]] = {
    "JPEG of 20,000 scans": lambda: spectral_scans(20_000),
    "JPEG of 100,000 empty scans": lambda: empty_scans(100_000),
    "JPEG of 10,000 scans behind a false end": lambda: hidden_scans(10_000),
    "JPEG of 10,000 sequential scans": lambda: sequential_scans(10_000),
    "JPEG of 100 refining scans": lambda: refinement_scans(100),
    "JPEG of 100 empty scans": lambda: empty_scans(100),
    "JPEG of 100 sequential scans": lambda: sequential_scans(100),
    "JPEG of 100 arithmetic scans": lambda: arithmetic_scans(100),
    "JPEG of 100 progressive arithmetic scans": lambda: arithmetic_scans(100, progressive=True),
    "JPEG of noise": noise_jpeg,
    "JPEG of noise, long": lambda: noise_jpeg(26_000, 959),
    "JPEG of noise, progressive": lambda: noise_jpeg(quality=5, progressive=True),
    "JPEG of noise, progressive and long": lambda: noise_jpeg(26_000, 959, quality=5, progressive=True),
    "JPEG with 1,000,000 segments": lambda: jpeg_segments(1_000_000),
    "JPEG with EXIF in 20,000 pieces": lambda: jpeg_exif_segments(20_000),
    "JPEG with 800,000 Photoshop resources": lambda: jpeg_resources(150),
    "JPEG with 9,900,000 fill bytes": lambda: jpeg_fill(MAX_BYTES - 1_000),
    "JPEG with bytes between its segments": lambda: jpeg_junk(MAX_BYTES - 1_000),
    "JPEG with a restart after every block": jpeg_restarts,
    "PNG with alpha": lambda: png(SIDE, SIDE, colour=6, filtering=4),
    "PNG with alpha, 16 bits": lambda: png(SIDE, SIDE, colour=6, depth=16, filtering=4),
    "PNG with alpha, 16 bits, interlaced": lambda: png(SIDE, SIDE, colour=6, depth=16, filtering=4, interlaced=True),
    "PNG with alpha, 16 bits, full HD": lambda: png(1_920, 1_080, colour=6, depth=16, filtering=4, interlaced=True),
    "PNG with alpha, 65,535 pixels long": lambda: png(65_535, 381, colour=6, filtering=4),
    "PNG of one row": lambda: png(SIDE**2, 1, colour=0),
    "PNG of one column": lambda: png(1, SIDE**2, colour=6, interlaced=True),
    "PNG with 800,000 chunks": lambda: png_chunks(b"teSt", 800_000),
    "PNG with 800,000 chunks of pixels": lambda: png_chunks(b"IDAT", 800_000, place="between"),
    "PNG with 800,000 chunks after its pixels": lambda: png_chunks(b"teSt", 800_000, place="after"),
    "PNG with 5,000 colour profiles": lambda: png_profiles(5_000),
    "PNG with 5,000 compressed texts": lambda: png_texts(5_000),
    "WebP of 100,000 frames": lambda: webp_frames(100_000),
    "WebP of two frames": lambda: webp_frames(1),
    "WebP with 1,000,000 chunks": lambda: webp_chunks(1_000_000),
    "WebP with 65,536 groups of codes": webp_code_groups,
    "WebP with 4,096 groups of codes": lambda: webp_code_groups(256, 256),
    "WebP with alpha, lossless": lambda: webp_noise(height=4_800, lossless=True),
    "WebP with alpha, lossy": lambda: webp_noise(lossless=False),
    "mosaic of faces": lambda: mosaic(1_438, 959, 77),
    "mosaic of faces, 3 to 1": lambda: mosaic(1_440, 480, 38),
    "mosaic of faces, 22 to 1": lambda: mosaic(10_560, 480, 38),
    "mosaic of faces, 27 to 1": lambda: mosaic(26_000, 959, 77),
    "mosaic of faces, 170 to 1": lambda: mosaic(65_000, 381, 84),
}
"""Functions that make the files, by names that say what is in them."""
