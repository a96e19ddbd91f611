"""Near duplicates: images that are the same picture, also if recompressed, retouched, shifted by a pixel or mirrored.

Two images count as the same picture if their 24 x 24 reductions, or one of them and the mirror image of the other,
have at least a given Pearson correlation. Correlation ignores brightness and contrast.
"""

from __future__ import annotations

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
    candidates, upright = descriptors(pixels), descriptors(others)
    mirrored = upright.reshape(-1, _SIDE, _SIDE)[:, :, ::-1].reshape(len(others), -1)
    highest = [
        np.maximum(part @ upright.T, part @ mirrored.T).max(axis=1)
        for part in (candidates[start : start + _BLOCK] for start in range(0, len(candidates), _BLOCK))
    ]
    return np.concatenate(highest) / np.float32(_NORM**2) >= threshold


def descriptors(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Reduce images and normalise their mean and contrast.

    Args:
        pixels: Grey images, uint8 (n, size, size).

    Returns:
        Whole numbers, float32 (n, 576). The dot product of two rows, divided by 4000 squared, is their correlation.
    """
    reduced = np.stack([cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for image in pixels])
    flat = reduced.reshape(len(pixels), -1).astype(np.float64)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)
    return np.trunc(flat * _NORM).astype(np.float32)
