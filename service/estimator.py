"""Image in, mood out: decoding, detection, cropping and classification as one object.

The API, the evaluation stage and the drift reference call this one; so what is measured is what is served.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from service import faces, images
from service.classifier import MoodClassifier
from service.detector import Face, FaceDetector
from service.errors import NoFaceError
from service.images import Frame
from service.moods import MOODS

Stage = Literal["decode", "detect", "classify"]

STAGES: Final[tuple[Stage, ...]] = ("decode", "detect", "classify")
"""What an image goes through, in this order; `classify` includes cutting the face out."""

Observer = Callable[[Stage, float], None]
"""Told of each stage that was completed, and of the seconds of wall-clock time it took."""


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


Inspector = Callable[[Frame, MoodEstimate | None], None]
"""Shown a frame with its estimate, or with None where it has no face."""


class MoodEstimator:
    """A detector and a classifier; safe to call from several threads."""

    def __init__(self, detector: FaceDetector, classifier: MoodClassifier) -> None:
        self.detector = detector
        self.classifier = classifier

    @classmethod
    def load(cls, bundle: Path) -> MoodEstimator:
        """The estimator in a model bundle: a directory with `detector/` and `classifier/`."""
        return cls(FaceDetector(bundle / "detector"), MoodClassifier(bundle / "classifier"))

    def estimate(
        self,
        data: bytes,
        *,
        max_pixels: int = images.MAX_PIXELS,
        observe: Observer | None = None,
        inspect: Inspector | None = None,
    ) -> MoodEstimate:
        """Mood of the largest face in an image file.

        Args:
            data: a JPEG, PNG or WebP file.
            max_pixels: largest width x height accepted.
            observe: called after each of `STAGES` with its name and its duration in seconds, in the calling thread.
                An image without a face is reported up to `detect`, one that cannot be decoded not at all. It fits
                a Prometheus histogram: `lambda stage, seconds: HISTOGRAM.labels(stage).observe(seconds)`.
            inspect: shown the frame at the end, with its estimate, or with None where it has no face.

        Raises:
            InvalidImageError, UnsupportedTypeError, TooLargeError: see `service.images.decode`.
            NoFaceError: no face was found.
        """
        with _timed("decode", observe):
            frame = self.decode(data, max_pixels=max_pixels)
        try:
            estimate = self.estimate_frame(frame, observe=observe)
        except NoFaceError:
            if inspect is not None:
                inspect(frame, None)
            raise
        if inspect is not None:
            inspect(frame, estimate)
        return estimate

    def decode(self, data: bytes, *, max_pixels: int = images.MAX_PIXELS) -> Frame:
        """The pixels of an image file, as many as the detector needs.

        Raises:
            InvalidImageError, UnsupportedTypeError, TooLargeError: see `service.images.decode`.
        """
        return images.decode_frame(data, max_pixels=max_pixels, working_side=self.detector.settings.working_side)

    def estimate_pixels(self, image: NDArray[np.uint8], *, observe: Observer | None = None) -> MoodEstimate:
        """Mood of the largest face in an upright RGB image, uint8 (height, width, 3).

        Raises:
            NoFaceError: no face was found.
        """
        return self.estimate_frame(Frame(image, image.shape[1], image.shape[0]), observe=observe)

    def estimate_frame(self, frame: Frame, *, observe: Observer | None = None) -> MoodEstimate:
        """Mood of the largest face in a frame; its box is in pixels of the image as it was sent.

        Raises:
            NoFaceError: no face was found.
        """
        with _timed("detect", observe):
            found = self.detector.detect(frame.pixels)
        if not found:
            raise NoFaceError(
                f"No face was found in the {frame.width} x {frame.height} image. "
                "Send one with a face that is lit, frontal and not too small."
            )
        with _timed("classify", observe):
            face = faces.largest(found)
            spec = self.classifier.metadata.input
            crop = faces.crop(frame.pixels, face, size=spec.size, margin=spec.margin)
            (probabilities,) = self.classifier.predict(crop[None])
        return MoodEstimate(
            mood=MOODS[int(np.argmax(probabilities))],
            probabilities=dict(zip(MOODS, probabilities.tolist(), strict=True)),
            face=in_sent_image(face, frame),
            face_count=len(found),
        )


def in_sent_image(face: Face, frame: Frame) -> Face:
    """A face of a frame's pixels, in those of the image that the frame was reduced from."""
    rows, columns = frame.pixels.shape[:2]
    if (columns, rows) == (frame.width, frame.height):
        return face
    across, down = frame.width / columns, frame.height / rows
    return Face(
        x=round(face.x * across),
        y=round(face.y * down),
        width=round(face.width * across),
        height=round(face.height * down),
        confidence=face.confidence,
    )


@contextmanager
def _timed(stage: Stage, observe: Observer | None) -> Iterator[None]:
    """Report the duration of the body, unless it raises."""
    started = time.perf_counter()
    yield
    if observe is not None:
        observe(stage, time.perf_counter() - started)
