"""From the bytes of an image file to upright RGB pixels.

This is the one decoder of the system: the API, the preparation of the training data and the evaluation all use it.
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from service.errors import InvalidImageError, TooLargeError, UnsupportedTypeError

if TYPE_CHECKING:  # decoding needs no ONNX Runtime
    from service.detector import Face

FORMATS: Final[tuple[str, ...]] = ("JPEG", "PNG", "WEBP")
"""Pillow's names of the formats that `decode` reads."""

MAX_PIXELS: Final[int] = 50_000_000
"""Default limit on width x height: above any phone's camera frame, and low enough not to exhaust a worker's memory."""

_FACTORS: Final[tuple[int, ...]] = (2, 4, 8)
"""Factors by which an image may be reduced: those of the JPEG decoder."""

_STRIP_PIXELS: Final[int] = 1 << 20
"""Number of pixels that are converted to RGB at a time."""

# Pillow would warn above this size, and raise above twice this size; the limit that counts is checked in `_read`.
Image.MAX_IMAGE_PIXELS = None

_ALPHA_MODES: Final = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})
_SIXTEEN_BIT_MODES: Final = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})

# The transposition that makes each EXIF orientation upright (EXIF 2.32, section 4.6.4).
_TRANSPOSITIONS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# First bytes of common formats that the service does not read, so that the error can name the format.
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
    """A decoded image, reduced if it had more pixels than are needed.

    Attributes:
        pixels: RGB pixels, upright, contiguous, uint8 (rows, columns, 3).
        width: Width of the upright image as it was sent, in pixels.
        height: Height of the upright image as it was sent, in pixels.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int

    def in_image(self, face: Face) -> Face:
        """A face in pixels of the image as it was sent, from one in pixels of `pixels`."""
        rows, columns = self.pixels.shape[:2]
        return _scale(face, self.width / columns, self.height / rows)

    def in_pixels(self, face: Face) -> Face:
        """A face in pixels of `pixels`, from one in pixels of the image as it was sent."""
        rows, columns = self.pixels.shape[:2]
        return _scale(face, columns / self.width, rows / self.height)


def _scale(face: Face, across: float, down: float) -> Face:
    """A face whose box is scaled along both axes, to sides of at least one pixel."""
    return replace(
        face,
        x=round(face.x * across),
        y=round(face.y * down),
        width=max(1, round(face.width * across)),
        height=max(1, round(face.height * down)),
    )


def decode_frame(data: bytes, *, max_pixels: int = MAX_PIXELS, working_side: int | None = None) -> Frame:
    """Decode as `decode` does, and reduce a large image by 2, 4 or 8.

    JPEG files are reduced in their decoder, which skips the work on dropped pixels; other files are reduced afterwards.

    Args:
        data: Content of the whole file.
        max_pixels: Largest width x height accepted.
        working_side: Shortest side, in pixels, to which an image may be reduced; None reduces nothing.

    Raises:
        InvalidImageError, UnsupportedTypeError, TooLargeError: See `decode`.
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

    Grey, palette, CMYK, 16-bit and transparent images are converted; transparent areas become white. The first frame
    of an animation counts. The EXIF orientation is applied.

    Args:
        data: Content of the whole file.
        max_pixels: Largest width x height accepted; the header is checked before any pixel is decoded.

    Returns:
        RGB pixels, contiguous, uint8 (height, width, 3).

    Raises:
        InvalidImageError: The data is empty, corrupt or truncated.
        UnsupportedTypeError: The data is a file of another format.
        TooLargeError: The image has more than `max_pixels` pixels.
    """
    return _read(data, max_pixels, None)[2]


def _read(data: bytes, max_pixels: int, working_side: int | None) -> tuple[int, int, NDArray[np.uint8]]:
    """Width and height from the file's header, and the upright pixels, which are reduced for a large JPEG.

    Raises:
        InvalidImageError, UnsupportedTypeError, TooLargeError: See `decode`.
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
            # Pillow's plugins raise any of these for damaged files, depending on where the damage is.
            raise InvalidImageError(
                "The image is damaged or incomplete: it was recognised but could not be decoded. Send the whole file."
            ) from error


def _reduce_in_decoder(image: Image.Image, working_side: int) -> None:
    """Have a JPEG file decoded at a half, a quarter or an eighth, if its shorter side stays long enough."""
    shorter = min(image.size)
    if shorter >= 2 * working_side:  # `draft` would also convert colours; that is left to `_to_rgb`
        scale = working_side / shorter
        image.draft(None, (math.ceil(image.width * scale), math.ceil(image.height * scale)))


def _unreadable(data: bytes) -> InvalidImageError | UnsupportedTypeError:
    """The error for data in none of `FORMATS`: another known format, or no image at all."""
    for signature, offset, name in _OTHER_SIGNATURES:
        if data[offset : offset + len(signature)] == signature:
            return UnsupportedTypeError(f"The data looks like {name}. Send a JPEG, PNG or WebP image.")
    return InvalidImageError("The data is not an image. Send the content of a JPEG, PNG or WebP file.")


def _upright(image: Image.Image) -> Image.Image:
    """The image turned by its EXIF orientation; unchanged if its EXIF block is unreadable."""
    try:
        orientation = image.getexif().get(0x0112, 1)
    except Exception:  # the EXIF parser may raise anything on malformed blocks
        return image
    # `ImageOps.exif_transpose` would also rewrite the EXIF block, and fails if that is damaged.
    method = _TRANSPOSITIONS.get(orientation)
    return image if method is None else image.transpose(method)


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """RGB pixels, uint8 (height, width, 3), of an image in any of Pillow's modes."""
    rows = max(1, _STRIP_PIXELS // image.width)
    if image.height <= rows:
        return _strip_to_rgb(image)
    # Each step of a conversion makes a copy; strip by strip the copies stay small.
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = _strip_to_rgb(image.crop((0, top, image.width, bottom)))
    return pixels


def _strip_to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """As `_to_rgb`, without strips."""
    if image.mode in _SIXTEEN_BIT_MODES:
        # Pillow's conversion would clip 16-bit grey to 255; the high byte is the right value.
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        rgba = image.convert("RGBA")
        backdrop = Image.new("RGBA", rgba.size, "white")
        image = Image.alpha_composite(backdrop, rgba)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
