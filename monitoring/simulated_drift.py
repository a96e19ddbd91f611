"""Simulated drift: changes of camera, light and distance, applied to whole frames to measure what is detected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.training.corruptions import gamma

Frame = NDArray[np.uint8]
"""RGB pixels, uint8 (height, width, 3)."""


def blur(frame: Frame, sigma: float) -> Frame:
    """A dirty or unfocused lens: Gaussian blur with `sigma` in pixels."""
    return np.asarray(cv2.GaussianBlur(frame, (0, 0), sigma), dtype=np.uint8)


def halve(frame: Frame) -> Frame:
    """A camera with half the resolution: half the width and height."""
    height, width = frame.shape[:2]
    size = (max(1, width // 2), max(1, height // 2))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def halve_and_enlarge(frame: Frame) -> Frame:
    """Digital zoom: half the resolution in a frame of the original size."""
    height, width = frame.shape[:2]
    return np.asarray(cv2.resize(halve(frame), (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def step_back(frame: Frame) -> Frame:
    """Twice the distance: the scene at half the size, centred in a frame of the original size."""
    height, width = frame.shape[:2]
    small = halve(frame)
    top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    bottom, right = height - small.shape[0] - top, width - small.shape[1] - left
    return np.asarray(cv2.copyMakeBorder(small, top, bottom, left, right, cv2.BORDER_REPLICATE), dtype=np.uint8)


def rotate(frame: Frame, degrees: float) -> Frame:
    """A camera that hangs askew: the scene turned clockwise about the centre of a frame of the same size."""
    height, width = frame.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1.0)
    turned = cv2.warpAffine(frame, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(turned, dtype=np.uint8)


def tint(frame: Frame, gains: tuple[float, float, float]) -> Frame:
    """A wrong white balance: gains of red, green and blue."""
    return (frame * np.array(gains, np.float32)).round().clip(0, 255).astype(np.uint8)


DRIFTS: Final[Mapping[str, tuple[Callable[[Frame], Frame], str | None]]] = {
    "none": (lambda frame: frame, None),
    "gamma_2.2": (lambda frame: gamma(frame, 2.2), "darker"),
    "blur_sigma_2": (lambda frame: blur(frame, 2.0), "blurred"),
    "half_resolution": (halve, "lower_resolution"),
    "half_resolution_enlarged": (halve_and_enlarge, "blurred"),
    "faces_half_the_size": (step_back, "smaller_faces"),
    "tilted_10_degrees": (lambda frame: rotate(frame, 10.0), "tilted"),
    "colour_cast_cool": (lambda frame: tint(frame, (0.8, 1.0, 1.2)), "colour_cast"),
    "colour_cast_warm": (lambda frame: tint(frame, (1.2, 1.0, 0.8)), "colour_cast"),
}
"""Transform of a frame and the cause that the report must name, by the drift's name in the report on power."""
