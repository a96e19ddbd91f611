"""The observation of a request for monitoring: one row of numbers, and no part of the image.

The prediction log writes these rows, the stage `reference` makes the same rows from labelled photos, and the package
`monitoring` compares the two. The columns were chosen so that a change of camera, light, people or model shows in at
least one of them, and so that none leads back to a face: no pixels, no embedding, no landmark, no address.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from service import request_id
from service.classifier import ClassifierMetadata
from service.detector import Face
from service.estimator import MoodEstimate
from service.images import Frame
from service.moods import MOODS

Outcome = Literal["answered", "no_face"]

PROBABILITIES: Final[tuple[str, ...]] = tuple(f"probability_{mood}" for mood in MOODS)
"""Columns of the four probabilities, in the order of `MOODS`."""

LARGEST_SIDE: Final[int] = 128
"""Longer side, in pixels, to which a larger face is reduced before it is measured. It is larger than the classifier's
input, so that a loss of detail from a lens or a cheaper camera is not averaged away; it bounds the cost of a row."""

_COLOUR_SIDE: Final[int] = 48  # longer side in pixels; colours change slowly over a face


@dataclass(frozen=True)
class Appearance:
    """Image properties of a face.

    Attributes:
        brightness: Mean grey value, in [0, 1].
        contrast: Standard deviation of the grey values, as a share of full scale.
        sharpness: Variance of the Laplacian (Pech-Pacheco et al. 2000) divided by the variance of the grey values, so
            that a dark or flat image does not count as blurred.
        colourfulness: Metric of Hasler and Suesstrunk (2003) for pixels in [0, 255]; 0 for a grey image.
        warmth: Mean of red - blue, divided by the mean of the channels; positive under a lamp, negative under a screen.
        tint: Mean of green - (red + blue) / 2, divided by the mean of the channels; positive if green, negative if
            magenta.
    """

    brightness: float
    contrast: float
    sharpness: float
    colourfulness: float
    warmth: float
    tint: float

    @classmethod
    def of(cls, image: NDArray[np.uint8], face: Face) -> Appearance:
        """The appearance of a face within its box, as far as the image reaches.

        Args:
            image: RGB image, uint8 (height, width, 3).
            face: Face in pixels of the image.
        """
        crop = _cut(image, face)
        grey = _grey(crop)
        (mean,), (deviation,) = _mean_and_deviation(grey.reshape(-1, 1))
        _, (edges,) = _mean_and_deviation(cv2.Laplacian(grey, cv2.CV_16S).reshape(-1, 1))
        colours = _shrink(crop, _COLOUR_SIDE, cv2.INTER_NEAREST)
        means, deviations = _mean_and_deviation(colours.reshape(-1, 3).astype(np.float32) @ _OPPONENTS)
        colourfulness = math.hypot(*deviations[:2]) + 0.3 * math.hypot(*means[:2])
        level = max(means[4], 1.0)  # a black image has no hue
        return cls(
            brightness=mean / 255,
            contrast=deviation / 255,
            sharpness=edges**2 / max(deviation**2, 1.0),
            colourfulness=colourfulness,
            warmth=means[2] / level,
            tint=means[3] / level,
        )


_OPPONENTS: Final = np.array(
    [
        [1.0, -1.0, 0.0],  # red - green, and
        [0.5, 0.5, -1.0],  # yellow - blue: the opponent channels of Hasler and Suesstrunk, section 7
        [1.0, 0.0, -1.0],  # red - blue
        [-0.5, 1.0, -0.5],  # green - magenta
        [1 / 3, 1 / 3, 1 / 3],
    ],
    np.float32,
).T


@dataclass(frozen=True)
class Observation:
    """A row of the prediction log. If the image has no face, the columns that describe a face are None.

    Attributes:
        time: Time of the response, UTC, ISO 8601.
        request: Id of the request, which its response carries too: a label that arrives later is joined by it.
        model_version: Number of the classifier's release.
        model_digest: Digest of the classifier; see `service.classifier.digest_of`. Rows of earlier releases lack it.
        outcome: `answered` or `no_face`.
        mood: Estimated mood.
        probability_positive: Probability of the mood `positive`.
        probability_negative: Probability of the mood `negative`.
        probability_neutral: Probability of the mood `neutral`.
        probability_other: Probability of the mood `other`.
        confidence: Largest of the four probabilities.
        entropy: Entropy of the four probabilities, in nats; ln 4 if the model knows nothing.
        face_share: Longer side of the face divided by the shorter side of the frame.
        detector_confidence: Detector's probability that this is a face, in [0, 1].
        faces: Number of faces found in the frame.
        brightness: Brightness of the face; see `Appearance`.
        contrast: Contrast of the face; see `Appearance`.
        sharpness: Sharpness of the face; see `Appearance`.
        colourfulness: Colourfulness of the face; see `Appearance`.
        warmth: Warmth of the face's colours; see `Appearance`.
        tint: Tint of the face's colours; see `Appearance`.
        frame_width: Width of the upright image as it was sent, in pixels.
        frame_height: Height of the upright image as it was sent, in pixels.
        latency_ms: Wall-clock time from the start of decoding to the estimate, in milliseconds.
    """

    time: str
    request: str
    model_version: str
    model_digest: str | None
    outcome: Outcome
    mood: str | None
    probability_positive: float | None
    probability_negative: float | None
    probability_neutral: float | None
    probability_other: float | None
    confidence: float | None
    entropy: float | None
    face_share: float | None
    detector_confidence: float | None
    faces: int
    brightness: float | None
    contrast: float | None
    sharpness: float | None
    colourfulness: float | None
    warmth: float | None
    tint: float | None
    frame_width: int
    frame_height: int
    latency_ms: float

    @classmethod
    def of(
        cls,
        frame: Frame,
        estimate: MoodEstimate | None,
        *,
        model: ClassifierMetadata,
        seconds: float,
    ) -> Observation:
        """The row for a frame that has just been processed.

        Args:
            frame: Frame that was processed.
            estimate: Its estimate; None if it has no face.
            model: Classifier that made the estimate.
            seconds: Duration of decoding and estimation, in seconds.
        """
        values: dict[str, Any] = dict.fromkeys(COLUMNS)
        values |= {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request": request_id.current(),
            "model_version": model.version,
            "model_digest": model.digest,
            "outcome": "no_face",
            "faces": 0,
            "frame_width": frame.width,
            "frame_height": frame.height,
            "latency_ms": seconds * 1000,
        }
        if estimate is not None:
            probabilities, face = [estimate.probabilities[mood] for mood in MOODS], estimate.face
            values |= {
                "outcome": "answered",
                "mood": estimate.mood,
                **dict(zip(PROBABILITIES, probabilities, strict=True)),
                "confidence": max(probabilities),
                "entropy": -sum(share * math.log(share) for share in probabilities if share > 0),
                "face_share": max(face.width, face.height) / min(frame.width, frame.height),
                "detector_confidence": face.confidence,
                "faces": estimate.face_count,
                **asdict(Appearance.of(frame.pixels, frame.in_pixels(face))),
            }
        rounded: dict[str, Any] = {name: round(v, 5) if isinstance(v, float) else v for name, v in values.items()}
        return cls(**rounded)


COLUMNS: Final[tuple[str, ...]] = tuple(field.name for field in fields(Observation))
"""Columns of a row, in order."""


def _mean_and_deviation(pixels: NDArray[Any]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of pixels, (n, channels)."""
    mean, deviation = cv2.meanStdDev(pixels[:, None])
    return mean.ravel().tolist(), deviation.ravel().tolist()


def _cut(image: NDArray[np.uint8], face: Face) -> NDArray[np.uint8]:
    """The pixels inside a face's box, at least one, as a view."""
    height, width = image.shape[:2]
    left, top = (min(max(0, start), end - 1) for start, end in ((face.x, width), (face.y, height)))
    return image[top : max(top + 1, face.y + face.height), left : max(left + 1, face.x + face.width)]


def _grey(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The crop in grey, its longer side at most `LARGEST_SIDE`."""
    # Pixels are dropped down to twice the side, then interpolated: a tenth of the time of averaging a large face.
    sampled = _shrink(crop, 2 * LARGEST_SIDE, cv2.INTER_NEAREST)
    return _shrink(
        np.asarray(cv2.cvtColor(sampled, cv2.COLOR_RGB2GRAY), dtype=np.uint8), LARGEST_SIDE, cv2.INTER_LINEAR
    )


def _shrink(pixels: NDArray[np.uint8], side: int, interpolation: int) -> NDArray[np.uint8]:
    """Pixels with their longer side at most `side`."""
    height, width = pixels.shape[:2]
    factor = side / max(height, width)
    if factor >= 1:
        return np.ascontiguousarray(pixels)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(pixels, size, interpolation=interpolation), dtype=np.uint8)
