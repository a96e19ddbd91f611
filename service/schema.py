"""The API's contract: its addresses, and what is sent to and fro. `service.openapi` makes the OpenAPI document of it.

The process that starts the workers imports this module, which therefore needs no NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeAliasType

from service import request_id
from service.moods import Mood, for_each_mood
from service.problems import Problem
from service.session.summary import Summary

if TYPE_CHECKING:  # not needed by the process that starts the workers
    from collections.abc import Sequence

    from service.appearance import Appearance
    from service.classifier import ClassifierMetadata
    from service.detector import Face
    from service.estimator import MoodEstimate
    from service.images import Frame
    from service.session.engine import SessionEstimate

UPLOAD_PATH: Final[str] = "/upload-meaa-image"
FRAMES_PATH: Final[str] = "/upload-meaa-frames"
SESSION_PATH: Final[str] = "/meaa-session"
PAGE_PATH: Final[str] = "/"
OPENAPI_PATH: Final[str] = "/docs.json"
METRICS_PATH: Final[str] = "/metrics"

SUBPROTOCOL: Final[str] = "meaa.v1"
"""The WebSocket subprotocol of `SESSION_PATH`."""

BEARER: Final[str] = "bearer."
"""What comes before the token in a second subprotocol, for browsers, which cannot set a header."""

Reason = TypeAliasType(
    "Reason",
    Literal["uncertain", "dark", "bright", "low_contrast", "blurred", "small", "turned", "cut_off", "covered"],
)
"""Why an answer is not reliable."""

# Not a constraint: rounding may take a sum of probabilities beyond 1 in its last digit, which is no fault.
_Probability = Annotated[float, Field(json_schema_extra={"minimum": 0, "maximum": 1})]

Probabilities = TypeAliasType(
    "Probabilities", Annotated[dict[str, _Probability], Field(json_schema_extra=for_each_mood)]
)
"""Probability of each mood."""


class FaceBox(BaseModel):
    """The face that was classified, in pixels of the upright image."""

    x: int = Field(ge=0, description="Left edge.")
    y: int = Field(ge=0, description="Upper edge.")
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    confidence: float = Field(ge=0, le=1, description="The detector's probability that this is a face.")


class Quality(BaseModel):
    """How far an answer can be trusted, and what the picture of the face is like."""

    reliable: bool = Field(
        description="Whether the answer can be trusted. The rule aims at no more than one wrong in ten of those called "
        "reliable; the model card has the errors that were measured on held-out faces, clean and corrupted."
    )
    reasons: list[Reason] = Field(description="Why not; empty if it is.")
    face_share: float = Field(ge=0, description="Longer side of the face divided by the shorter side of the image.")
    brightness: float = Field(ge=0, le=1, description="Mean grey value of the face.")
    contrast: float = Field(ge=0, description="Standard deviation of its grey values, as a share of full scale.")
    sharpness: float = Field(ge=0, description="Variance of its Laplacian divided by that of its grey values.")
    yaw: float | None = Field(description="Turn of the head to the image's right, in degrees; null if not known.")
    roll: float | None = Field(description="Tilt of the head, clockwise, in degrees; null if not known.")

    @classmethod
    def of(cls, reasons: list[Reason], appearance: Appearance, face: Face, frame: Frame) -> Self:
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


class Model(BaseModel):
    """The classifier that estimated the mood."""

    name: str = Field(examples=["mini_xception"])
    version: str = Field(description="Number of the release.", examples=["4"])
    digest: str = Field(
        description="SHA-256 of the classifier as it is served, in hexadecimal: it differs if a prediction may differ.",
        examples=["5f2c8d0e4b7a4f0f9b0c5c5a3e6d1b2f7a8e9c0d1f2a3b4c5d6e7f8091a2b3c4"],
    )


class Person(BaseModel):
    """One of the people in an image."""

    mood: Mood = Field(description="The mood with the highest probability.")
    probabilities: Probabilities = Field(description="Probability of each mood; they sum to 1.")
    face: FaceBox
    quality: Quality

    @classmethod
    def of(cls, estimate: MoodEstimate) -> Person:
        """The person whom an estimate is about."""
        return cls(
            mood=estimate.mood,
            probabilities=estimate.probabilities,
            face=FaceBox.model_validate(estimate.face, from_attributes=True),
            quality=estimate.quality,
        )


def _people_are_optional(schema: dict[str, Any]) -> None:
    """A response has no null people: it has them, or it does not have the member."""
    if "people" in schema["properties"]:
        people = schema["properties"]["people"]
        schema["properties"]["people"] = {**people.pop("anyOf")[0], **people}
        schema["properties"]["people"].pop("default", None)


class MoodResponse(BaseModel):
    """The mood of the largest face in an image."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True, json_schema_extra=_people_are_optional)

    mood: Mood = Field(description="The mood with the highest probability.")
    probabilities: Probabilities = Field(description="Probability of each mood; they sum to 1.")
    face: FaceBox
    faces: int = Field(
        ge=1,
        description="How many faces were found in the image. Without `faces=all` the search may stop when the largest "
        "face is certain.",
    )
    quality: Quality
    people: list[Person] | None = Field(
        default=None,
        exclude_if=lambda people: people is None,
        description="With `faces=all`: the people in the image, the one with the largest face first.",
    )
    model: Model
    request: str = Field(
        default_factory=request_id.current,
        description=f"The id of the request, as in the header `{request_id.HEADER}`.",
    )

    @classmethod
    def of(
        cls, estimate: MoodEstimate, model: ClassifierMetadata, people: Sequence[MoodEstimate] | None = None
    ) -> MoodResponse:
        """The response for an estimate.

        Args:
            estimate: Estimate for the largest face.
            model: Classifier.
            people: Estimates for all people; None if nobody asked for them.
        """
        return cls(
            **dict(Person.of(estimate)),
            faces=estimate.face_count,
            people=None if people is None else [Person.of(one) for one in people],
            model=Model(name=model.name, version=model.version, digest=model.digest),
        )


class FrameEstimate(BaseModel):
    """What a frame of a session shows by itself."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    mood: Mood = Field(description="The mood with the highest probability.")
    probabilities: Probabilities = Field(description="Probability of each mood; they sum to 1.")
    face: FaceBox
    faces: int = Field(ge=1, description="How many faces were looked at: 1 if the person was where they were before.")
    quality: Quality
    model: Model
    request: str = Field(
        default_factory=request_id.current,
        description="An id of the frame, by which a label that comes later is joined.",
    )
    face_id: int = Field(
        ge=1, description="Number of the person within the session. It says where the face went, not who it is."
    )

    @classmethod
    def of(cls, result: SessionEstimate, model: ClassifierMetadata) -> FrameEstimate:
        """The estimate of a session's frame."""
        return cls(
            **dict(Person.of(result.estimate)),
            faces=result.estimate.face_count,
            model=Model(name=model.name, version=model.version, digest=model.digest),
            face_id=result.face_id,
        )


def _answer(result: SessionEstimate, model: ClassifierMetadata) -> dict[str, Any]:
    """The members that the answers to a session's frames share."""
    return {
        "estimate": FrameEstimate.of(result, model),
        "mood": result.mood,
        "probabilities": result.probabilities,
    }


_TIME: Final[str] = "Time of the frame, in seconds."
_MOOD: Final[str] = "The mood now, given all frames until now; `estimate` has the frame's own."
_PROBABILITIES: Final[str] = "Probability of each mood now; they sum to 1."


class AnsweredFrame(BaseModel):
    """A frame with an answer."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    status: Literal[200] = 200
    time: float = Field(description=_TIME)
    estimate: FrameEstimate
    mood: Mood = Field(description=_MOOD)
    probabilities: Probabilities = Field(description=_PROBABILITIES)

    @classmethod
    def of(cls, time: float, result: SessionEstimate, model: ClassifierMetadata) -> AnsweredFrame:
        """The answer to a session's frame."""
        return cls(time=time, **_answer(result, model))


class FailedFrame(BaseModel):
    """A frame without an answer, which does not spoil the others."""

    status: int = Field(ge=400, le=599, description="What the status would be if the frame had been sent alone.")
    time: float = Field(description=_TIME)
    problem: Problem


class FramesResponse(BaseModel):
    """The frames of a session, in order, and the session up to their end."""

    frames: list[AnsweredFrame | FailedFrame]
    session: str = Field(
        max_length=4_000,
        description="What the session is up to now: boxes, counts and sums, no pixels. Send it with the next frames.",
    )
    summary: Summary


_NUMBER: Final[str] = "Number of the message, from 0."
_ELAPSED: Final[str] = "Time of its arrival, in seconds since the first one's."


class LiveAnswer(BaseModel):
    """The reply to a message with an image."""

    frame: int = Field(ge=0, description=_NUMBER)
    time: float = Field(ge=0, description=_ELAPSED)
    estimate: FrameEstimate
    mood: Mood = Field(description=_MOOD)
    probabilities: Probabilities = Field(description=_PROBABILITIES)


class LiveProblem(BaseModel):
    """The reply to a message with an image that was not answered; the session goes on."""

    frame: int = Field(ge=0, description=_NUMBER)
    time: float = Field(ge=0, description=_ELAPSED)
    problem: Problem


class LiveEnd(BaseModel):
    """The text message with which a client ends a session."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["end"]


class LiveResume(BaseModel):
    """The text message, before all frames, with which a client goes on with an earlier session."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["resume"]
    session: str = Field(max_length=4_000, description="`session` of the earlier one's last message.")


class LiveSummary(BaseModel):
    """The last message of a session that its client has ended, or whose worker stops."""

    summary: Summary
    session: str = Field(
        max_length=4_000, description="See `FramesResponse`; it is continued there, or by `LiveResume`."
    )
