"""Slices: test faces under conditions that a phone meets, so that a model's weak spots have figures.

Each slice is a transform of one grey crop, its strength fixed here and its chances drawn from a seed. What is drawn for
a face depends on the seed, the slice and the face's place in the set: two models answer the same pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.training import corruptions
from pipelines.training.corruptions import EYES, MOUTH, Face

SUNGLASSES: Final = 20
"""Shade that covers eyes."""
MASK: Final = 200
"""Shade that covers a mouth."""


@dataclass(frozen=True)
class Slice:
    """A condition that faces are put under.

    Attributes:
        title: what it is, for a table or a picture.
        transform: from a face, uint8 (size, size), to what becomes of it, given a source of chance.
    """

    title: str
    transform: Callable[[Face, np.random.Generator], Face]


def _rotated(face: Face, random: np.random.Generator) -> Face:
    return corruptions.move(face, degrees=20.0 * random.choice((-1, 1)))


def _loose_crop(face: Face, random: np.random.Generator) -> Face:
    shift = random.uniform(-0.1, 0.1, 2)
    return corruptions.move(face, zoom=random.uniform(0.85, 1.0), shift=(shift[0], shift[1]))


SLICES: Final[Mapping[str, Slice]] = MappingProxyType(
    {
        "dark": Slice("dark: gamma 2.2", lambda face, _: corruptions.gamma(face, 2.2)),
        "bright": Slice("bright: gamma 0.45", lambda face, _: corruptions.gamma(face, 0.45)),
        "low_contrast": Slice("contrast × 0.4", lambda face, _: corruptions.contrast(face, 0.4)),
        "motion_blur": Slice(
            "motion blur, a tenth of the side",
            lambda face, random: corruptions.motion_blur(face, 0.1, random.uniform(0, 180)),
        ),
        "jpeg_20": Slice("JPEG, quality 20", lambda face, _: corruptions.jpeg(face, 20)),
        "half_resolution": Slice("half the resolution", lambda face, _: corruptions.low_resolution(face, 0.5)),
        "rotated": Slice("rotated by ±20°", _rotated),
        "loose_crop": Slice("shifted by up to 10 %, up to 15 % smaller", _loose_crop),
        "eyes_covered": Slice(
            "eyes covered: sunglasses", lambda face, _: corruptions.cover(face, EYES, (0.05, 0.95), SUNGLASSES)
        ),
        "mouth_covered": Slice(
            "mouth covered: mask", lambda face, _: corruptions.cover(face, MOUTH, (0.05, 0.95), MASK)
        ),
        "salt_noise": Slice("salt noise, 5 % of the pixels", lambda face, random: corruptions.salt(face, 0.05, random)),
    }
)
"""The slices by their names in the metrics."""


def apply(name: str, pixels: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """Put faces into a slice.

    Args:
        name: a key of `SLICES`.
        pixels: uint8 (n, size, size); not changed.
        seed: of what is drawn by chance.

    Returns:
        uint8 (n, size, size).

    Raises:
        KeyError: there is no slice of that name.
    """
    transform = SLICES[name].transform
    random = np.random.default_rng([seed, *name.encode()])  # by name, so that a new slice changes no other
    return np.stack([transform(face, random) for face in pixels])
