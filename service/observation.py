"""The observation of a request for monitoring: one row of numbers, and no part of the image.

The prediction log writes these rows, the stage `reference` makes the same rows from labelled photos, and the package
`monitoring` compares the two. The columns were chosen so that a change of camera, light, people or model shows in at
least one of them, and so that none leads back to a face: no pixels, no embedding, no landmark, no address.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final, Literal

from service import request_id
from service.classifier import ClassifierMetadata
from service.estimator import MoodEstimate
from service.images import Frame
from service.moods import MOODS
from service.schema import Reason

RELIABLE: Final = "reliable"
"""Value of the column `reliability` for an answer that can be trusted."""

Outcome = Literal["answered", "no_face"]

PROBABILITIES: Final[tuple[str, ...]] = tuple(f"probability_{mood}" for mood in MOODS)
"""Columns of the four probabilities, in the order of `MOODS`."""


@dataclass(frozen=True)
class Observation:
    """A row of the prediction log. If the image has no face, the columns that describe a face are None.

    Attributes:
        time: Time of the response, UTC, ISO 8601.
        request: Id of the request, which its response carries too: a label that arrives later is joined by it.
        session: Random id of the session that the frame belongs to; None for a snapshot. Rows of earlier releases lack
            it.
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
        brightness: Brightness of the face; see `service.appearance.Appearance`.
        contrast: Contrast of the face; see `service.appearance.Appearance`.
        sharpness: Sharpness of the face; see `service.appearance.Appearance`.
        colourfulness: Colourfulness of the face; see `service.appearance.Appearance`.
        warmth: Warmth of the face's colours; see `service.appearance.Appearance`.
        tint: Tint of the face's colours; see `service.appearance.Appearance`.
        reliability: `reliable`, or why the answer is not; see `reliability_of`. Rows of earlier releases lack it.
        yaw: Turn of the head to the image's right, in degrees. Rows of earlier releases lack it.
        roll: Tilt of the head, clockwise, in degrees. Rows of earlier releases lack it.
        frame_width: Width of the upright image as it was sent, in pixels.
        frame_height: Height of the upright image as it was sent, in pixels.
        latency_ms: Wall-clock time from the start of decoding to the estimate, in milliseconds.
    """

    time: str
    request: str
    session: str | None
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
    reliability: str | None
    yaw: float | None
    roll: float | None
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
        session: str | None = None,
    ) -> Observation:
        """The row for a frame that has just been processed.

        Args:
            frame: Frame that was processed.
            estimate: Its estimate; None if it has no face.
            model: Classifier that made the estimate.
            seconds: Duration of decoding and estimation, in seconds.
            session: Id of the session that the frame belongs to; None for a snapshot.
        """
        values: dict[str, Any] = dict.fromkeys(COLUMNS)
        values |= {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request": request_id.current(),
            "session": session,
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
                **asdict(estimate.appearance),
                "reliability": reliability_of(estimate.quality.reasons),
                "yaw": face.yaw,
                "roll": face.roll,
            }
        rounded: dict[str, Any] = {name: round(v, 5) if isinstance(v, float) else v for name, v in values.items()}
        return cls(**rounded)


def reliability_of(reasons: Sequence[Reason]) -> str:
    """The column `reliability`: the first reason not to trust an answer, if it is in the picture rather than in the
    classifier's confidence; else `uncertain`; and `RELIABLE` for an answer without a reason."""
    seen = [reason for reason in reasons if reason != "uncertain"]
    return [*seen, *reasons, RELIABLE][0]


COLUMNS: Final[tuple[str, ...]] = tuple(field.name for field in fields(Observation))
"""Columns of a row, in order."""
