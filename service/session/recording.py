"""A session that is played back frame by frame on the command line, and what is kept of it: numbers, no images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from service.classifier import ClassifierMetadata
from service.errors import MeaaError, NoFaceError
from service.parameters import DEFAULT_STEP
from service.session.engine import Session, SessionEstimate
from service.session.sources import Still
from service.session.summary import MAX_STEP, Summary


@dataclass(frozen=True)
class Take:
    """A frame that was taken in.

    Attributes:
        time: Time of the frame, in seconds.
        outcome: What the frame says about the person, or why it says nothing.
    """

    time: float
    outcome: SessionEstimate | MeaaError

    @property
    def estimate(self) -> SessionEstimate | None:
        """What the frame says about the person; None if it says nothing."""
        return self.outcome if isinstance(self.outcome, SessionEstimate) else None


@dataclass(frozen=True)
class Recording:
    """A session after its last frame.

    Attributes:
        takes: Its frames, in order of time.
        summary: Its summary.
        session: Random id of the session.
        state: State after the last frame as text, with which the session can go on.
        model: Classifier.
    """

    takes: list[Take]
    summary: Summary
    session: str
    state: str
    model: ClassifierMetadata

    def spans(self) -> Iterator[tuple[float, float, SessionEstimate | None]]:
        """What is known when: start and end in seconds, with the frame that stands for that time.

        As in the summary a frame stands for the time until the next one, `MAX_STEP` at most. None is said of a gap, and
        of a frame without an answer.
        """
        times = [take.time for take in self.takes]
        ends = [*times[1:], times[-1] + min(self._last_step(), MAX_STEP)] if times else []
        for take, end in zip(self.takes, ends, strict=True):
            stands = min(end, take.time + MAX_STEP)
            yield take.time, stands, take.estimate
            if stands < end:
                yield stands, end, None

    def _last_step(self) -> float:
        steps = [later.time - earlier.time for earlier, later in pairwise(self.takes)]
        return steps[-1] if steps else DEFAULT_STEP


def play(
    session: Session, stills: Iterable[Still], model: ClassifierMetadata, tell: Callable[[float], None]
) -> Recording:
    """Take the images of a source into a session, one after the other.

    Args:
        session: New session.
        stills: Images, in order of time.
        model: Classifier of the session.
        tell: Function that gets the time of each frame, in seconds, after it was taken in.

    Raises:
        SourceError: The source cannot be read.
    """
    takes: list[Take] = []
    for still in stills:
        takes.append(Take(still.time, _outcome(session, still)))
        tell(still.time)
    summary = session.summary()
    return Recording(takes, summary, session.state.session, session.state.encode(), model)


def _outcome(session: Session, still: Still) -> SessionEstimate | MeaaError:
    try:
        return session.take(still.load(session.working_side()), still.time)
    except MeaaError as error:
        if not isinstance(error, NoFaceError):  # of which the session knows
            session.miss(still.time)
        return type(error)(str(error))  # the one that was raised holds the image by its traceback
