"""Image files, valid and damaged, made from pixels."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

ORIENTATION = 0x0112  # the EXIF tag

# The inverse of each EXIF orientation (EXIF 2.32, section 4.6.4): from upright pixels to those that the file stores.
TO_STORED = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, 1),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels, -1),
}


def encode(pixels: Pixels, format: str = "JPEG", mode: str | None = None, **options: Any) -> bytes:
    """An image file in any of Pillow's formats and modes."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if mode is not None:
        image = image.convert(mode)
    if format == "JPEG":
        options = {"quality": 95, **options}
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def oriented(pixels: Pixels, orientation: int) -> bytes:
    """A JPEG with an EXIF orientation, which must be applied to get the upright pixels."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encode(TO_STORED[orientation](pixels), exif=exif)


def with_exif(pixels: Pixels, block: bytes) -> bytes:
    """A JPEG with these bytes as its EXIF block."""
    return encode(pixels, exif=b"Exif\x00\x00" + block)


def sixteen_bit(pixels: Pixels, channels: int) -> bytes:
    """A 16-bit PNG with 1 (grey), 3 (RGB) or 4 (RGBA) channels."""
    deep = pixels.astype(np.uint16) * 257
    if channels == 1:
        deep = cv2.cvtColor(deep, cv2.COLOR_RGB2GRAY)
    else:
        deep = cv2.cvtColor(deep, cv2.COLOR_RGB2BGR if channels == 3 else cv2.COLOR_RGB2BGRA)
        if channels == 4:
            deep[:, :, 3] = 65535
    done, file = cv2.imencode(".png", deep)
    assert done
    return file.tobytes()


def animation(pixels: Pixels, format: str) -> bytes:
    """An animated PNG or WebP that shows the pixels first, then plain grey."""
    first = Image.fromarray(pixels)
    second = Image.new("RGB", first.size, "grey")
    file = io.BytesIO()
    first.save(file, format, save_all=True, append_images=[second], duration=100, lossless=True)
    return file.getvalue()


def multi_picture(pixels: Pixels) -> bytes:
    """An MPO file: two JPEGs in one, as written by phones and stereo cameras."""
    first = Image.fromarray(pixels)
    file = io.BytesIO()
    first.save(file, "MPO", save_all=True, append_images=[first.resize((64, 64))], quality=95)
    return file.getvalue()


def png_header(width: int, height: int, data: bytes = b"") -> bytes:
    """An 8-bit grey PNG with a declared size and any pixel data; by default, the data is missing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(data)) + _chunk(b"IEND", b"")


def png_with_text_bomb(pixels: Pixels) -> bytes:
    """A PNG with a text chunk that inflates to 100 MB."""
    file = encode(pixels, "PNG")
    after_header = 8 + 25
    bomb = _chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(bytes(100_000_000)))
    return file[:after_header] + bomb + file[after_header:]


def damaged_png(pixels: Pixels, *, at: float) -> bytes:
    """A PNG with 64 bytes overwritten by zeros.

    Args:
        pixels: RGB pixels of the image, uint8 (height, width, 3).
        at: Start of the damage, as a share of the file.
    """
    file = bytearray(encode(pixels, "PNG"))
    start = int(len(file) * at)
    file[start : start + 64] = bytes(64)
    return bytes(file)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
