"""Which face is which, from frame to frame, by the overlap and the motion of boxes alone: numbers, no recognition."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from service.detector import Face
from service.faces import overlap

_LEAST_OVERLAP: Final[float] = 0.2
"""Least intersection over union of a face with the place where it is expected."""

_FORGET_SECONDS: Final[float] = 3.0
"""Time after which a face that was not found again has gone; a face at the same place later is another one."""

_SUBJECT_SECONDS: Final[float] = 30.0
"""The same for the subject, who may turn away for a moment."""

_HOME_SECONDS: Final[float] = 10.0
"""Time after a sudden move in which somebody who appears at the place before it is the subject again."""

_SAME_PLACE: Final[float] = 0.5
"""Least intersection over union of two boxes at one place. A face that overlaps less with the place where it is
expected has moved suddenly."""

_MOST: Final[int] = 16
"""Most faces that are followed at once."""

_SMOOTHING: Final[float] = 0.5
"""Weight of the latest step in a face's velocity."""


@dataclass(frozen=True)
class Track:
    """A face that is followed.

    Attributes:
        number: Number of the person within the session, from 1.
        face: Latest box, in pixels of the upright image.
        time: Time of that box, in seconds.
        velocity: Motion of the box's centre, in its widths a second, to the right and down.
    """

    number: int
    face: Face
    time: float
    velocity: tuple[float, float] = (0.0, 0.0)

    def expected(self, time: float) -> Face:
        """The box where the face is expected at a time."""
        seconds = min(time - self.time, 0.5)  # nobody moves on for long
        x, y = (round(speed * seconds * self.face.width) for speed in self.velocity)
        return replace(self.face, x=self.face.x + x, y=self.face.y + y)

    def moved(self, face: Face, time: float) -> Track:
        """The track with a further box."""
        seconds = max(time - self.time, 1e-3)
        steps = (_centre(face)[axis] - _centre(self.face)[axis] for axis in (0, 1))
        x, y = (
            (1 - _SMOOTHING) * old + _SMOOTHING * max(-3.0, min(3.0, step / self.face.width / seconds))
            for old, step in zip(self.velocity, steps, strict=True)
        )
        return Track(self.number, face, time, (x, y))


@dataclass(frozen=True)
class Tracker:
    """The faces of a session.

    Attributes:
        tracks: Faces that are followed.
        subject: Number of the person whose session this is: the largest face of the first frame with one, and again
            of the first frame after this person was away for half a minute. None until then.
        last: Highest number given.
        home: Track of the subject before its latest sudden move. Somebody who passes in front hides the subject's face
            and takes its number along; the subject is known again by this place. None if there was no such move in the
            last seconds.
    """

    tracks: tuple[Track, ...] = ()
    subject: int | None = None
    last: int = 0
    home: Track | None = None

    def of_subject(self) -> Track | None:
        """The subject's track; None if the subject has not appeared yet, or is away for long."""
        return next((track for track in self.tracks if track.number == self.subject), None)

    def follow(self, faces: Sequence[Face], time: float) -> tuple[Tracker, list[int]]:
        """Recognise the faces of a frame by their places.

        Args:
            faces: Faces of the frame, in pixels of the upright image.
            time: Time of the frame, in seconds.

        Returns:
            The tracker after the frame, and each face's number, in the order of the faces.
        """
        alive = [track for track in self.tracks if time - track.time <= self._patience(track)]
        before = next((track for track in alive if track.number == self.subject), None)
        subject, last = None if before is None else before.number, self.last
        found = _matched(alive, faces, time)
        home = self._home(before, found.values(), time)
        for index in sorted(set(range(len(faces))) - set(found), key=lambda index: -_area(faces[index])):
            holder = next((place for place, track in found.items() if track.number == subject), None)
            if home is not None and _is_back(home, faces[index], None if holder is None else faces[holder]):
                if holder is not None:  # somebody else has carried the subject's number away
                    last += 1
                    found[holder] = replace(found[holder], number=last)
                number, home = home.number, None
            elif before is not None and holder is None and _may_return(before, faces[index], time):
                number, home = before.number, home or before
            else:
                number = last = last + 1
            found[index] = Track(number, faces[index], time)
        numbers = [found[index].number for index in range(len(faces))]
        if subject is None and faces:
            subject = numbers[max(range(len(faces)), key=lambda index: _area(faces[index]))]
        lost = [track for track in alive if track.number not in numbers]
        kept = sorted((*found.values(), *lost), key=lambda track: (track.number != subject, -track.time, track.number))
        return Tracker(tuple(kept[:_MOST]), subject, last, home), numbers

    def _patience(self, track: Track) -> float:
        return _SUBJECT_SECONDS if track.number == self.subject else _FORGET_SECONDS

    def _home(self, before: Track | None, found: Iterable[Track], time: float) -> Track | None:
        """See `home`, after the frame's faces were matched.

        Args:
            before: Track of the subject before the frame; None if there is none.
            found: Tracks of the faces that were matched.
            time: Time of the frame, in seconds.
        """
        if before is None:
            return None
        if self.home is not None and time - self.home.time <= _HOME_SECONDS:
            return self.home
        place = before.expected(time)
        sudden = any(one.number == before.number and overlap(place, one.face) < _SAME_PLACE for one in found)
        return before if sudden else None


def _matched(tracks: Sequence[Track], faces: Sequence[Face], time: float) -> dict[int, Track]:
    """The tracks that go on with a face, by the face's index: each with the one that lies nearest to its place."""
    pairs = sorted(
        ((overlap(track.expected(time), face), index, track) for track in tracks for index, face in enumerate(faces)),
        key=lambda pair: (-pair[0], pair[1], pair[2].number),
    )
    found: dict[int, Track] = {}
    taken: set[int] = set()
    for similarity, index, track in pairs:
        if similarity >= _LEAST_OVERLAP and index not in found and track.number not in taken:
            found[index] = track.moved(faces[index], time)
            taken.add(track.number)
    return found


def _is_back(home: Track, face: Face, holder: Face | None) -> bool:
    """Whether a face that matches no track is the subject, seen again at the place before a sudden move.

    Args:
        home: See `Tracker.home`.
        face: The face.
        holder: Face that has the subject's number now; None if there is none.
    """
    left = holder is None or overlap(home.face, holder) < _LEAST_OVERLAP
    return left and overlap(home.face, face) >= _SAME_PLACE


def _may_return(lost: Track, face: Face, time: float) -> bool:
    """Whether a face that matches no track may be the subject, who was lost: it is as large, and not far away."""
    size = math.sqrt(_area(face) / max(1.0, _area(lost.face)))
    x, y = (abs(_centre(face)[axis] - _centre(lost.face)[axis]) / lost.face.width for axis in (0, 1))
    return time - lost.time > 0.2 and 0.6 < size < 1.7 and math.hypot(x, y) < 1.5


def _area(face: Face) -> float:
    return float(face.width * face.height)


def _centre(face: Face) -> tuple[float, float]:
    return face.x + face.width / 2, face.y + face.height / 2
