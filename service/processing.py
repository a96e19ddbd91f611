"""What a worker does with an image: it waits for its turn, is looked at in a thread, and is counted and logged."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, Protocol, TypeVar

from service import logs, memory, metrics, problems, request_id
from service.admission import Admission
from service.classifier import ClassifierMetadata
from service.decoder import DecoderProcess, needs_process
from service.detector import Face
from service.errors import MeaaError, NoFaceError, OverloadedError
from service.estimator import Decoder, MoodEstimate, MoodEstimator, Stage, timed
from service.images import Frame, load, read_header
from service.markers import Header
from service.observation import reliability_of
from service.parameters import Options
from service.schema import AnsweredFrame, FailedFrame, MoodResponse
from service.session.engine import Session, SessionEstimate
from service.session.mood_filter import FilterSettings
from service.session.state import State
from service.settings import Settings

T = TypeVar("T")


class Recorder(Protocol):
    """A function that logs what came out of an image; see `service.prediction_log.record`."""

    def __call__(
        self,
        frame: Frame,
        estimate: MoodEstimate | None,
        *,
        model: ClassifierMetadata,
        seconds: float,
        session: str | None = None,
    ) -> None:
        """Log what came out."""


REFUSAL_PAUSE: Final[float] = 0.05
"""Seconds before an image is refused. The pause slows down clients that ignore `Retry-After`, which would otherwise
take CPU from accepted images: thirty such clients left a sixth of the capacity (measured)."""

_logger = logging.getLogger(__name__)


class Processing:
    """A worker's estimator, with the queues before it and the records after it. It is used from one event loop.

    Attributes:
        estimator: Detector and classifier.
        filter: Parameters of the mood filter of sessions.
    """

    def __init__(
        self,
        estimator: MoodEstimator,
        filter_settings: FilterSettings,
        settings: Settings,
        *,
        trimmer: memory.Trimmer,
        record: Recorder | None = None,
    ) -> None:
        """Nothing waits yet.

        Args:
            estimator: Detector and classifier.
            filter_settings: Parameters of the mood filter of sessions.
            settings: Limits on images and queues.
            trimmer: What gives memory back after large images.
            record: See `service.prediction_log.record`; None if there is no log.
        """
        self.estimator = estimator
        self.filter = filter_settings
        self._max_pixels = settings.max_pixels
        self._trimmer = trimmer
        self._log = record
        self._admission = Admission(threads=settings.threads, max_queue=settings.max_queue, max_wait=settings.max_wait)
        # One at a time, so that large images neither take the threads of small ones nor add up in memory.
        self._large = Admission(
            threads=1, max_queue=settings.max_queue, max_wait=settings.max_wait, expected=settings.decode_seconds / 4
        )
        self._decoder = DecoderProcess(settings.decode_seconds)

    def check(self) -> None:
        """Check whether one more image would be admitted now; to be called before an upload is read.

        Raises:
            OverloadedError: It would be refused.
        """
        self._admission.check()

    def read_header(self, data: bytes) -> Header:
        """The header of an image; it holds what counts of the data.

        Raises:
            MeaaError: See `service.images.read_header`.
        """
        return read_header(data, max_pixels=self._max_pixels)

    async def snapshot(
        self, header: Header, options: Options, given_up: Callable[[], Awaitable[bool]]
    ) -> MoodResponse | None:
        """The response to an image.

        Args:
            header: Header of the image.
            options: What the client asks for.
            given_up: See `service.admission.Admission.run`.

        Returns:
            The response; None if nobody waits for it any more.

        Raises:
            MeaaError: There is no mood to tell, or no time to look.
        """
        side = self.estimator.detector.settings.working_side
        return await self._take_turn(header, functools.partial(self._estimate, options), side, given_up)

    def give_back(self) -> None:
        """Give free memory back to the system soon: a session has ended."""
        self._trimmer.schedule()

    def session(self, state: State | None = None) -> Session:
        """A new session, or one that goes on from a state."""
        return Session(self.estimator, self.filter, state)

    async def frame(
        self, session: Session, data: bytes, moment: float, given_up: Callable[[], Awaitable[bool]]
    ) -> AnsweredFrame | FailedFrame | None:
        """The answer to a frame of a session, or why there is none. Each is counted as an upload is.

        Args:
            session: Session, which takes the frame in.
            data: Bytes of the image.
            moment: Time of the frame within the session, in seconds.
            given_up: See `service.admission.Admission.run`.

        Returns:
            The answer or the problem; None if nobody waits for it any more.
        """
        started, frames = time.perf_counter(), session.state.summary.frames
        result: metrics.FrameResult = "failed"
        with request_id.renewed():
            try:
                answer = await self._answer(session, data, moment, given_up)
            except MeaaError as error:
                problem = problems.describe(type(error), str(error))
                result = "lost" if isinstance(error, NoFaceError) else "failed"
                if isinstance(error, OverloadedError):
                    await asyncio.sleep(REFUSAL_PAUSE)
            except Exception as error:
                # Not its message, which may quote the data that was being read.
                _logger.error("A frame failed: %s (request %s)", logs.kind_and_place(error), request_id.current())
                problem = problems.from_status(HTTPStatus.INTERNAL_SERVER_ERROR)
            else:
                _count_frame("failed" if answer is None else "answered")
                _count_request(*((400, "disconnected") if answer is None else (200, "ok")), started)
                return answer
        if session.state.summary.frames == frames:  # the session has not heard of it
            session.miss(moment)
        _count_frame(result)
        _count_request(problem.status, problem.code, started)
        return FailedFrame(status=problem.status, time=moment, problem=problem)

    def refuse(self, session: Session, moment: float, error: MeaaError) -> FailedFrame:
        """The problem of a frame of a session that nobody looks at; it is counted."""
        started = time.perf_counter()
        with request_id.renewed():
            problem = problems.describe(type(error), str(error))
        session.miss(moment)
        _count_frame("failed")
        _count_request(problem.status, problem.code, started)
        return FailedFrame(status=problem.status, time=moment, problem=problem)

    async def _answer(
        self, session: Session, data: bytes, moment: float, given_up: Callable[[], Awaitable[bool]]
    ) -> AnsweredFrame | None:
        """See `frame`.

        Raises:
            MeaaError: There is no answer.
        """
        header = self.read_header(data)
        del data  # the header holds what counts of it
        work = functools.partial(self._follow, session, moment)
        result = await self._take_turn(header, work, session.working_side(), given_up)
        return None if result is None else AnsweredFrame.of(moment, result, self.estimator.classifier.metadata)

    async def _take_turn(
        self,
        header: Header,
        work: Callable[[Decoder], T],
        working_side: int | None,
        given_up: Callable[[], Awaitable[bool]],
    ) -> T | None:
        """Do work on an image, in a thread, when it is its turn; None if nobody waits for it any more.

        Args:
            header: Header of the image.
            work: Function from the image's decoder to the result.
            working_side: Shortest side, in pixels, to which the work will reduce the image.
            given_up: See `service.admission.Admission.run`.

        Raises:
            MeaaError: See `snapshot`.
        """
        if needs_process(header, working_side):
            by_process = functools.partial(work, functools.partial(self._decoder.load, header))
            try:
                return await self._large.run(by_process, given_up=given_up, stop=self._decoder.stop)
            finally:
                self._trimmer.schedule()
        return await self._admission.run(functools.partial(work, functools.partial(load, header)), given_up=given_up)

    def _estimate(self, options: Options, decode: Decoder) -> MoodResponse:
        """The response to an image: the part of a request that runs in a thread."""
        started, box = time.perf_counter(), options.box
        people = self.estimator.estimate_people(
            decode,
            most=options.people,
            hint=None if box is None else Face(box.x, box.y, box.width, box.height, confidence=1.0),
            observe=_observe,
            inspect=lambda frame, estimate: self._record(frame, estimate, started),
        )
        metrics.FACES.inc(people[0].face_count)
        for one in people:
            self._count(one)
        metadata = self.estimator.classifier.metadata
        return MoodResponse.of(people[0], metadata, None if options.people is None else people)

    def _follow(self, session: Session, moment: float, decode: Decoder) -> SessionEstimate:
        """A session's estimate of a frame: the part that runs in a thread.

        Raises:
            NoFaceError: See `Session.take`.
        """
        started = time.perf_counter()
        with timed("decode", _observe):
            frame = decode(session.working_side())
        try:
            result = session.take(frame, moment, observe=_observe)
        except MeaaError:
            self._record(frame, None, started, session.state.session)
            raise
        self._record(frame, result.estimate, started, session.state.session)
        metrics.FACES.inc(result.estimate.face_count)
        self._count(result.estimate)
        return result

    def _record(self, frame: Frame, estimate: MoodEstimate | None, started: float, session: str | None = None) -> None:
        """Log what came out, if there is a log."""
        if self._log is not None:
            seconds = time.perf_counter() - started
            self._log(frame, estimate, model=self.estimator.classifier.metadata, seconds=seconds, session=session)

    def _count(self, estimate: MoodEstimate) -> None:
        version = self.estimator.classifier.metadata.version
        metrics.PREDICTIONS.labels(mood=estimate.mood, model_version=version).inc()
        metrics.ANSWERS.labels(reliability=reliability_of(estimate.quality.reasons)).inc()


def _observe(stage: Stage, seconds: float) -> None:
    metrics.STAGE_DURATION.labels(stage=stage).observe(seconds)


def _count_frame(result: metrics.FrameResult) -> None:
    metrics.SESSION_FRAMES.labels(result=result).inc()


def _count_request(status: int, code: str, started: float) -> None:
    metrics.REQUESTS.labels(status=status, code=code).inc()
    metrics.DURATION.observe(time.perf_counter() - started)
