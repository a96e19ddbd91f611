"""Image in, mood out: decoding, detection, cropping and classification as one object.

The API, the evaluation stage and the drift reference call this one; so what is measured is what is served.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service import faces, images
from service.classifier import MoodClassifier
from service.detector import Face, FaceDetector
from service.errors import NoFaceError
from service.moods import MOODS


@dataclass(frozen=True)
class MoodEstimate:
    """What the service answers.

    Attributes:
        mood: the mood with the highest probability (the first of `MOODS` among equals).
        probabilities: by mood, in the order of `MOODS`; they sum to 1.
        face: the face that was classified, in pixels of the upright image.
        face_count: how many faces the image shows.
    """

    mood: str
    probabilities: dict[str, float]
    face: Face
    face_count: int


class MoodEstimator:
    """A detector and a classifier; safe to call from several threads."""

    def __init__(self, detector: FaceDetector, classifier: MoodClassifier) -> None:
        self.detector = detector
        self.classifier = classifier

    @classmethod
    def load(cls, bundle: Path) -> MoodEstimator:
        """The estimator in a model bundle: a directory with `detector/` and `classifier/`."""
        return cls(FaceDetector(bundle / "detector"), MoodClassifier(bundle / "classifier"))

    def estimate(self, data: bytes, *, max_pixels: int = images.MAX_PIXELS) -> MoodEstimate:
        """Mood of the largest face in an image file.

        Args:
            data: a JPEG, PNG or WebP file.
            max_pixels: largest width x height accepted.

        Raises:
            InvalidImageError, UnsupportedTypeError, TooLargeError: see `service.images.decode`.
            NoFaceError: no face was found.
        """
        return self.estimate_pixels(images.decode(data, max_pixels=max_pixels))

    def estimate_pixels(self, image: NDArray[np.uint8]) -> MoodEstimate:
        """Mood of the largest face in an upright RGB image, uint8 (height, width, 3).

        Raises:
            NoFaceError: no face was found.
        """
        found = self.detector.detect(image)
        if not found:
            raise NoFaceError(
                f"No face was found in the {image.shape[1]} x {image.shape[0]} image. "
                "Send one with a face that is lit, frontal and not too small."
            )
        face = faces.largest(found)
        spec = self.classifier.metadata.input
        (probabilities,) = self.classifier.predict(faces.crop(image, face, size=spec.size, margin=spec.margin)[None])
        return MoodEstimate(
            mood=MOODS[int(np.argmax(probabilities))],
            probabilities=dict(zip(MOODS, probabilities.tolist(), strict=True)),
            face=face,
            face_count=len(found),
        )
