"""Near duplicates: images that are the same picture, also if recompressed, retouched, shifted by a pixel or mirrored.

Two images count as the same picture if their 24 x 24 reductions, or one of them and the mirror image of the other,
have at least a given Pearson correlation. Correlation ignores brightness and contrast.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

_SIDE: Final = 24
# Descriptors are whole numbers whose products sum to less than 2**24, the range in which float32 is exact. The result
# then does not depend on a processor's order of summation.
_NORM: Final = 4000.0
# Limits the memory for the matrix of correlations.
_BLOCK: Final = 1024


def duplicated_in(pixels: NDArray[np.uint8], others: NDArray[np.uint8], threshold: float) -> NDArray[np.bool_]:
    """Find the images that also occur among others.

    Args:
        pixels: Grey images, uint8 (n, size, size).
        others: Grey images, uint8 (m, size, size).
        threshold: Correlation from which two images are the same picture.

    Returns:
        Mask over `pixels`, (n,).
    """
    if not len(pixels) or not len(others):
        return np.zeros(len(pixels), dtype=bool)
    blocks = _correlations(descriptors(pixels), descriptors(others))
    return np.concatenate([block.max(axis=1) for block in blocks]) >= threshold


def pairs(pixels: NDArray[np.uint8], threshold: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find the pairs of images that are the same picture.

    Args:
        pixels: Grey images, uint8 (n, size, size).
        threshold: Correlation from which two images are the same picture.

    Returns:
        Indices of the two images of each pair, (k,) and (k,), the lower one first.
    """
    found = [(np.empty(0, np.intp), np.empty(0, np.intp))]
    reduced = descriptors(pixels)
    for start, block in zip(range(0, len(pixels), _BLOCK), _correlations(reduced, reduced), strict=True):
        one, other = np.nonzero(block >= threshold)
        found.append((one[other > one + start] + start, other[other > one + start]))
    one, other = map(np.concatenate, zip(*found, strict=True))
    return one, other


def _correlations(candidates: NDArray[np.float32], upright: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Correlations of some images with others or with their mirror images, whichever are higher, block by block.

    Args:
        candidates: Descriptors of n images.
        upright: Descriptors of m images.

    Yields:
        float32 (at most 1024, m), in the order of the candidates.
    """
    mirrored = upright.reshape(-1, _SIDE, _SIDE)[:, :, ::-1].reshape(len(upright), _SIDE**2)
    for start in range(0, len(candidates), _BLOCK):
        part = candidates[start : start + _BLOCK]
        yield np.maximum(part @ upright.T, part @ mirrored.T) / np.float32(_NORM**2)


def descriptors(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Reduce images and normalise their mean and contrast.

    Args:
        pixels: Grey images, uint8 (n, size, size).

    Returns:
        Whole numbers, float32 (n, 576). The dot product of two rows, divided by 4000 squared, is their correlation.
    """
    if not len(pixels):
        return np.zeros((0, _SIDE**2), np.float32)
    reduced = np.stack([cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for image in pixels])
    flat = reduced.reshape(len(pixels), -1).astype(np.float64)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)
    return np.trunc(flat * _NORM).astype(np.float32)
