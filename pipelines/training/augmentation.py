"""Augmentation: random changes of training faces that keep the mood, such as a hand-held phone makes.

OpenCV on the CPU changes a batch in a few milliseconds, which is little beside the training step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.params import AugmentationParams
from pipelines.training import corruptions
from pipelines.training.corruptions import Face


def augment(pixels: NDArray[np.uint8], params: AugmentationParams, random: np.random.Generator) -> NDArray[np.uint8]:
    """Flip, rotate, shift, zoom, and change brightness and contrast, each image on its own; corrupt some.

    Args:
        pixels: uint8 (n, size, size); not changed.
        params: Ranges of the changes and share of the images that are corrupted.
        random: Source of randomness; the same state gives the same result.

    Returns:
        uint8 (n, size, size).
    """
    count = len(pixels)
    angles = random.uniform(-params.rotation_degrees, params.rotation_degrees, count)
    zooms = random.uniform(1 - params.zoom, 1 + params.zoom, count)
    shifts = random.uniform(-params.shift, params.shift, (count, 2))
    flipped = (random.random(count) < 0.5) & params.flip
    result = np.empty_like(pixels)
    for index in range(count):
        image = pixels[index, :, ::-1] if flipped[index] else pixels[index]
        result[index] = corruptions.move(image, degrees=angles[index], zoom=zooms[index], shift=tuple(shifts[index]))
    result = _change_light(result, params, random)
    for index in np.flatnonzero(random.random(count) < params.corrupted).tolist():
        corruption = _CORRUPTIONS[random.integers(len(_CORRUPTIONS))]
        result[index] = corruption(result[index], random)
    return result


def flip(pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Flip each image horizontally or not, for faces that are augmented already. uint8 (n, size, size)."""
    flipped = random.random(len(pixels)) < 0.5
    return np.where(flipped[:, None, None], pixels[:, :, ::-1], pixels)


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


def _patch(face: Face, random: np.random.Generator) -> Face:
    """Random erasing: Zhong et al., "Random Erasing Data Augmentation", AAAI 2020, with one shade of grey."""
    height, width = random.uniform(0.15, 0.45, 2)
    top, left = random.uniform(0, 1 - height), random.uniform(0, 1 - width)
    return corruptions.cover(face, (top, top + height), (left, left + width), int(random.integers(256)))


def _band(face: Face, rows: tuple[float, float], random: np.random.Generator) -> Face:
    """Dark glasses or a mask, shifted a little from their mean position."""
    top, bottom = np.add(rows, random.uniform(-0.05, 0.05, 2)).clip(0, 1)
    return corruptions.cover(face, (top, bottom), (0.05, 0.95), int(random.integers(256)))


_CORRUPTIONS: Final[tuple[Callable[[Face, np.random.Generator], Face], ...]] = (
    lambda face, random: corruptions.gamma(face, float(np.exp(random.uniform(-0.9, 0.9)))),
    lambda face, random: corruptions.contrast(face, random.uniform(0.2, 0.6)),
    lambda face, random: corruptions.motion_blur(face, random.uniform(0.06, 0.16), random.uniform(0, 180)),
    lambda face, random: corruptions.jpeg(face, int(random.integers(10, 50))),
    lambda face, random: corruptions.low_resolution(face, random.uniform(0.4, 0.7)),
    lambda face, random: corruptions.salt(face, random.uniform(0.01, 0.08), random),
    lambda face, random: _band(face, corruptions.EYES, random),
    lambda face, random: _band(face, corruptions.MOUTH, random),
    _patch,
)
"""A corrupted face gets one of these."""
