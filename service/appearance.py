"""Image properties of a face: light, contrast, sharpness and colour, as numbers that lead back to nobody."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from service.detector import Face

LARGEST_SIDE: Final[int] = 128
"""Longer side, in pixels, to which a larger face is reduced before it is measured. It is larger than the classifier's
input, so that a loss of detail from a lens or a cheaper camera is not averaged away; it bounds the cost of a row."""

_COLOUR_SIDE: Final[int] = 48  # longer side in pixels; colours change slowly over a face


@dataclass(frozen=True)
class Appearance:
    """Image properties of a face.

    Attributes:
        brightness: Mean grey value, in [0, 1].
        contrast: Standard deviation of the grey values, as a share of full scale.
        sharpness: Variance of the Laplacian (Pech-Pacheco et al. 2000) divided by the variance of the grey values, so
            that a dark or flat image does not count as blurred.
        colourfulness: Metric of Hasler and Suesstrunk (2003) for pixels in [0, 255]; 0 for a grey image.
        warmth: Mean of red - blue, divided by the mean of the channels; positive under a lamp, negative under a screen.
        tint: Mean of green - (red + blue) / 2, divided by the mean of the channels; positive if green, negative if
            magenta.
    """

    brightness: float
    contrast: float
    sharpness: float
    colourfulness: float
    warmth: float
    tint: float

    @classmethod
    def of(cls, image: NDArray[np.uint8], face: Face) -> Appearance:
        """The appearance of a face within its box, as far as the image reaches.

        Args:
            image: RGB image, uint8 (height, width, 3).
            face: Face in pixels of the image.
        """
        crop = _cut(image, face)
        grey = _grey(crop)
        (mean,), (deviation,) = _mean_and_deviation(grey.reshape(-1, 1))
        _, (edges,) = _mean_and_deviation(cv2.Laplacian(grey, cv2.CV_16S).reshape(-1, 1))
        colours = _shrink(crop, _COLOUR_SIDE, cv2.INTER_NEAREST)
        means, deviations = _mean_and_deviation(colours.reshape(-1, 3).astype(np.float32) @ _OPPONENTS)
        colourfulness = math.hypot(*deviations[:2]) + 0.3 * math.hypot(*means[:2])
        level = max(means[4], 1.0)  # a black image has no hue
        return cls(
            brightness=mean / 255,
            contrast=deviation / 255,
            sharpness=edges**2 / max(deviation**2, 1.0),
            colourfulness=colourfulness,
            warmth=means[2] / level,
            tint=means[3] / level,
        )


_OPPONENTS: Final = np.array(
    [
        [1.0, -1.0, 0.0],  # red - green, and
        [0.5, 0.5, -1.0],  # yellow - blue: the opponent channels of Hasler and Suesstrunk, section 7
        [1.0, 0.0, -1.0],  # red - blue
        [-0.5, 1.0, -0.5],  # green - magenta
        [1 / 3, 1 / 3, 1 / 3],
    ],
    np.float32,
).T


def _mean_and_deviation(pixels: NDArray[Any]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of pixels, (n, channels)."""
    mean, deviation = cv2.meanStdDev(pixels[:, None])
    return mean.ravel().tolist(), deviation.ravel().tolist()


def _cut(image: NDArray[np.uint8], face: Face) -> NDArray[np.uint8]:
    """The pixels inside a face's box, at least one, as a view."""
    height, width = image.shape[:2]
    left, top = (min(max(0, start), end - 1) for start, end in ((face.x, width), (face.y, height)))
    return image[top : max(top + 1, face.y + face.height), left : max(left + 1, face.x + face.width)]


def _grey(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The crop in grey, its longer side at most `LARGEST_SIDE`."""
    # Pixels are dropped down to twice the side, then interpolated: a tenth of the time of averaging a large face.
    sampled = _shrink(crop, 2 * LARGEST_SIDE, cv2.INTER_NEAREST)
    return _shrink(
        np.asarray(cv2.cvtColor(sampled, cv2.COLOR_RGB2GRAY), dtype=np.uint8), LARGEST_SIDE, cv2.INTER_LINEAR
    )


def _shrink(pixels: NDArray[np.uint8], side: int, interpolation: int) -> NDArray[np.uint8]:
    """Pixels with their longer side at most `side`."""
    height, width = pixels.shape[:2]
    factor = side / max(height, width)
    if factor >= 1:
        return np.ascontiguousarray(pixels)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(pixels, size, interpolation=interpolation), dtype=np.uint8)
