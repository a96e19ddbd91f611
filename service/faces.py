"""From the faces in an image to the classifier's input: which face counts, and how it is cropped."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from service.detector import Face


def largest(faces: Sequence[Face]) -> Face:
    """The face with the largest box, since the person who holds the phone is nearest to it; see `by_size`.

    Raises:
        ValueError: There is no face.
    """
    return max(faces, key=_size)


def by_size(faces: Sequence[Face]) -> list[Face]:
    """The faces, the one with the largest box first; of equally large ones, the one with the higher confidence."""
    return sorted(faces, key=_size, reverse=True)


def _size(face: Face) -> tuple[int, float]:
    return face.width * face.height, face.confidence


def overlap(one: Face, other: Face) -> float:
    """Intersection over union of the boxes of two faces, in [0, 1]."""
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    shared = max(0, width) * max(0, height)
    return shared / (one.width * one.height + other.width * other.height - shared)


def crop(image: NDArray[np.uint8], face: Face, *, size: int, margin: float) -> NDArray[np.uint8]:
    """Crop a face as a grey square.

    The square has the box's centre; its side is the box's longer side, widened by `margin`. Beyond the image's edge,
    the edge pixels are repeated.

    Args:
        image: RGB image, uint8 (height, width, 3).
        face: Face to crop, in pixels of the image.
        size: Side of the result, in pixels.
        margin: Share of the longer side that is added to it, half on each side.

    Returns:
        Grey crop (ITU-R BT.601 luma), uint8 (size, size).
    """
    side = max(1, round(max(face.width, face.height) * (1.0 + margin)))
    left = round(face.x + (face.width - side) / 2)
    top = round(face.y + (face.height - side) / 2)
    height, width = image.shape[:2]
    inside = image[max(0, top) : min(height, top + side), max(0, left) : min(width, left + side)]
    grey = cv2.cvtColor(inside, cv2.COLOR_RGB2GRAY)
    grey = cv2.copyMakeBorder(
        grey,
        max(0, -top),
        max(0, top + side - height),
        max(0, -left),
        max(0, left + side - width),
        cv2.BORDER_REPLICATE,
    )
    return resize(np.asarray(grey, dtype=np.uint8), size)


def resize(grey: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Scale a grey square, uint8 (side, side), to uint8 (size, size): by area if it shrinks, otherwise bilinearly."""
    if grey.shape == (size, size):
        return grey
    shrinks = grey.shape[0] > size
    resized = cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.uint8)
