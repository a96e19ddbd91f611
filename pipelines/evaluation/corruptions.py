"""The corruptions under which test faces are also scored: light, lens, compression, crop and covers that a phone meets.

Each is one of `pipelines.training.corruptions` at a fixed strength. Random draws depend on the seed, the corruption and
the face's place in the set, so that two models see the same images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.training import corruptions as transforms
from pipelines.training.corruptions import EYES, MOUTH, Face

SUNGLASSES: Final = 20
"""Grey level of the cover over the eyes."""
MASK: Final = 200
"""Grey level of the cover over the mouth."""


@dataclass(frozen=True)
class Corruption:
    """A corruption at a fixed strength.

    Attributes:
        title: Description for tables and plots.
        transform: Function from a face, uint8 (size, size), and a random generator to the corrupted face.
    """

    title: str
    transform: Callable[[Face, np.random.Generator], Face]


def _rotated(face: Face, random: np.random.Generator) -> Face:
    return transforms.move(face, degrees=20.0 * random.choice((-1, 1)))


def _loose_crop(face: Face, random: np.random.Generator) -> Face:
    shift = random.uniform(-0.1, 0.1, 2)
    return transforms.move(face, zoom=random.uniform(0.85, 1.0), shift=(shift[0], shift[1]))


CORRUPTIONS: Final[Mapping[str, Corruption]] = {
    "dark": Corruption("dark: gamma 2.2", lambda face, _: transforms.gamma(face, 2.2)),
    "bright": Corruption("bright: gamma 0.45", lambda face, _: transforms.gamma(face, 0.45)),
    "low_contrast": Corruption("contrast × 0.4", lambda face, _: transforms.contrast(face, 0.4)),
    "motion_blur": Corruption(
        "motion blur, a tenth of the side",
        lambda face, random: transforms.motion_blur(face, 0.1, random.uniform(0, 180)),
    ),
    "jpeg_20": Corruption("JPEG, quality 20", lambda face, _: transforms.jpeg(face, 20)),
    "half_resolution": Corruption("half the resolution", lambda face, _: transforms.low_resolution(face, 0.5)),
    "rotated": Corruption("rotated by ±20°", _rotated),
    "loose_crop": Corruption("shifted by up to 10 %, up to 15 % smaller", _loose_crop),
    "eyes_covered": Corruption(
        "eyes covered: sunglasses", lambda face, _: transforms.cover(face, EYES, (0.05, 0.95), SUNGLASSES)
    ),
    "mouth_covered": Corruption(
        "mouth covered: mask", lambda face, _: transforms.cover(face, MOUTH, (0.05, 0.95), MASK)
    ),
    "salt_noise": Corruption("salt noise, 5 % of the pixels", lambda face, random: transforms.salt(face, 0.05, random)),
}
"""The corruptions by name. `metrics.json`, `slices.csv` and `validation.npz` call them slices."""


def apply(name: str, pixels: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """Corrupt faces.

    Args:
        name: Key of `CORRUPTIONS`.
        pixels: uint8 (n, size, size); not changed.
        seed: Seed of the random draws.

    Returns:
        uint8 (n, size, size).

    Raises:
        KeyError: there is no corruption of that name.
    """
    transform = CORRUPTIONS[name].transform
    random = np.random.default_rng([seed, *name.encode()])  # by name, so that a new corruption changes no other
    return np.stack([transform(face, random) for face in pixels])
