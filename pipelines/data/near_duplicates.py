"""Which images are the same picture: identical, recompressed, retouched, shifted by a pixel or mirrored.

Two images count as the same when their 24 x 24 reductions correlate (Pearson) at least by a given threshold, as
they are or with one mirrored. Brightness and contrast do not matter to a correlation.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

_SIDE: Final = 24
# Descriptors are whole numbers whose products sum to less than 2**24, the range in which float32 is exact: the result
# then depends on no processor's order of summation.
_NORM: Final = 4000.0


def descriptors(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Reduced images without mean and contrast.

    Args:
        pixels: uint8 (n, size, size).

    Returns:
        float32 (n, 576) of whole numbers; a dot product of two, divided by 4000 squared, is their correlation.
    """
    reduced = np.stack([cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for image in pixels])
    flat = reduced.reshape(len(pixels), -1).astype(np.float64)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)
    return np.trunc(flat * _NORM).astype(np.float32)


def best_matches(
    candidates: NDArray[np.float32], others: NDArray[np.float32], *, block: int = 1024
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """For each candidate, its highest correlation with any of the others, mirrored or not, and which that is.

    Args:
        candidates: descriptors (n, 576).
        others: descriptors (m, 576), m > 0.
        block: candidates compared at once; bounds the memory.
    """
    mirrored = others.reshape(-1, _SIDE, _SIDE)[:, :, ::-1].reshape(len(others), -1)
    correlation = np.empty(len(candidates), np.float32)
    index = np.empty(len(candidates), np.intp)
    for start in range(0, len(candidates), block):
        part = candidates[start : start + block]
        products = np.maximum(part @ others.T, part @ mirrored.T)
        index[start : start + block] = products.argmax(axis=1)
        correlation[start : start + block] = products.max(axis=1) / np.float32(_NORM**2)
    return correlation, index


def duplicated_in(pixels: NDArray[np.uint8], others: NDArray[np.uint8], threshold: float) -> NDArray[np.bool_]:
    """Mask over `pixels`, uint8 (n, size, size): which of them also stand in `others`, (m, size, size)."""
    if not len(pixels) or not len(others):
        return np.zeros(len(pixels), dtype=bool)
    correlation, _ = best_matches(descriptors(pixels), descriptors(others))
    return correlation >= threshold
