"""Whether an answer can be trusted: a rule on what the classifier saw, fitted on labelled faces, and reasons in words.

The rule asks for a confidence, which depends on the mood. Under a condition that makes the classifier err more often,
such as blur, it asks for a higher one. Its numbers lie beside the classifier in the bundle; the stage `reliability`
fits them so that on validation at most one in ten of the answers called reliable is wrong, on clean faces and under
every corruption that the evaluation knows. The model card has the errors on test, which exceed that under some.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, field_validator

from service.detector import Face
from service.images import Frame
from service.moods import MOODS
from service.schema import Quality, Reason

__all__ = ["EVERY_ANSWER", "NO_ANSWER", "RULE_FILE", "Condition", "Measures", "Quality", "Reason", "ReliabilityRule"]

RULE_FILE: Final[str] = "reliability.json"

# Rows and columns of the eyes and of the mouth in a face as the classifier sees it, as shares of its side.
_EYES: Final = (0.17, 0.46, 0.12, 0.88)
_MOUTH: Final = (0.62, 0.96, 0.2, 0.8)

_BLOCK: Final = 8  # side of a JPEG block, in pixels
_SECOND_DIFFERENCES: Final = tuple(
    np.array(kernel, np.float32)
    for kernel in (
        ((0, 0, 0), (1, -2, 1), (0, 0, 0)),
        ((0, 1, 0), (0, -2, 0), (0, 1, 0)),
        ((1, 0, 0), (0, -2, 0), (0, 0, 1)),
        ((0, 0, 1), (0, -2, 0), (1, 0, 0)),
    )
)


@dataclass(frozen=True)
class Measures:
    """What the rule looks at.

    Attributes:
        brightness: Mean grey value of the classifier's input, in [0, 1].
        contrast: Standard deviation of its grey values, as a share of full scale.
        detail: Standard deviation of the second differences in the direction that has the smallest, divided by that of
            the Laplacian at half the resolution. It is low for a blur, also for one in a single direction, and depends
            little on the face.
        blocks: How much stronger edges are at every eighth row and column than beside them: 1 if there is no such
            grid, higher after strong compression as JPEG.
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
    blocks: float
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
            detail=_detail(crop),
            blocks=(_blocks(crop) + _blocks(crop.T)) / 2,
            eyes=_plain(edges, _EYES) / spread,
            mouth=_plain(edges, _MOUTH) / spread,
            **measures,
        )


def _detail(crop: NDArray[np.uint8]) -> float:
    """See `Measures.detail`."""
    grey = crop.astype(np.float32)
    deviations = [_deviation(cv2.filter2D(grey, -1, kernel)[1:-1, 1:-1]) for kernel in _SECOND_DIFFERENCES]
    half = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return min(deviations) / max(_deviation(cv2.Laplacian(half, cv2.CV_32F)), 1.0)


def _deviation(values: NDArray[Any]) -> float:
    """Standard deviation."""
    return float(cv2.meanStdDev(values)[1].item())


def _blocks(crop: NDArray[np.uint8]) -> float:
    """See `Measures.blocks`; columns only. Where the grid begins is not known: the offset with the strongest counts."""
    steps = cv2.absdiff(crop[:, 1:], crop[:, :-1]).mean(axis=0)
    beside = (steps[:-2] + steps[2:]) / 2
    ratios = steps[1:-1] / (beside + 0.3)  # grey levels; nothing is an edge that is fainter
    whole = len(ratios) // _BLOCK
    by_offset = np.sort(ratios[: whole * _BLOCK].reshape(whole, _BLOCK), axis=0)
    return float(by_offset[whole // 2].max())


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
        confidences: Confidence that an answer needs, by its mood.
        conditions: Conditions that ask for more.
        model_digest: Digest of the classifier that the rule was fitted for; None for any.
    """

    model_config = ConfigDict(frozen=True)

    confidences: dict[str, float]
    conditions: tuple[Condition, ...] = ()
    model_digest: str | None = None

    @field_validator("confidences")
    @classmethod
    def _every_mood_has_one(cls, confidences: dict[str, float]) -> dict[str, float]:
        if set(confidences) != set(MOODS):
            raise ValueError(f"it has {sorted(confidences)}, the moods are {sorted(MOODS)}")
        return confidences

    @classmethod
    def load(cls, classifier: Path, digest: str) -> ReliabilityRule:
        """The rule beside a classifier. A classifier without one, of an earlier release, promises nothing.

        Args:
            classifier: Directory of the classifier.
            digest: Digest of the classifier.

        Raises:
            ValueError: The rule is damaged, or was fitted for another classifier.
        """
        path = classifier / RULE_FILE
        if not path.exists():
            return NO_ANSWER
        rule = cls.model_validate_json(path.read_bytes())
        if rule.model_digest not in (None, digest):
            raise ValueError(
                f"{path} was fitted for another classifier, {rule.model_digest}: restore it from git, or run the "
                "stages `reliability` and `package` (`dvc repro`)."
            )
        return rule

    def reasons(self, mood: str, confidence: float, measures: Measures) -> list[Reason]:
        """Why an answer is not reliable; empty if it is.

        Args:
            mood: The mood that is answered.
            confidence: Its probability, the largest of the four.
            measures: What the classifier saw.
        """
        found: dict[Reason, None] = {}
        for condition in self.conditions:
            if confidence < condition.confidence and condition.holds(measures):
                found[condition.reason] = None
        if confidence < self.confidences[mood]:
            found = {"uncertain": None, **found}
        return list(found)


EVERY_ANSWER: Final = ReliabilityRule(confidences=dict.fromkeys(MOODS, 0.0))
"""A rule that calls every answer reliable."""

NO_ANSWER: Final = ReliabilityRule(confidences=dict.fromkeys(MOODS, 1.01))
"""A rule that calls no answer reliable, because nobody has measured which are."""
