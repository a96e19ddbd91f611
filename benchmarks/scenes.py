"""Frames to measure on: one face, five or none before a textured background, made from scikit-image's pictures.

Both pictures come with scikit-image, so that every machine measures on the same pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

_HEAD: Final = (slice(0, 240), slice(104, 344))
"""Rows and columns of the astronaut's head in her picture; the face takes about half of this square's side."""

_FACE_PER_HEAD: Final = 0.47

_PLACES: Final[dict[int, tuple[tuple[float, float, float], ...]]] = {
    0: (),
    1: ((0.5, 0.5, 0.4),),
    5: ((0.3, 0.35, 0.22), (0.7, 0.3, 0.2), (0.2, 0.75, 0.16), (0.5, 0.72, 0.18), (0.8, 0.74, 0.16)),
}
"""By number of faces: each face's centre in shares of width and height, and its height in shares of the frame's."""


@dataclass(frozen=True)
class Scene:
    """A frame and its contents.

    Attributes:
        pixels: Frame, uint8 (height, width, 3), RGB.
        faces: Number of faces in it.
    """

    pixels: Pixels
    faces: int

    @property
    def size(self) -> str:
        """Width and height, as in `640x480`."""
        return f"{self.pixels.shape[1]}x{self.pixels.shape[0]}"


def scene(width: int, height: int, faces: int) -> Scene:
    """A landscape frame of a size in pixels with 0, 1 or 5 faces."""
    frame = _background(width, height)
    for x, y, share in _PLACES[faces]:
        _paste_head(frame, round(x * width), round(y * height), round(share * height / _FACE_PER_HEAD))
    return Scene(frame, faces)


def as_jpeg(pixels: Pixels) -> bytes:
    """An RGB frame, uint8 (height, width, 3), as a camera sends it: JPEG of quality 90 with 4:2:0 chroma."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return data.tobytes()


def _background(width: int, height: int) -> Pixels:
    """The coffee cup, repeated in mirror images, so that its details have the same size in every frame."""
    picture = np.asarray(skimage.data.coffee())
    rows, columns = picture.shape[:2]
    return np.pad(picture, ((0, max(0, height - rows)), (0, max(0, width - columns)), (0, 0)), "symmetric")[
        :height, :width
    ].copy()


def _paste_head(frame: Pixels, x: int, y: int, side: int) -> None:
    """Blend the astronaut's head into a frame in place, clipped at the frame's border.

    Args:
        frame: Frame, uint8 (height, width, 3), RGB.
        x: Column of the head's centre.
        y: Row of the head's centre.
        side: Side of the square around the head, in pixels.
    """
    source = np.asarray(skimage.data.astronaut())[_HEAD]
    interpolation = cv2.INTER_AREA if side < source.shape[0] else cv2.INTER_CUBIC
    head = cv2.resize(source, (side, side), interpolation=interpolation).astype(np.float32)
    distance = np.linspace(-1, 1, side, dtype=np.float32)
    # Opaque up to nine tenths of the way to the edge, then fading: a straight edge around the face would distract.
    opacity = np.clip((1.0 - np.hypot(distance[:, None], distance[None, :])) / 0.1, 0, 1)[:, :, None]
    left, top = x - side // 2, y - side // 2
    rows = slice(max(0, top), min(frame.shape[0], top + side))
    columns = slice(max(0, left), min(frame.shape[1], left + side))
    inside = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    blended = opacity[inside] * head[inside] + (1 - opacity[inside]) * frame[rows, columns]
    frame[rows, columns] = np.rint(blended).astype(np.uint8)
