"""The state of a session as text that a client keeps between two requests: the service keeps nothing."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import zlib
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from service.detector import Face
from service.errors import InvalidParameterError
from service.session.summary import Accumulator
from service.session.tracker import Track, Tracker

MAX_CHARACTERS: Final[int] = 4_000
"""Longest text of a state."""

_MAX_JSON: Final[int] = 32_000  # bytes
_CHECKSUM: Final[int] = 8  # bytes

_FORMAT: Final[bytes] = b"1"
"""What a text begins with. It changes with the meaning of a member. A member that is new needs a default, and is
ignored by earlier releases: replicas of two releases can share a session."""

_LARGEST: Final[float] = 1e12
"""Largest number in a state; times in seconds since 1970 have ten digits."""

Whole = Annotated[int, Field(ge=-100_000, le=100_000)]
Side = Annotated[int, Field(ge=1, le=100_000)]
Number = Annotated[int, Field(ge=1, le=1_000_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Speed = Annotated[float, Field(ge=-3, le=3)]


class Place(BaseModel):
    """A track of `service.session.tracker`."""

    number: Number
    box: tuple[Whole, Whole, Side, Side]
    confidence: Share
    time: float
    velocity: tuple[Speed, Speed]

    @classmethod
    def of(cls, track: Track) -> Self:
        """The place of a track."""
        face = track.face
        box = (face.x, face.y, face.width, face.height)
        return cls(number=track.number, box=box, confidence=face.confidence, time=track.time, velocity=track.velocity)

    def track(self) -> Track:
        """The track."""
        return Track(self.number, Face(*self.box, confidence=self.confidence), self.time, self.velocity)


class State(BaseModel):
    """Everything that a session keeps from one frame to the next.

    Attributes:
        session: Random id of the session.
        probabilities: Probabilities of the mood filter; None before the first answered frame.
        time: Time of the mood filter.
        frame: Width and height of the latest frame with a face, in pixels; None before it.
        searched: Time of the last search of a whole frame for faces, in seconds; None if there was none.
        places: Tracks of the faces.
        home: See `service.session.tracker.Tracker`.
        subject: Number of the subject.
        last: Highest number of a face.
        summary: What the summary is made from.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    session: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    probabilities: tuple[Share, Share, Share, Share] | None = None
    time: float | None = None
    frame: tuple[Side, Side] | None = None
    searched: float | None = None
    places: Annotated[list[Place], Field(max_length=16)] = []
    home: Place | None = None
    subject: Number | None = None
    last: Annotated[int, Field(ge=0, le=1_000_000)] = 0  # far below the largest `Number`: the next frames add to it
    summary: Accumulator = Accumulator()

    @field_validator("probabilities")
    @classmethod
    def _sum_to_one(cls, values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if values is not None and abs(sum(values) - 1) > 0.01:
            raise ValueError("probabilities sum to 1")
        return values

    @model_validator(mode="after")
    def _can_be_summed_up(self) -> Self:
        """Check the sums, which belong together in more ways than their types say."""
        sums = self.summary
        if sums.first is not None and not 0 <= sums.first <= sums.last:
            raise ValueError("time begins at 0 or later, and does not run backwards")
        if not sums.reliable <= sums.answered <= sums.frames:
            raise ValueError("a part has not more frames than the whole")
        try:
            sums.summary(1.0)
        except (ArithmeticError, ValidationError):
            raise ValueError("the sums do not belong together") from None
        return self

    @property
    def tracker(self) -> Tracker:
        """The tracker."""
        home = None if self.home is None else self.home.track()
        return Tracker(tuple(place.track() for place in self.places), self.subject, self.last, home)

    @tracker.setter
    def tracker(self, tracker: Tracker) -> None:
        self.places = [Place.of(track) for track in tracker.tracks]
        self.home = None if tracker.home is None else Place.of(tracker.home)
        self.subject, self.last = tracker.subject, tracker.last

    def encode(self) -> str:
        """The state as text, of at most `MAX_CHARACTERS`: without the oldest episodes if it would be longer."""
        document = json.loads(self.model_dump_json(), parse_float=lambda number: round(float(number), 5))
        while True:
            packed = zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 9)
            text = base64.urlsafe_b64encode(_FORMAT + _checksum(packed) + packed).decode().rstrip("=")
            if len(text) <= MAX_CHARACTERS:
                return text
            episodes = document["summary"]["episodes"]
            del episodes[: len(episodes) // 8 + 1]

    @classmethod
    def decode(cls, text: str) -> State:
        """The state that `encode` wrote.

        Raises:
            InvalidParameterError: The text is none, or was damaged on its way.
        """
        damaged = InvalidParameterError(
            "The session cannot be read: send the text that the response before carried, unchanged, or none."
        )
        if len(text) > MAX_CHARACTERS:
            raise damaged
        try:
            data = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
            packed = data[len(_FORMAT) + _CHECKSUM :]
            if data[: len(_FORMAT) + _CHECKSUM] != _FORMAT + _checksum(packed):
                raise damaged
            inflated = zlib.decompressobj().decompress(packed, _MAX_JSON)
            if not _within_bounds(document := json.loads(inflated)):
                raise damaged
            return cls.model_validate(document)
        except (binascii.Error, zlib.error, ValueError, RecursionError):  # the others are kinds of ValueError
            raise damaged from None


def _within_bounds(value: Any) -> bool:
    """Whether all numbers in a document are small enough to be calculated with, whoever made them up."""
    if isinstance(value, int | float):
        return abs(value) <= _LARGEST  # False for NaN
    if isinstance(value, list | dict):
        return all(map(_within_bounds, value.values() if isinstance(value, dict) else value))
    return True


def _checksum(packed: bytes) -> bytes:
    """Against damage, not against forgery: who forges a state deceives only himself."""
    return hashlib.blake2b(packed, digest_size=_CHECKSUM).digest()
