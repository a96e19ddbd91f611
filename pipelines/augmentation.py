"""Random changes of training faces that leave the mood as it is: what a hand-held phone does to a picture.

On the CPU with OpenCV, a batch in under a millisecond, so that it costs no part of the training step.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.params import AugmentationParams


def augment(pixels: NDArray[np.uint8], params: AugmentationParams, random: np.random.Generator) -> NDArray[np.uint8]:
    """Mirror, rotate, shift, zoom, and change brightness and contrast, each image on its own.

    Args:
        pixels: uint8 (n, size, size); not changed.
        params: ranges of the changes.
        random: source of the changes; the same state gives the same result.

    Returns:
        uint8 (n, size, size).
    """
    count, size = pixels.shape[:2]
    angles = random.uniform(-params.rotation_degrees, params.rotation_degrees, count)
    zooms = random.uniform(1 - params.zoom, 1 + params.zoom, count)
    shifts = random.uniform(-params.shift, params.shift, (count, 2)) * size
    mirrored = (random.random(count) < 0.5) & params.flip
    centre = ((size - 1) / 2, (size - 1) / 2)
    result = np.empty_like(pixels)
    for index in range(count):
        matrix = cv2.getRotationMatrix2D(centre, angles[index], zooms[index])
        matrix[:, 2] += shifts[index]
        image = pixels[index, :, ::-1] if mirrored[index] else pixels[index]
        result[index] = cv2.warpAffine(
            np.ascontiguousarray(image), matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
    return _change_light(result, params, random)


def _change_light(
    pixels: NDArray[np.uint8], params: AugmentationParams, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Contrast around each image's mean, then brightness, clipped to the range of a pixel."""
    shape = (len(pixels), 1, 1)
    contrast = random.uniform(1 - params.contrast, 1 + params.contrast, shape).astype(np.float32)
    brightness = random.uniform(-params.brightness, params.brightness, shape).astype(np.float32) * 255
    values = pixels.astype(np.float32)
    mean = values.mean(axis=(1, 2), keepdims=True)
    return ((values - mean) * contrast + mean + brightness).round().clip(0, 255).astype(np.uint8)
