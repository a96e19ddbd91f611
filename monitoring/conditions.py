"""What may happen to the frames of a camera, made on purpose, to see whether it would be noticed and named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
"""uint8 (height, width, 3), RGB."""


def darken(frame: Frame, exponent: float = 2.2) -> Frame:
    """Raise brightness, as a share of full, to a power: a dark room."""
    table = (np.linspace(0, 1, 256) ** exponent * 255).round().astype(np.uint8)
    return table[frame]


def blur(frame: Frame, sigma: float = 2.0) -> Frame:
    """A lens that is dirty or out of focus; sigma in pixels."""
    return np.asarray(cv2.GaussianBlur(frame, (0, 0), sigma), dtype=np.uint8)


def halve(frame: Frame) -> Frame:
    """A camera with half the resolution: half the width and height."""
    height, width = frame.shape[:2]
    size = (max(1, width // 2), max(1, height // 2))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def halve_and_enlarge(frame: Frame) -> Frame:
    """Half the resolution in a frame of the old size, as digital zoom gives it."""
    height, width = frame.shape[:2]
    return np.asarray(cv2.resize(halve(frame), (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def step_back(frame: Frame) -> Frame:
    """Somebody at twice the distance: all at half the size in the middle of a frame of the old size."""
    height, width = frame.shape[:2]
    small = halve(frame)
    top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    bottom, right = height - small.shape[0] - top, width - small.shape[1] - left
    return np.asarray(cv2.copyMakeBorder(small, top, bottom, left, right, cv2.BORDER_REPLICATE), dtype=np.uint8)


def tint(frame: Frame, gains: tuple[float, float, float]) -> Frame:
    """Scale red, green and blue: a white balance gone wrong."""
    return (frame * np.array(gains, np.float32)).round().clip(0, 255).astype(np.uint8)


CONDITIONS: Final[Mapping[str, Callable[[Frame], Frame]]] = {
    "plain": lambda frame: frame,
    "gamma_2.2": darken,
    "blur_sigma_2": blur,
    "half_resolution": halve,
    "half_resolution_enlarged": halve_and_enlarge,
    "faces_half_the_size": step_back,
    "colour_cast_cool": lambda frame: tint(frame, (0.8, 1.0, 1.2)),
    "colour_cast_warm": lambda frame: tint(frame, (1.2, 1.0, 0.8)),
}
"""What is done to a frame, by the names in the report on power."""
