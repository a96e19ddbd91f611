"""Sequences of frames, played through the service's own session, and what it says about each frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from benchmarks.sessions.camera import Jitter, Motion, Scene
from benchmarks.sessions.people import Photo
from service import images
from service.detector import Face
from service.errors import NoFaceError
from service.estimator import MoodEstimator
from service.images import Frame
from service.moods import MOODS
from service.session.engine import Session
from service.session.mood_filter import FilterSettings


@dataclass(frozen=True)
class Part:
    """A photo that is before the camera for a time.

    Attributes:
        photo: The photo.
        start: Time at which it appears, in seconds.
    """

    photo: Photo
    start: float


@dataclass(frozen=True)
class Script:
    """What is before the camera when.

    Attributes:
        parts: Photos, in order of time; the first one from 0 on.
        times: Times of the frames, in seconds, rising from 0.
        seed: Seed of the camera's draws.
    """

    parts: tuple[Part, ...]
    times: tuple[float, ...]
    seed: int

    @property
    def part(self) -> NDArray[np.int64]:
        """Index of the part that each frame shows, int64 (n,)."""
        starts = [part.start for part in self.parts]
        return np.searchsorted(starts, self.times, side="right") - 1

    @property
    def moods(self) -> NDArray[np.int64]:
        """Index of the mood that each frame shows, int64 (n,)."""
        return np.array([part.photo.mood for part in self.parts], np.int64)[self.part]

    def frames(self, jitter: Jitter) -> Iterator[bytes]:
        """The frames as JPEG files."""
        random = np.random.default_rng(self.seed)
        motion, part = Motion.draw(self.times, jitter, random), self.part
        for index, shown in enumerate(self.parts):
            now = part == index
            if now.any():
                own = Motion(motion.x[now], motion.y[now], motion.scale[now], motion.light[now])
                yield from Scene(shown.photo.data, shown.photo.face).frames(own, jitter, random)


@dataclass(frozen=True)
class Answers:
    """What a session says about the n frames of a sequence.

    Attributes:
        times: Times of the frames, in seconds, float64 (n,).
        own: Each frame's own probabilities, float64 (n, 4); NaN if the person was not found.
        shown: Index of the mood that the session shows, given all frames until then, int64 (n,); -1 if the person was
            not found.
        reliable: Whether the frame's own estimate is called reliable, bool (n,).
        faces: Where the person's face is, in pixels of the frame; None if it was not found.
        subjects: Number of the person within the session; 0 if it was not found.
    """

    times: NDArray[np.float64]
    own: NDArray[np.float64]
    shown: NDArray[np.int64]
    reliable: NDArray[np.bool_]
    faces: tuple[Face | None, ...]
    subjects: NDArray[np.int64]

    @property
    def answered(self) -> NDArray[np.bool_]:
        """In which frames the person was found, bool (n,)."""
        return self.shown >= 0

    @property
    def own_moods(self) -> NDArray[np.int64]:
        """Index of each frame's own mood, int64 (n,); -1 if the person was not found."""
        return np.where(self.answered, np.nan_to_num(self.own).argmax(axis=1), -1)

    def longest_gap(self) -> float:
        """Longest time without the person between two frames that show it, in seconds; from the first frame on, and to
        the last."""
        seen = self.times[self.answered]
        edges = [self.times[0], *seen, self.times[-1]]
        return float(max(later - earlier for earlier, later in pairwise(edges)))


def play(
    estimator: MoodEstimator, settings: FilterSettings, frames: Iterable[bytes | Frame], times: Sequence[float]
) -> Answers:
    """Take frames into a new session, as the endpoints do.

    Args:
        estimator: Detector, classifier and rule of reliability.
        settings: Parameters of the mood filter.
        frames: Image files, or frames that are decoded already.
        times: Their times, in seconds, rising.
    """
    session = Session(estimator, settings)
    own = np.full((len(times), len(MOODS)), np.nan)
    shown, subjects = np.full(len(times), -1, np.int64), np.zeros(len(times), np.int64)
    reliable = np.zeros(len(times), bool)
    faces: list[Face | None] = [None] * len(times)
    for index, (data, time) in enumerate(zip(frames, times, strict=True)):
        frame = data if isinstance(data, Frame) else images.decode_frame(data, working_side=session.working_side())
        try:
            taken = session.take(frame, float(time))
        except NoFaceError:
            continue
        own[index] = [taken.estimate.probabilities[mood] for mood in MOODS]
        shown[index], subjects[index] = MOODS.index(taken.mood), taken.face_id
        reliable[index], faces[index] = taken.estimate.quality.reliable, taken.estimate.face
    return Answers(np.asarray(times, np.float64), own, shown, reliable, tuple(faces), subjects)


@dataclass(frozen=True)
class Alone:
    """What the whole cascade says about a frame, as about a snapshot.

    Attributes:
        probabilities: Probabilities of the moods, float64 (4,).
        face: Largest face, in pixels of the frame.
    """

    probabilities: NDArray[np.float64]
    face: Face

    @property
    def mood(self) -> int:
        """Index of the most probable mood."""
        return int(self.probabilities.argmax())

    @property
    def margin(self) -> float:
        """How far the most probable mood is ahead of the next one, in probability."""
        second, first = np.sort(self.probabilities)[-2:]
        return float(first - second)


def search(estimator: MoodEstimator, frames: Iterable[bytes | Frame]) -> list[Alone | None]:
    """What the whole cascade says about each frame; None if it finds no face."""
    found: list[Alone | None] = []
    for data in frames:
        side = estimator.detector.settings.working_side
        frame = data if isinstance(data, Frame) else images.decode_frame(data, working_side=side)
        try:
            estimate = estimator.estimate_frame(frame)
        except NoFaceError:
            found.append(None)
        else:
            probabilities = np.array([estimate.probabilities[mood] for mood in MOODS])
            found.append(Alone(probabilities, estimate.face))
    return found
