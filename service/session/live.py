"""`GET /meaa-session`: a session over a WebSocket, frame by frame."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.websockets import WebSocket, WebSocketDisconnect

from service import logs, metrics, problems, security_headers
from service.access import check_handshake
from service.admission import Rate
from service.errors import InvalidParameterError, MeaaError, OverloadedError
from service.parameters import DEFAULT_STEP
from service.schema import (
    SUBPROTOCOL,
    AnsweredFrame,
    FailedFrame,
    LiveAnswer,
    LiveEnd,
    LiveProblem,
    LiveResume,
    LiveSummary,
)
from service.session.engine import Session
from service.session.state import State
from service.settings import Settings
from service.websocket_protocol import (
    ARRIVAL,
    DROPPED,
    GOING_AWAY,
    GONE,
    POLICY_VIOLATION,
    SERVICE_RESTART,
    STOPPING,
    TOO_BIG,
)

if TYPE_CHECKING:
    from service.processing import Processing

_NORMAL: Final[int] = 1000
_FAULT: Final[int] = 1011
_TRY_AGAIN_LATER: Final[int] = 1013
_LEFT: Final[int] = 1005

_BY_PROTOCOL: Final = (1002, 1007, POLICY_VIOLATION, TOO_BIG, _FAULT, SERVICE_RESTART)
"""Codes with which `service.websocket_protocol` closes."""

CLOSES: Final = (_NORMAL, GOING_AWAY, *_BY_PROTOCOL, _TRY_AGAIN_LATER, _LEFT)
"""Codes of `service.metrics.SESSION_ENDS`: those with which the service closes, and that of a client that left."""

_TEXT: Final[TypeAdapter[LiveEnd | LiveResume]] = TypeAdapter(LiveEnd | LiveResume)

_logger = logging.getLogger(__name__)


class LiveSessions:
    """The live sessions of a worker."""

    def __init__(self, processing: Processing, settings: Settings) -> None:
        """None yet.

        Args:
            processing: The worker's estimator and queues.
            settings: Tokens, origins and limits.
        """
        self._processing = processing
        self._settings = settings
        self._open = 0

    async def serve(self, websocket: WebSocket) -> None:
        """A session from its handshake to its end."""
        try:
            check_handshake(websocket.headers, websocket.scope["subprotocols"], self._settings)
        except (MeaaError, HTTPException) as error:
            refusal = problems.respond(error)
            refusal.headers.update(security_headers.HEADERS)
            await websocket.send_denial_response(refusal)
            return
        code = _LEFT
        try:
            await websocket.accept(subprotocol=SUBPROTOCOL)
            if self._open >= self._settings.max_sessions:
                code = _TRY_AGAIN_LATER
                await websocket.close(code, "too many sessions")
                return
            with self._opened():
                code, reason = await self._run(websocket)
                await websocket.close(code, reason)
        except WebSocketDisconnect as error:  # by the client, or by the protocol, which has told the client why
            code = error.code if error.code in _BY_PROTOCOL else code
        except Exception as error:
            code = _FAULT
            # Not its message, which may quote the data that was being read.
            _logger.error("A session failed: %s", logs.kind_and_place(error))
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it is closed already
                await websocket.close(code, "the service failed")
        finally:
            metrics.SESSION_ENDS.labels(code=code).inc()

    @contextlib.contextmanager
    def _opened(self) -> Iterator[None]:
        """Count a session as open."""
        self._open += 1
        metrics.SESSIONS_OPEN.inc()
        try:
            yield
        finally:
            self._open -= 1
            metrics.SESSIONS_OPEN.dec()
            self._processing.give_back()

    async def _run(self, websocket: WebSocket) -> tuple[int, str]:
        """Reply to messages; the code and the reason of the close.

        Raises:
            WebSocketDisconnect: The connection is lost.
        """
        clock = asyncio.get_running_loop().time
        session, rate = self._processing.session(), Rate(self._settings.session_rate, clock())
        given_up = _given_up(websocket)
        end, number, first, offset = clock() + self._settings.session_seconds, 0, None, 0.0
        while True:
            silence = min(self._settings.session_idle_seconds, max(0.0, end - clock()))
            try:
                async with asyncio.timeout(silence):
                    message = await websocket.receive()
            except TimeoutError:
                return GOING_AWAY, "the session has become too long" if clock() >= end else "the session was idle"
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            if message.get(STOPPING, False):
                await _send(websocket, _summary(session))
                return SERVICE_RESTART, "the worker stops"
            data = message.get("bytes")
            if data is None:
                text = _read_text(message["text"])
                if isinstance(text, LiveEnd):
                    await _send(websocket, _summary(session))
                    return _NORMAL, ""
                if text is None or session.state.summary.frames:
                    return POLICY_VIOLATION, 'text is {"type": "end"}, or, before all frames, {"type": "resume", ...}'
                try:
                    session = self._processing.session(State.decode(text.session))
                except InvalidParameterError:
                    return POLICY_VIOLATION, "the session cannot be read"
                known = session.state.summary
                offset = 0.0 if known.first is None else known.last + DEFAULT_STEP
                continue
            if not rate.allows(clock()):
                return POLICY_VIOLATION, f"more than {self._settings.session_rate:g} frames a second"
            arrival = message.get(ARRIVAL, clock())
            first = arrival if first is None else first
            dropped = message.get(DROPPED, False)
            del message
            reply = await self._reply(session, data, round(offset + arrival - first, 3), given_up, dropped=dropped)
            del data
            if reply is None:
                raise WebSocketDisconnect
            await _send(websocket, _numbered(reply, number))
            number += 1

    async def _reply(
        self, session: Session, data: bytes, time: float, given_up: Callable[[], Awaitable[bool]], *, dropped: bool
    ) -> AnsweredFrame | FailedFrame | None:
        """The answer to a frame; see `Processing.frame`."""
        if dropped:
            full = OverloadedError("Too many images are being received. Try again in a moment.")
            return self._processing.refuse(session, time, full)
        return await self._processing.frame(session, data, time, given_up)


def _numbered(reply: AnsweredFrame | FailedFrame, number: int) -> LiveAnswer | LiveProblem:
    """The reply to a message, from the frame's answer."""
    if isinstance(reply, FailedFrame):
        return LiveProblem(frame=number, time=reply.time, problem=reply.problem)
    members: Mapping[str, Any] = {name: value for name, value in dict(reply).items() if name != "status"}
    return LiveAnswer(frame=number, **members)


async def _send(websocket: WebSocket, message: BaseModel) -> None:
    await websocket.send_text(message.model_dump_json())


def _summary(session: Session) -> LiveSummary:
    """The last message of a session."""
    return LiveSummary(summary=session.summary(), session=session.state.encode())


def _read_text(text: str) -> LiveEnd | LiveResume | None:
    """A text message; None if it is none that there is."""
    try:
        return _TEXT.validate_python(json.loads(text))
    except (ValueError, RecursionError, ValidationError):
        return None


def _given_up(websocket: WebSocket) -> Callable[[], Awaitable[bool]]:
    """A function that tells whether the client is gone, as far as the protocol tells."""
    is_gone = websocket.scope.get("extensions", {}).get(GONE, {}).get("is_gone", lambda: False)

    async def given_up() -> bool:
        return bool(is_gone())

    return given_up


def upgrade_required() -> problems.ProblemResponse:
    """The response to a request that is no handshake."""
    return problems.ProblemResponse(
        problems.from_status(HTTPStatus.UPGRADE_REQUIRED),
        {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"},
    )
