"""A session frame by frame: where the person's face is, its mood, and the mood over time.

A frame of a session costs a part of a snapshot. The face is looked for where it was; the whole cascade runs at the
start, when the face is not found there, and once a second for people who have come.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from service.detector import Face
from service.errors import NoFaceError
from service.estimator import MoodEstimate, MoodEstimator, Observer, timed
from service.images import Frame
from service.moods import MOODS
from service.session.intervals import balance
from service.session.mood_filter import FilterSettings, MoodFilter
from service.session.state import State
from service.session.summary import Summary

SEARCH_SECONDS: Final[float] = 1.0
"""Time after which a whole frame is searched again for faces."""

FACE_PIXELS: Final[int] = 128
"""Side, in pixels, that the known face may have after a frame has been reduced while it was decoded."""


@dataclass(frozen=True)
class SessionEstimate:
    """What a frame says about the person of a session.

    Attributes:
        estimate: The frame's own estimate.
        face_id: Number of the person within the session.
        mood: Mood now, given all frames.
        probabilities: Probability of each mood now, given all frames; in the order of `MOODS`.
    """

    estimate: MoodEstimate
    face_id: int
    mood: str
    probabilities: dict[str, float]


class Session:
    """The session of one person. It is used by one frame at a time.

    Attributes:
        state: State after the latest frame.
    """

    def __init__(self, estimator: MoodEstimator, settings: FilterSettings, state: State | None = None) -> None:
        """A new session, or one that goes on.

        Args:
            estimator: Detector and classifier.
            settings: Parameters of the mood filter.
            state: State after the frame before; None for a new session.
        """
        self._estimator = estimator
        self._settings = settings
        self.state = state or State(session=secrets.token_hex(16))
        self._filter = MoodFilter(settings, self.state.probabilities, self.state.time)

    def working_side(self) -> int | None:
        """Shortest side, in pixels, to which the next frame may be reduced while it is decoded."""
        side = self._estimator.detector.settings.working_side
        subject = self.state.tracker.of_subject()
        frame = self.state.frame
        if side is None or subject is None or frame is None:
            return side
        share = max(subject.face.width, subject.face.height) / min(frame)
        return min(side, max(1, round(FACE_PIXELS / share)))

    def take(self, frame: Frame, time: float, *, observe: Observer | None = None) -> SessionEstimate:
        """Take a frame in.

        Args:
            frame: Decoded frame.
            time: Time of the frame, in seconds, not before that of the latest frame.
            observe: See `MoodEstimator.estimate`.

        Raises:
            NoFaceError: The person whose session this is was not found. The frame counts as one without an answer.
        """
        with timed("detect", observe):
            found = self._find(frame, time)
        tracker, numbers = self.state.tracker.follow([frame.in_image(face) for face in found], time)
        self.state.tracker = tracker
        self.state.frame = (frame.width, frame.height)
        if tracker.subject not in numbers:
            self.miss(time)
            raise NoFaceError(
                f"No face was found in the {frame.width} x {frame.height} frame."
                if not found
                else "The frame shows other people than the one whose session this is."
            )
        with timed("classify", observe):
            face = found[numbers.index(tracker.subject)]
            estimate = self._estimator.classify(frame, face, face_count=len(found))
        own = [estimate.probabilities[mood] for mood in MOODS]
        reliable = estimate.quality.reliable
        now = self._filter.update(time, own, reliable=reliable)
        self.state.probabilities, self.state.time = tuple(now.tolist()), time
        mood = int(now.argmax())
        self.state.summary.add(
            time,
            mood=mood,
            probability=float(now[mood]),
            balance=own[MOODS.index("positive")] - own[MOODS.index("negative")],
            weight=1.0 if reliable else self._settings.unreliable_weight,
            reliable=reliable,
        )
        return SessionEstimate(estimate, tracker.subject, MOODS[mood], dict(zip(MOODS, now.tolist(), strict=True)))

    def miss(self, time: float) -> None:
        """A frame was not answered: it could not be decoded, or does not show the person."""
        self.state.summary.add(time, mood=None)

    def summary(self) -> Summary:
        """The summary of the session until now."""
        summary = self.state.summary.summary(self._settings.correlation_seconds)
        return summary.model_copy(update={"balance": balance(summary, self._settings.stay_seconds)})

    def _find(self, frame: Frame, time: float) -> list[Face]:
        """The faces of a frame, in its pixels: the subject alone if it is where it was and others are not due."""
        subject, searched = self.state.tracker.of_subject(), self.state.searched
        if subject is not None and searched is not None and 0 <= time - searched < SEARCH_SECONDS:
            face = self._estimator.detector.confirm(frame.pixels, frame.in_pixels(subject.expected(time)))
            if face is not None:
                return [face]
        self.state.searched = time
        return self._estimator.detector.detect(frame.pixels)
