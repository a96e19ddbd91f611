"""From the bytes of an image file to upright RGB pixels.

The one decoder of the system: the API, the preparation of the training data and the evaluation all call `decode`.
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from service.errors import InvalidImageError, TooLargeError, UnsupportedTypeError

FORMATS: Final[tuple[str, ...]] = ("JPEG", "PNG", "WEBP")
"""Names, in Pillow's vocabulary, of the formats that `decode` reads."""

MAX_PIXELS: Final[int] = 50_000_000
"""Default limit on width x height: above any phone's camera frame, below what would exhaust a worker's memory."""

_FACTORS: Final[tuple[int, ...]] = (2, 4, 8)
"""By which an image may be reduced: those of the JPEG decoder."""

_STRIP_PIXELS: Final[int] = 1 << 20
"""How many pixels are converted to RGB at a time."""

# Pillow warns, and from twice this size raises, on its own account; the limit that counts is checked in `decode`.
Image.MAX_IMAGE_PIXELS = None

_ALPHA_MODES: Final = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})
_SIXTEEN_BIT_MODES: Final = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})

# What makes each EXIF orientation upright (EXIF 2.32, section 4.6.4).
_TRANSPOSITIONS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# How the files of common formats that we do not read begin, so that their senders are told the actual reason.
# Sources: the formats' specifications; for the `ftyp` brands ISO/IEC 23008-12 (HEIF) and the AVIF specification.
_OTHER_SIGNATURES: Final[tuple[tuple[bytes, int, str], ...]] = (
    (b"GIF8", 0, "GIF"),
    (b"BM", 0, "BMP"),
    (b"II*\x00", 0, "TIFF"),
    (b"MM\x00*", 0, "TIFF"),
    (b"%PDF", 0, "PDF"),
    (b"<svg", 0, "SVG"),
    (b"<?xml", 0, "SVG or XML"),
    (b"ftypheic", 4, "HEIC"),
    (b"ftypheix", 4, "HEIC"),
    (b"ftypmif1", 4, "HEIF"),
    (b"ftypavif", 4, "AVIF"),
    (b"ftyp", 4, "MP4 or QuickTime video"),
    (b"\x1aE\xdf\xa3", 0, "WebM or Matroska video"),
)


@dataclass(frozen=True)
class Frame:
    """A decoded image, reduced where it had more pixels than are needed.

    Attributes:
        pixels: uint8 (rows, columns, 3), RGB, upright, contiguous.
        width: of the image as it was sent, upright, in pixels.
        height: of the image as it was sent, upright, in pixels.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int


def decode_frame(data: bytes, *, max_pixels: int = MAX_PIXELS, working_side: int | None = None) -> Frame:
    """Decode as `decode` does, and reduce a large image by 2, 4 or 8.

    JPEG files are reduced in their decoder, which leaves out the work on the pixels that go, others after it.

    Args:
        data: the whole file.
        max_pixels: as for `decode`.
        working_side: the shorter side of the result is no smaller than this because of the reduction; None reduces
            nothing.

    Raises:
        InvalidImageError, UnsupportedTypeError, TooLargeError: see `decode`.
    """
    width, height, pixels = _read(data, max_pixels, working_side)
    if (pixels.shape[0] > pixels.shape[1]) != (height > width):
        width, height = height, width  # a quarter turn by its EXIF orientation
    shorter = min(pixels.shape[:2])
    factor = max((factor for factor in _FACTORS if working_side and shorter >= factor * working_side), default=1)
    if factor > 1:
        size = (round(pixels.shape[1] / factor), round(pixels.shape[0] / factor))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return Frame(pixels, width, height)


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG or WebP file to upright RGB pixels.

    Grey, palette, CMYK, 16-bit and transparent images are converted; transparent areas show white. Of an animation
    the first frame counts. The EXIF orientation is applied.

    Args:
        data: the whole file.
        max_pixels: largest width x height accepted, checked on the header before any pixel is decoded.

    Returns:
        uint8 array of shape (height, width, 3), RGB, contiguous.

    Raises:
        InvalidImageError: the data is empty, corrupt or truncated.
        UnsupportedTypeError: the data is a file of another format.
        TooLargeError: the image has more than `max_pixels` pixels.
    """
    return _read(data, max_pixels, None)[2]


def _read(data: bytes, max_pixels: int, working_side: int | None) -> tuple[int, int, NDArray[np.uint8]]:
    """Width and height as the file's header has them, and the upright pixels, those of a large JPEG reduced.

    Raises:
        InvalidImageError, UnsupportedTypeError, TooLargeError: see `decode`.
    """
    if not data:
        raise InvalidImageError("The image has no bytes. Send the content of a JPEG, PNG or WebP file.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged metadata is no reason to reject, or to log, a readable image
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise TooLargeError(
                        f"The image has {width} x {height} pixels; {max_pixels:,} are accepted. Scale it down."
                    )
                if working_side is not None:
                    _reduce_in_decoder(image, working_side)
                return width, height, np.ascontiguousarray(_to_rgb(_upright(image)))
        except UnidentifiedImageError:
            raise _unreadable(data) from None
        except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError) as error:
            # Pillow's plugins raise any of these on damaged files, by the place where the damage shows.
            raise InvalidImageError(
                "The image is damaged or incomplete: it was recognised but could not be decoded. Send the whole file."
            ) from error


def _reduce_in_decoder(image: Image.Image, working_side: int) -> None:
    """Have a JPEG file decoded at a half, a quarter or an eighth where its shorter side stays long enough."""
    shorter = min(image.size)
    if shorter >= 2 * working_side:  # `draft` also converts colours, which is left to `_to_rgb`
        scale = working_side / shorter
        image.draft(None, (math.ceil(image.width * scale), math.ceil(image.height * scale)))


def _unreadable(data: bytes) -> InvalidImageError | UnsupportedTypeError:
    """Why data that is none of `FORMATS` was not read: another known format, or no image at all."""
    for signature, offset, name in _OTHER_SIGNATURES:
        if data[offset : offset + len(signature)] == signature:
            return UnsupportedTypeError(f"The data looks like {name}. Send a JPEG, PNG or WebP image.")
    return InvalidImageError("The data is not an image. Send the content of a JPEG, PNG or WebP file.")


def _upright(image: Image.Image) -> Image.Image:
    """The image as it is to be seen; one whose EXIF block is unreadable is taken to be upright already."""
    try:
        orientation = image.getexif().get(0x0112, 1)
    except Exception:  # the EXIF parser has no closed list of what it raises on malformed blocks
        return image
    # Not `ImageOps.exif_transpose`, which also writes the EXIF block anew, and fails where that is damaged.
    method = _TRANSPOSITIONS.get(orientation)
    return image if method is None else image.transpose(method)


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """uint8 (height, width, 3) RGB of an image in any of Pillow's modes."""
    rows = max(1, _STRIP_PIXELS // image.width)
    if image.height <= rows:
        return _strip_to_rgb(image)
    # Each step of a conversion is another copy: those of a strip at a time, not of the whole.
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = _strip_to_rgb(image.crop((0, top, image.width, bottom)))
    return pixels


def _strip_to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """As `_to_rgb`, all at once."""
    if image.mode in _SIXTEEN_BIT_MODES:
        # Pillow clips 16-bit grey to 255 where it converts; the eight high bits are what is meant.
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        rgba = image.convert("RGBA")
        backdrop = Image.new("RGBA", rgba.size, "white")
        image = Image.alpha_composite(backdrop, rgba)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
