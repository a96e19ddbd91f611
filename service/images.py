"""From the bytes of an image file to upright RGB pixels.

This is the one decoder of the system: the API, the preparation of the training data and the evaluation all use it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service import markers, orientation
from service.errors import InvalidImageError, TooLargeError, UnsupportedTypeError
from service.markers import Header

if TYPE_CHECKING:  # decoding needs no ONNX Runtime
    from service.detector import Face

MAX_PIXELS: Final[int] = 50_000_000
"""Default limit on width x height: above any phone's camera frame, and low enough not to exhaust a worker's memory."""

MAX_SIDE: Final[int] = 65_535
"""Longest side in pixels, the limit of JPEG. Pillow needs twice the memory for a column of single pixels, and the
detector finds no face in one."""

_FACTORS: Final[tuple[int, ...]] = (2, 4, 8)
"""Factors by which an image may be reduced: those of the JPEG decoder."""

_LEAST_WEBP: Final[int] = 32  # bytes

_STRIP_PIXELS: Final[int] = 1 << 20
"""Number of pixels that are converted to RGB at a time."""

# Pillow would warn above this size, and raise above twice this size; `read_header` checks the limit that counts.
Image.MAX_IMAGE_PIXELS = None
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it would log a few lines for each damaged image

_ALPHA_MODES: Final = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})
_SIXTEEN_BIT_MODES: Final = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})

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


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG or WebP file to upright RGB pixels.

    Grey, palette, CMYK, 16-bit and transparent images are converted; transparent areas become white. The first frame
    of an animation counts. The EXIF orientation is applied.

    Args:
        data: Content of the whole file.
        max_pixels: Largest width x height accepted.

    Returns:
        RGB pixels, contiguous, uint8 (height, width, 3).

    Raises:
        InvalidImageError: The data is empty, corrupt or truncated, or its markers cannot be honest.
        UnsupportedTypeError: The data is a file of another format.
        TooLargeError: The image has more than `max_pixels` pixels, or a side of more than `MAX_SIDE`.
    """
    return load(read_header(data, max_pixels=max_pixels)).pixels


def decode_frame(data: bytes, *, max_pixels: int = MAX_PIXELS, working_side: int | None = None) -> Frame:
    """Decode as `decode` does, and reduce a large image as `load` does.

    Raises:
        InvalidImageError, UnsupportedTypeError, TooLargeError: See `decode`.
    """
    return load(read_header(data, max_pixels=max_pixels), working_side)


def read_header(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Header:
    """Read an image file's header and check its limits, before any pixel is decoded.

    Raises:
        InvalidImageError, UnsupportedTypeError, TooLargeError: See `decode`.
    """
    if not data:
        raise InvalidImageError("The image has no bytes. Send the content of a JPEG, PNG or WebP file.")
    header = markers.read(data)
    if header is None:
        raise _unreadable(data)
    limit = f"{max_pixels:,}" if header.pixels > max_pixels else f"sides of {MAX_SIDE:,}"
    if header.pixels > max_pixels or max(header.width, header.height) > MAX_SIDE:
        raise TooLargeError(
            f"The image has {header.width} x {header.height} pixels; {limit} are accepted. Scale it down."
        )
    return header


def load(header: Header, working_side: int | None = None) -> Frame:
    """Decode the pixels of an image file, and reduce a large image by 2, 4 or 8.

    JPEG files are reduced in their decoder, which skips the work on dropped pixels; other files are reduced afterwards.

    Args:
        header: Header of the file.
        working_side: Shortest side, in pixels, to which an image may be reduced; None reduces nothing.

    Raises:
        InvalidImageError: The image is corrupt or truncated.
    """
    stored = _decode_webp(header) if header.format == "WEBP" else _decode(header, working_side)
    pixels = reduced(orientation.turn(stored, header.orientation), working_side)
    sides = (header.width, header.height)
    return Frame(pixels, *(sides[::-1] if header.orientation in orientation.QUARTER_TURNS else sides))


def reduced(pixels: NDArray[np.uint8], working_side: int | None) -> NDArray[np.uint8]:
    """Pixels, uint8 (rows, columns, 3), reduced by the factor of `reduction`.

    Args:
        pixels: RGB pixels, uint8 (rows, columns, 3).
        working_side: See `load`.
    """
    factor = reduction(min(pixels.shape[:2]), working_side)
    if factor == 1:
        return pixels
    size = (round(pixels.shape[1] / factor), round(pixels.shape[0] / factor))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def reduction(shorter: int, working_side: int | None) -> int:
    """The factor by which an image may be reduced: 1, 2, 4 or 8.

    Args:
        shorter: Its shorter side, in pixels.
        working_side: See `load`.
    """
    return max((factor for factor in _FACTORS if working_side and shorter >= factor * working_side), default=1)


def _decode(header: Header, working_side: int | None) -> NDArray[np.uint8]:
    """The pixels of a JPEG or PNG file as they are stored; those of a large JPEG are reduced.

    Raises:
        InvalidImageError: See `load`.
    """
    try:
        with Image.open(io.BytesIO(header.content), formats=[header.format]) as image:
            if image.size != (header.width, header.height):
                raise ValueError("the decoder sees another size")
            if working_side is not None:
                _reduce_in_decoder(image, working_side)
            try:
                image.load()
            except OSError:
                if header.format != "PNG" or image.tile:
                    raise
                # The file is whole and its pixels are damaged: Pillow has decoded those before the damage, as it does
                # for a JPEG.
            return _to_rgb(image)
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError) as error:
        # Pillow's plugins raise any of these for damaged files, depending on where the damage is.
        raise InvalidImageError(markers.DAMAGED) from error


def _decode_webp(header: Header) -> NDArray[np.uint8]:
    """The pixels of a WebP file as they are stored.

    OpenCV and Pillow decode with the same library to the same pixels; Pillow would do so by way of an animation, which
    takes three times the memory.

    Raises:
        InvalidImageError: See `load`.
    """
    data = header.content.ljust(_LEAST_WEBP, b"\x00")  # OpenCV refuses the smallest images
    try:
        stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        stored = None
    if stored is None or stored.shape[:2] != (header.height, header.width):
        raise InvalidImageError(markers.DAMAGED)
    pixels = np.asarray(stored, dtype=np.uint8)
    if pixels.shape[2] == 3:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels), dtype=np.uint8)
    cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA, dst=pixels)
    return _by_strips(header.width, header.height, lambda top, bottom: Image.fromarray(pixels[top:bottom]))


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


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """RGB pixels, contiguous, uint8 (height, width, 3), of an image in any of Pillow's modes."""
    width, height = image.size

    def strip(top: int, bottom: int) -> Image.Image:
        return image if bottom - top == height else image.crop((0, top, width, bottom))

    return _by_strips(width, height, strip)


def _by_strips(width: int, height: int, strip: Callable[[int, int], Image.Image]) -> NDArray[np.uint8]:
    """RGB pixels of an image that is converted strip by strip: each step of a conversion makes a copy.

    Args:
        width: Width of the image, in pixels.
        height: Height of the image, in pixels.
        strip: Function from the first row of a strip, and the row after its last, to its pixels.
    """
    rows = max(1, _STRIP_PIXELS // width)
    if height <= rows:
        return np.ascontiguousarray(_strip_to_rgb(strip(0, height)))
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        pixels[top : top + rows] = _strip_to_rgb(strip(top, min(top + rows, height)))
    return pixels


def _strip_to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """RGB pixels, uint8 (height, width, 3), of an image in any of Pillow's modes."""
    if image.mode in _SIXTEEN_BIT_MODES:
        # Pillow's conversion would clip 16-bit grey to 255; the high byte is the right value.
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        rgba = image.convert("RGBA")
        backdrop = Image.new("RGBA", rgba.size, "white")
        image = Image.alpha_composite(backdrop, rgba)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
