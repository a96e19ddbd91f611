"""Image in, mood out: decoding, detection, cropping and classification as one object.

The API, the evaluation stage and the drift reference all use it, so that what is measured is what is served.
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
from service.appearance import Appearance
from service.classifier import MoodClassifier
from service.detector import Face, FaceDetector
from service.errors import NoFaceError
from service.images import Frame
from service.moods import MOODS
from service.quality import EVERY_ANSWER, Measures, Quality, ReliabilityRule

Stage = Literal["decode", "detect", "classify"]

STAGES: Final[tuple[Stage, ...]] = ("decode", "detect", "classify")
"""Stages of an estimate, in this order; `classify` includes cropping the face."""

Observer = Callable[[Stage, float], None]
"""Function that is called after each completed stage, with its wall-clock time in seconds."""


Decoder = Callable[[int | None], Frame]
"""Function from the shortest side to which an image may be reduced to the image; see `service.images.load`."""


@dataclass(frozen=True)
class MoodEstimate:
    """The estimated mood of an image.

    Attributes:
        mood: Mood with the highest probability; among equals, the first of `MOODS`.
        probabilities: Probability of each mood, in the order of `MOODS`; they sum to 1.
        face: Face that was classified, in pixels of the upright image.
        face_count: Number of faces found in the image.
        appearance: Image properties of the face.
        quality: How far the estimate can be trusted.
    """

    mood: str
    probabilities: dict[str, float]
    face: Face
    face_count: int
    appearance: Appearance
    quality: Quality


Inspector = Callable[[Frame, MoodEstimate | None], None]
"""Function that is called with a frame and its estimate, or None if it has no face."""


class MoodEstimator:
    """A detector and a classifier; safe to call from several threads."""

    def __init__(
        self, detector: FaceDetector, classifier: MoodClassifier, rule: ReliabilityRule = EVERY_ANSWER
    ) -> None:
        """An estimator.

        Args:
            detector: Detector.
            classifier: Classifier.
            rule: When an estimate is called reliable; the default calls every one so, as before a rule is fitted.
        """
        self.detector = detector
        self.classifier = classifier
        self.rule = rule

    @classmethod
    def load(cls, bundle: Path) -> MoodEstimator:
        """The estimator in a model bundle: a directory with `detector/` and `classifier/`."""
        classifier = MoodClassifier(bundle / "classifier")
        rule = ReliabilityRule.load(bundle / "classifier", classifier.metadata.digest)
        return cls(FaceDetector(bundle / "detector"), classifier, rule)

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
            data: Content of a JPEG, PNG or WebP file.
            max_pixels: Largest width x height accepted.
            observe: Function that is called after each of `STAGES`, in the calling thread, with its name and its
                duration in seconds. For an image without a face the last stage is `detect`; for one that cannot be
                decoded there is none.
            inspect: Function that is called at the end with the frame and its estimate, or None if it has no face.

        Raises:
            InvalidImageError, UnsupportedTypeError, TooLargeError: See `service.images.decode`.
            NoFaceError: No face was found.
        """
        return self.estimate_decoded(
            lambda side: images.decode_frame(data, max_pixels=max_pixels, working_side=side),
            observe=observe,
            inspect=inspect,
        )

    def estimate_decoded(
        self, decode: Decoder, *, observe: Observer | None = None, inspect: Inspector | None = None
    ) -> MoodEstimate:
        """As `estimate`, for an image that is decoded by a function; see `estimate_people`."""
        return self.estimate_people(decode, observe=observe, inspect=inspect)[0]

    def estimate_people(
        self,
        decode: Decoder,
        *,
        most: int | None = None,
        hint: Face | None = None,
        observe: Observer | None = None,
        inspect: Inspector | None = None,
    ) -> list[MoodEstimate]:
        """Moods of the largest faces in an image.

        Args:
            decode: Function that decodes the image.
            most: Most faces that are classified, if all faces are to be found. None if the largest is enough; the
                search for smaller ones then ends once it is certain.
            hint: Where the face is, in pixels of the upright image, as far as the caller knows. If O-Net sees a face
                there, no other is searched for. It is not used if all faces are to be found.
            observe: See `estimate`.
            inspect: See `estimate`; it is called once, with the estimate for the largest face.

        Returns:
            An estimate for each face, at least one, the largest face first.

        Raises:
            NoFaceError: No face was found.
        """
        with timed("decode", observe):
            frame = decode(self.detector.settings.working_side)
        try:
            people = self._estimate_frame(frame, most=most, hint=hint, observe=observe)
        except NoFaceError:
            if inspect is not None:
                inspect(frame, None)
            raise
        if inspect is not None:
            inspect(frame, people[0])
        return people

    def estimate_pixels(self, image: NDArray[np.uint8], *, observe: Observer | None = None) -> MoodEstimate:
        """Mood of the largest face in an upright RGB image, uint8 (height, width, 3).

        Raises:
            NoFaceError: No face was found.
        """
        return self.estimate_frame(Frame(image, image.shape[1], image.shape[0]), observe=observe)

    def estimate_frame(self, frame: Frame, *, observe: Observer | None = None) -> MoodEstimate:
        """Mood of the largest face in a frame; its box is in pixels of the image as it was sent.

        Raises:
            NoFaceError: No face was found.
        """
        return self._estimate_frame(frame, observe=observe)[0]

    def _estimate_frame(
        self, frame: Frame, *, most: int | None = None, hint: Face | None = None, observe: Observer | None = None
    ) -> list[MoodEstimate]:
        """See `estimate_people`.

        Raises:
            NoFaceError: No face was found.
        """
        with timed("detect", observe):
            known = self.detector.confirm(frame.pixels, frame.in_pixels(hint)) if hint and most is None else None
            found = [known] if known else self.detector.detect(frame.pixels, all_faces=most is not None)
        if not found:
            raise NoFaceError(
                f"No face was found in the {frame.width} x {frame.height} image. "
                "Faces are searched for upright: turn a picture that lies on its side, or set its EXIF orientation. "
                "The face must be lit, frontal and not too small."
            )
        with timed("classify", observe):
            return [self.classify(frame, face, face_count=len(found)) for face in faces.by_size(found)[: most or 1]]

    def classify(self, frame: Frame, face: Face, *, face_count: int = 1) -> MoodEstimate:
        """Mood of a face that was found.

        Args:
            frame: Frame with the face.
            face: Face in pixels of `frame.pixels`.
            face_count: Number of faces found in the frame.
        """
        spec = self.classifier.metadata.input
        crop = faces.crop(frame.pixels, face, size=spec.size, margin=spec.margin)
        (probabilities,) = self.classifier.predict(crop[None])
        confidence = float(probabilities.max())
        appearance, sent = Appearance.of(frame.pixels, face), frame.in_image(face)
        mood = MOODS[int(np.argmax(probabilities))]
        reasons = self.rule.reasons(mood, confidence, Measures.of(crop, frame, face))
        return MoodEstimate(
            mood=mood,
            probabilities=dict(zip(MOODS, probabilities.tolist(), strict=True)),
            face=sent,
            face_count=face_count,
            appearance=appearance,
            quality=Quality.of(reasons, appearance, sent, frame),
        )


@contextmanager
def timed(stage: Stage, observe: Observer | None) -> Iterator[None]:
    """Report the duration of the body, unless it raises."""
    started = time.perf_counter()
    yield
    if observe is not None:
        observe(stage, time.perf_counter() - started)
