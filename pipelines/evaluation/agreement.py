"""Agreement of two face detectors on the same images: the service's cascade and the `mtcnn` package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from mtcnn import MTCNN
from numpy.typing import NDArray

from pipelines.data.dataset import PHOTOS_SCHEMA, count_rows, iterate_images
from service import faces, images
from service.detector import Face

Pixels = NDArray[np.uint8]
"""An image, uint8 (height, width, 3), RGB."""
Detect = Callable[[Pixels], list[Face]]

MIN_IOU: Final = 0.9
MAX_CONFIDENCE_DIFFERENCE: Final = 0.02
"""Two faces match if their boxes overlap by at least `MIN_IOU` and their confidences differ by no more than this."""
MIN_MATCHED: Final = 0.99
"""Lower bound for the share of the package's faces that the cascade matches."""
MIN_LARGEST_IOU: Final = 0.5
MIN_SHARE: Final = 0.08
"""Side of the smallest face that must be found at the bundle's settings, as a share of the image's shorter side."""


@dataclass(frozen=True)
class Agreement:
    """Agreement of the cascade with the package at the same settings.

    Attributes:
        images: Number of images.
        faces: Faces that the package found.
        matched: Faces of the package that the cascade matches; see `MAX_CONFIDENCE_DIFFERENCE`.
        extra: Faces of the cascade that match none of the package's.
        confidence_difference: Largest difference of the confidences of a matched pair.
    """

    images: int = 0
    faces: int = 0
    matched: int = 0
    extra: int = 0
    confidence_difference: float = 0.0

    @classmethod
    def of(cls, ours: Sequence[Face], theirs: Sequence[Face]) -> Agreement:
        """Agreement on one image; each face of the cascade matches at most one of the package's."""
        unmatched, differences = list(ours), [0.0]
        for other in theirs:
            best = max(unmatched, key=lambda face: faces.overlap(face, other), default=None)
            if best is None or faces.overlap(best, other) < MIN_IOU:
                continue
            difference = abs(best.confidence - other.confidence)
            if difference <= MAX_CONFIDENCE_DIFFERENCE:
                unmatched.remove(best)
                differences.append(round(difference, 6))
        return cls(1, len(theirs), len(differences) - 1, len(unmatched), max(differences))

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            self.images + other.images,
            self.faces + other.faces,
            self.matched + other.matched,
            self.extra + other.extra,
            max(self.confidence_difference, other.confidence_difference),
        )


@dataclass(frozen=True)
class LargestFound:
    """How often the cascade finds the package's largest face.

    Attributes:
        images: Images in which the package's largest face has a side of at least `MIN_SHARE` of the shorter side.
        found: Those in which the cascade's largest face overlaps it by at least `MIN_LARGEST_IOU`.
        elsewhere: Those in which another face of the cascade does.
    """

    images: int = 0
    found: int = 0
    elsewhere: int = 0

    @classmethod
    def of(cls, ours: Sequence[Face], theirs: Sequence[Face], shorter_side: int) -> LargestFound:
        """The counts for one image."""
        wanted = faces.largest(theirs) if theirs else None
        if wanted is None or max(wanted.width, wanted.height) < MIN_SHARE * shorter_side:
            return cls()
        found = bool(ours) and faces.overlap(faces.largest(ours), wanted) >= MIN_LARGEST_IOU
        elsewhere = not found and any(faces.overlap(face, wanted) >= MIN_LARGEST_IOU for face in ours)
        return cls(1, int(found), int(elsewhere))

    def __add__(self, other: LargestFound) -> LargestFound:
        return LargestFound(self.images + other.images, self.found + other.found, self.elsewhere + other.elsewhere)


@dataclass(frozen=True)
class SameLargest:
    """How often a search for the largest face alone finds that of the whole cascade.

    Attributes:
        images: Images in which one of the two searches finds a face.
        same: Those in which their largest faces have an intersection over union of at least `MIN_IOU`.
        identical: Those in which the boxes of these faces are equal to the pixel.
    """

    images: int = 0
    same: int = 0
    identical: int = 0

    @classmethod
    def of(cls, alone: Sequence[Face], whole: Sequence[Face]) -> SameLargest:
        """The counts for one image."""
        if not alone or not whole:
            return cls(int(bool(alone or whole)))
        shared = faces.overlap(faces.largest(alone), faces.largest(whole))
        return cls(1, int(shared >= MIN_IOU), int(shared == 1))

    def __add__(self, other: SameLargest) -> SameLargest:
        return SameLargest(self.images + other.images, self.same + other.same, self.identical + other.identical)


def mtcnn_package() -> Detect:
    """`mtcnn.MTCNN().detect_faces` at its defaults."""
    nets = MTCNN()

    def face_of(found: dict[str, Any]) -> Face:
        x, y, width, height = map(int, found["box"])
        return Face(x, y, width, height, float(found["confidence"]))

    return lambda pixels: [face_of(found) for found in nets.detect_faces(pixels)]


def sample_photos(path: Path, count: int) -> list[Pixels]:
    """Decoded photos at equal distances in the dataset's file."""
    rows = np.linspace(0, count_rows(path, PHOTOS_SCHEMA) - 1, count).astype(int)
    return [images.decode(data) for data in iterate_images(path, PHOTOS_SCHEMA, rows)]
