"""Corruptions of a grey face: what light, lens, compression, detector and accessories do to it.

Deterministic except for noise: the caller chooses the strengths. `pipelines.training.augmentation` draws them at
random, `pipelines.evaluation.corruptions` fixes them for measuring. Faces are uint8 (size, size), in and out.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Face = NDArray[np.uint8]

EYES = (0.22, 0.45)
"""Rows of an upright face that dark glasses hide, as shares of the side; measured on the mean training face."""
MOUTH = (0.6, 1.0)
"""Rows that a mask over nose tip, mouth and chin hides."""


def gamma(face: Face, exponent: float) -> Face:
    """Raise brightness, as a share of full, to a power: above 1 darker, below 1 brighter."""
    table = (np.linspace(0, 1, 256) ** exponent * 255).round().astype(np.uint8)
    return table[face]


def contrast(face: Face, factor: float) -> Face:
    """Scale the differences to the mean."""
    mean = face.mean(dtype=np.float32)
    return ((face - mean) * np.float32(factor) + mean).round().clip(0, 255).astype(np.uint8)


def motion_blur(face: Face, length: float, degrees: float) -> Face:
    """Smear along a line, its length a share of the side, its direction in degrees from horizontal."""
    radius = max(1, round(length * face.shape[0] / 2))
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1), np.float32)
    kernel[radius] = 1
    turn = cv2.getRotationMatrix2D((radius, radius), degrees, 1)
    kernel = cv2.warpAffine(kernel, turn, kernel.shape[::-1])
    return np.asarray(cv2.filter2D(face, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE), np.uint8)


def jpeg(face: Face, quality: int) -> Face:
    """Compress and decompress."""
    _, data = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def low_resolution(face: Face, factor: float) -> Face:
    """Lose detail: shrink to a share of the side and enlarge again."""
    size = face.shape[0]
    small = max(1, round(size * factor))
    shrunk = cv2.resize(face, (small, small), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (size, size), interpolation=cv2.INTER_LINEAR), np.uint8)


def salt(face: Face, share: float, random: np.random.Generator) -> Face:
    """Turn a share of the pixels white."""
    return np.where(random.random(face.shape) < share, np.uint8(255), face)


def cover(face: Face, rows: tuple[float, float], columns: tuple[float, float], shade: int) -> Face:
    """Hide a rectangle, given in shares of the side, under one shade of grey."""
    size = face.shape[0]
    top, bottom, left, right = (round(share * size) for share in (*rows, *columns))
    covered = face.copy()
    covered[top:bottom, left:right] = shade
    return covered


def move(face: Face, *, degrees: float = 0.0, zoom: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> Face:
    """Rotate about the centre, zoom, then shift (x, y) by shares of the side; edges are repeated outwards."""
    size = face.shape[0]
    matrix = cv2.getRotationMatrix2D(((size - 1) / 2, (size - 1) / 2), degrees, zoom)
    matrix[:, 2] += np.multiply(shift, size)
    moved = cv2.warpAffine(
        np.ascontiguousarray(face), matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, np.uint8)
