"""What is kept of an answered request for watching the model: one row of numbers, and no part of the image.

The prediction log writes these rows, the stage `reference` makes the same ones of labelled photos, and the package
`monitoring` compares the two. What they hold was chosen so that a change of camera, light, people or model shows in
one of them, and so that none leads back to a face: no pixels, no embedding, no landmark, no address.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from service.detector import Face
from service.estimator import MoodEstimate
from service.images import Frame
from service.moods import MOODS

Outcome = Literal["answered", "no_face"]

PROBABILITIES: Final[tuple[str, ...]] = tuple(f"probability_{mood}" for mood in MOODS)
"""Names of the rows' four probabilities, in the order of `MOODS`."""

LARGEST_SIDE: Final[int] = 128
"""Pixels; a larger face is shrunk to this before it is described. Above what the classifier sees, so that the loss of
detail that a lens or a cheaper camera causes is not averaged away; bounded, so that a row costs the same for each."""

_COLOUR_SIDE: Final[int] = 48  # along the longer side


@dataclass(frozen=True)
class Appearance:
    """How a face looks as a picture.

    Attributes:
        brightness: mean grey value, in [0, 1].
        contrast: standard deviation of the grey values, in shares of full scale.
        sharpness: variance of the Laplacian (Pech-Pacheco et al. 2000) over the variance of the grey values, so that
            a dark or flat picture does not count as a blurred one.
        colourfulness: the metric of Hasler and Suesstrunk (2003) on [0, 255]; 0 for a grey picture.
        warmth: mean of (red - blue) over the mean of the channels; above zero under a lamp, below under a screen.
        tint: mean of (green - (red + blue) / 2) over the mean of the channels; green is above zero, magenta below.
    """

    brightness: float
    contrast: float
    sharpness: float
    colourfulness: float
    warmth: float
    tint: float

    @classmethod
    def of(cls, image: NDArray[np.uint8], face: Face) -> Appearance:
        """The appearance of a face, uint8 (height, width, 3) RGB, inside its box as far as the image reaches."""
        crop = _cut(image, face)
        grey = _grey(crop)
        (mean,), (deviation,) = _mean_and_deviation(grey.reshape(-1, 1))
        _, (edges,) = _mean_and_deviation(cv2.Laplacian(grey, cv2.CV_16S).reshape(-1, 1))
        colours = _shrink(crop, _COLOUR_SIDE, cv2.INTER_NEAREST)  # they change slowly over a face
        means, deviations = _mean_and_deviation(colours.reshape(-1, 3).astype(np.float32) @ _OPPONENTS)
        colourfulness = math.hypot(*deviations[:2]) + 0.3 * math.hypot(*means[:2])
        level = max(means[4], 1.0)  # a black picture has no hue
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
    """A row of the prediction log. Of a picture without a face everything that describes the face is None.

    Attributes:
        time: when the request was answered, UTC, ISO 8601.
        request: random; joins a label that comes later to this row, and leads to nobody.
        model_version: of the classifier.
        outcome: `answered`, or `no_face`.
        mood: the mood that was answered.
        probability_positive: of that mood; likewise the next three.
        probability_negative: see above.
        probability_neutral: see above.
        probability_other: see above.
        confidence: the largest of the four.
        entropy: of the four, in nats; ln 4 where the model knows nothing.
        face_share: the face's longer side over the frame's shorter side.
        detector_confidence: of the face, in [0, 1].
        faces: how many the frame shows.
        brightness: see `Appearance`; likewise the next five.
        contrast: see `Appearance`.
        sharpness: see `Appearance`.
        colourfulness: see `Appearance`.
        warmth: see `Appearance`.
        tint: see `Appearance`.
        frame_width: pixels of the upright frame.
        frame_height: pixels of the upright frame.
        latency_ms: from the start of the decoding to the estimate; wall-clock.
    """

    time: str
    request: str
    model_version: str
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
        model_version: str,
        seconds: float,
    ) -> Observation:
        """The row for a frame that was answered just now.

        Args:
            frame: that was looked at.
            estimate: what was answered; None where there was no face.
            model_version: of the classifier.
            seconds: that decoding and estimate took.
        """
        values: dict[str, Any] = dict.fromkeys(COLUMNS)
        values |= {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request": uuid.uuid4().hex,
            "model_version": model_version,
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
                **asdict(Appearance.of(frame.pixels, _in_pixels(face, frame))),
            }
        rounded: dict[str, Any] = {name: round(v, 5) if isinstance(v, float) else v for name, v in values.items()}
        return cls(**rounded)


COLUMNS: Final[tuple[str, ...]] = tuple(field.name for field in fields(Observation))
"""Names of a row's columns, in order."""


def _in_pixels(face: Face, frame: Frame) -> Face:
    """A face of the image as it was sent, in the pixels that a large one was reduced to."""
    height, width = frame.pixels.shape[:2]
    across, down = width / frame.width, height / frame.height
    return Face(
        x=round(face.x * across),
        y=round(face.y * down),
        width=max(1, round(face.width * across)),
        height=max(1, round(face.height * down)),
        confidence=face.confidence,
    )


def _mean_and_deviation(pixels: NDArray[Any]) -> tuple[list[float], list[float]]:
    """Of each channel of (n, channels) pixels."""
    mean, deviation = cv2.meanStdDev(pixels[:, None])
    return mean.ravel().tolist(), deviation.ravel().tolist()


def _cut(image: NDArray[np.uint8], face: Face) -> NDArray[np.uint8]:
    """The pixels inside a face's box, at least one, as a view."""
    height, width = image.shape[:2]
    left, top = (min(max(0, start), end - 1) for start, end in ((face.x, width), (face.y, height)))
    return image[top : max(top + 1, face.y + face.height), left : max(left + 1, face.x + face.width)]


def _grey(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The crop in grey, its longer side at most `LARGEST_SIDE`."""
    # To twice the side by leaving pixels out, then by interpolation: a tenth of the time of averaging a large face.
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
