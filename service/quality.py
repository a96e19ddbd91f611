"""Whether an answer can be trusted: a rule on what the classifier saw, fitted on labelled faces, and reasons in words.

The rule asks for a confidence. Under a condition that makes the classifier err more often, such as blur, it asks for a
higher one. Its numbers are in the bundle; the stage `reliability` fits them so that at most one in ten of the answers
called reliable is wrong, on clean faces and under every corruption that the evaluation knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from service.appearance import Appearance
from service.detector import Face
from service.images import Frame

RULE_FILE: Final[str] = "reliability.json"

Reason = Literal["uncertain", "dark", "bright", "low_contrast", "blurred", "small", "turned", "cut_off", "covered"]

# Rows and columns of the eyes and of the mouth in a face as the classifier sees it, as shares of its side.
_EYES: Final = (0.17, 0.46, 0.12, 0.88)
_MOUTH: Final = (0.62, 0.96, 0.2, 0.8)


@dataclass(frozen=True)
class Measures:
    """What the rule looks at.

    Attributes:
        brightness: Mean grey value of the classifier's input, in [0, 1].
        contrast: Standard deviation of its grey values, as a share of full scale.
        detail: Variance of its Laplacian divided by the variance of its grey values. Unlike
            `service.appearance.Appearance.sharpness` it does not depend on the number of pixels that the camera has.
        eyes: Median size of the Laplacian at the eyes, divided by the standard deviation of the grey values: 0 if
            something plain covers them.
        mouth: The same at the mouth.
        pixels: Longer side of the face in the image as it was sent, in pixels.
        turn: Size of the yaw, in degrees; 0 if it is not known.
        tilt: Size of the roll, in degrees; 0 if it is not known.
        outside: Share of the face's box that lies at or beyond the image's edge, in [0, 1].
    """

    brightness: float
    contrast: float
    detail: float
    eyes: float
    mouth: float
    pixels: float
    turn: float
    tilt: float
    outside: float

    @classmethod
    def of(cls, crop: NDArray[np.uint8], frame: Frame | None = None, face: Face | None = None) -> Measures:
        """The measures of a face.

        Args:
            crop: The classifier's input, grey, uint8 (size, size).
            frame: Frame that the face is from; None if there is only the crop.
            face: Face in pixels of `frame.pixels`.
        """
        (mean,), (deviation,) = (values.ravel().tolist() for values in cv2.meanStdDev(crop))
        edges = cv2.Laplacian(crop, cv2.CV_16S)
        spread = max(deviation, 1.0)
        measures: dict[str, float] = {"pixels": float(crop.shape[0]), "turn": 0.0, "tilt": 0.0, "outside": 0.0}
        if frame is not None and face is not None:
            sent = frame.in_image(face)
            measures = {
                "pixels": float(max(sent.width, sent.height)),
                "turn": abs(face.yaw or 0.0),
                "tilt": abs(face.roll or 0.0),
                "outside": _outside(face, frame.pixels.shape[1], frame.pixels.shape[0]),
            }
        return cls(
            brightness=mean / 255,
            contrast=deviation / 255,
            detail=float(edges.std()) ** 2 / spread**2,
            eyes=_plain(edges, _EYES) / spread,
            mouth=_plain(edges, _MOUTH) / spread,
            **measures,
        )


def _plain(edges: NDArray[Any], region: tuple[float, float, float, float]) -> float:
    """Median size of the Laplacian in a region."""
    side = edges.shape[0]
    top, bottom, left, right = (round(share * side) for share in region)
    return float(np.median(np.abs(edges[top:bottom, left:right])))


def _outside(face: Face, width: int, height: int) -> float:
    """Share of the square around a face, whose box was clipped to the image, that lies beyond the image's edges."""
    side = max(face.width, face.height)
    left, top = face.x + (face.width - side) / 2, face.y + (face.height - side) / 2
    across = min(width, left + side) - max(0.0, left)
    down = min(height, top + side) - max(0.0, top)
    return 1.0 - max(0.0, across) * max(0.0, down) / side**2


class Condition(BaseModel):
    """A condition under which an answer needs more confidence.

    Attributes:
        reason: Reason that is given if the confidence is too low.
        measure: Name of an attribute of `Measures`.
        below: The condition holds if the measure is below this; None if there is no such bound.
        above: The condition holds if the measure is above this; None if there is no such bound.
        confidence: Confidence that it asks for; above 1 if no answer is reliable.
    """

    model_config = ConfigDict(frozen=True)

    reason: Reason
    measure: str
    below: float | None = None
    above: float | None = None
    confidence: float

    def holds(self, measures: Measures) -> bool:
        """Whether the condition holds."""
        value = getattr(measures, self.measure)
        return (self.below is not None and value < self.below) or (self.above is not None and value > self.above)


class ReliabilityRule(BaseModel):
    """When an answer is called reliable.

    Attributes:
        confidence: Confidence that every answer needs.
        conditions: Conditions that ask for more.
    """

    model_config = ConfigDict(frozen=True)

    confidence: float
    conditions: tuple[Condition, ...] = ()

    @classmethod
    def read(cls, path: Path) -> ReliabilityRule:
        """The rule in a JSON file."""
        return cls.model_validate_json(path.read_bytes())

    def reasons(self, confidence: float, measures: Measures) -> list[Reason]:
        """Why an answer is not reliable; empty if it is.

        Args:
            confidence: Largest of the four probabilities.
            measures: What the classifier saw.
        """
        found: dict[Reason, None] = {}
        for condition in self.conditions:
            if confidence < condition.confidence and condition.holds(measures):
                found[condition.reason] = None
        if confidence < self.confidence:
            found = {"uncertain": None, **found}
        return list(found)


EVERY_ANSWER: Final = ReliabilityRule(confidence=0.0)
"""A rule that calls every answer reliable."""


class Quality(BaseModel):
    """How far an answer can be trusted, and what the picture of the face is like."""

    reliable: bool = Field(
        description="Whether the answer can be trusted: of those called reliable at most one in ten is wrong (measured "
        "on held-out faces, clean and corrupted; see the model card)."
    )
    reasons: list[Reason] = Field(description="Why not; empty if it is.")
    face_share: float = Field(ge=0, description="Longer side of the face divided by the shorter side of the image.")
    brightness: float = Field(ge=0, le=1, description="Mean grey value of the face.")
    contrast: float = Field(ge=0, description="Standard deviation of its grey values, as a share of full scale.")
    sharpness: float = Field(ge=0, description="Variance of its Laplacian divided by that of its grey values.")
    yaw: float | None = Field(description="Turn of the head to the image's right, in degrees; null if not known.")
    roll: float | None = Field(description="Tilt of the head, clockwise, in degrees; null if not known.")

    @classmethod
    def of(cls, reasons: list[Reason], appearance: Appearance, face: Face, frame: Frame) -> Quality:
        """The quality of an answer.

        Args:
            reasons: Why it is not reliable.
            appearance: Image properties of the face.
            face: Face in pixels of the image as it was sent.
            frame: Frame with the face.
        """
        return cls(
            reliable=not reasons,
            reasons=reasons,
            face_share=round(max(face.width, face.height) / min(frame.width, frame.height), 4),
            brightness=round(appearance.brightness, 4),
            contrast=round(appearance.contrast, 4),
            sharpness=round(appearance.sharpness, 4),
            yaw=None if face.yaw is None else round(face.yaw, 1),
            roll=None if face.roll is None else round(face.roll, 1),
        )
