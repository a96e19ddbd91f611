"""The session's path beside the whole cascade, frame by frame, on jittered stills of held-out people.

Both get the same frames. The session looks for the face where it was, and searches the whole frame once a second; the
cascade searches every frame, as a snapshot is searched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.sessions.camera import Jitter
from benchmarks.sessions.measures import Played
from benchmarks.sessions.sequences import Alone, Answers, Script, play, search
from service.estimator import MoodEstimator
from service.faces import overlap
from service.images import Frame
from service.session.mood_filter import FilterSettings


@dataclass(frozen=True)
class Comparison:
    """Answers of a session beside those of the cascade about the same frames.

    Attributes:
        answers: The session's.
        alone: The cascade's about each frame by itself; None if it finds no face.
    """

    answers: Answers
    alone: list[Alone | None]

    def both(self) -> list[int]:
        """Indices of the frames in which both find a face."""
        return [index for index, one in enumerate(self.alone) if one is not None and self.answers.answered[index]]

    def only(self, *, session: bool) -> int:
        """Number of frames in which only the session, or only the cascade, finds a face."""
        pairs = zip(self.answers.answered.tolist(), self.alone, strict=True)
        return sum(found is session and (one is None) is session for found, one in pairs)

    def same_mood(self, index: int) -> bool:
        """Whether both give a frame the same mood; it has a face for both."""
        one = self.alone[index]
        return one is not None and one.mood == self.answers.own_moods[index]

    def overlap(self, index: int) -> float:
        """Intersection over union of the boxes in a frame that has a face for both."""
        one, face = self.alone[index], self.answers.faces[index]
        return overlap(one.face, face) if one is not None and face is not None else 0.0


def compare(
    estimator: MoodEstimator, settings: FilterSettings, frames: Sequence[bytes | Frame], times: Sequence[float]
) -> Comparison:
    """Both paths on the same frames; `frames` are image files, or decoded, at rising `times` in seconds."""
    return Comparison(play(estimator, settings, frames, times), search(estimator, frames))


def measure(
    estimator: MoodEstimator, settings: FilterSettings, scripts: Sequence[Script], jitter: Jitter
) -> tuple[dict[str, Any], list[Played]]:
    """Agreement of session and cascade, and the sequences."""
    found = [compare(estimator, settings, list(script.frames(jitter)), script.times) for script in scripts]
    played = [Played(script, one.answers) for script, one in zip(scripts, found, strict=True)]
    return agreement(found), played


def agreement(found: Sequence[Comparison]) -> dict[str, Any]:
    """Agreement over some sequences. A frame in which only one of the two finds the face counts as another mood."""
    pairs = [(one, index) for one in found for index in one.both()]
    other = [(one, index) for one, index in pairs if not one.same_mood(index)]
    session_only = sum(one.only(session=True) for one in found)
    cascade_only = sum(one.only(session=False) for one in found)
    gaps = [one.answers.longest_gap() for one in found]
    margins = [_margin(one, index) for one, index in other]
    overlaps = [one.overlap(index) for one, index in pairs]
    return {
        "sequences": len(found),
        "frames": sum(len(one.alone) for one in found),
        "frames_with_a_face": len(pairs) + session_only + cascade_only,
        "session_only": session_only,
        "cascade_only": cascade_only,
        "same_mood": _rounded((len(pairs) - len(other)) / max(1, len(pairs) + session_only + cascade_only)),
        "median_iou": _rounded(float(np.median(overlaps))) if overlaps else None,
        "longest_gap": round(max(gaps), 3),
        "lost": sum(gap > 1.0 for gap in gaps),
        "renumbered": sum(len(set(one.answers.subjects[one.answers.answered].tolist())) > 1 for one in found),
        "other_mood": {
            "frames": len(other),
            "sequences": len({id(one) for one, _ in other}),
            "median_margin": _rounded(float(np.median(margins))) if margins else None,
        },
    }


def _margin(one: Comparison, index: int) -> float:
    """How far the cascade's most probable mood is ahead of the next one, in probability."""
    alone = one.alone[index]
    return 0.0 if alone is None else alone.margin


def _rounded(value: float) -> float:
    return round(value, 4)
