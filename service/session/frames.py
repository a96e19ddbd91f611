"""`POST /upload-meaa-frames`: several frames of a session, which the client keeps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

from service.errors import OverloadedError
from service.parameters import read_times
from service.schema import AnsweredFrame, FailedFrame, FramesResponse
from service.session.state import State
from service.upload import Frames

if TYPE_CHECKING:
    from service.processing import Processing

_PATIENCE: Final[float] = 30.0
"""Time after which the frames that are left are refused, in seconds: BentoML cancels a request after a minute."""


async def take(sent: Frames, processing: Processing, given_up: Callable[[], Awaitable[bool]]) -> FramesResponse | None:
    """Take frames into a session. Each waits for its own turn, so that snapshots come between.

    Args:
        sent: What the request carries; its images are given up one by one.
        processing: The worker's estimator and queues.
        given_up: See `service.admission.Admission.run`.

    Returns:
        The response; None if nobody waits for it any more.

    Raises:
        InvalidParameterError: The times or the session cannot be read.
    """
    state = State.decode(sent.session) if sent.session else None
    latest = state.summary.last if state is not None and state.summary.first is not None else None
    times = read_times(sent.times, len(sent.images), latest)
    session = processing.session(state)
    frames: list[AnsweredFrame | FailedFrame] = []
    started = monotonic()
    sent.images.reverse()
    for time in times:
        image = sent.images.pop()
        if monotonic() - started > _PATIENCE:
            late = OverloadedError("The frames before this one took too long. Send fewer at once, and smaller ones.")
            frame: AnsweredFrame | FailedFrame | None = processing.refuse(session, time, late)
        else:
            frame = await processing.frame(session, image, time, given_up)
        if frame is None:
            return None
        frames.append(frame)
    return FramesResponse(frames=frames, session=session.state.encode(), summary=session.summary())
