"""`GET /meaa-session`: a session over a WebSocket, frame by frame."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.websockets import WebSocket, WebSocketDisconnect

from service import logs, problems, security_headers
from service.access import check_handshake
from service.errors import MeaaError, OverloadedError
from service.schema import SUBPROTOCOL, AnsweredFrame, FailedFrame, LiveAnswer, LiveEnd, LiveProblem, LiveSummary
from service.session.engine import Session
from service.settings import Settings
from service.websocket_protocol import ARRIVAL, DROPPED, GOING_AWAY, GONE, POLICY_VIOLATION

if TYPE_CHECKING:
    from service.processing import Processing

_MAX_TEXT: Final[int] = 1_000
"""Longest text message, in characters."""

_BURST_SECONDS: Final[float] = 5.0
"""Time over which the rate is averaged, in seconds: what a line held up arrives at once."""

_NORMAL: Final[int] = 1000
_FAULT: Final[int] = 1011
_TRY_AGAIN_LATER: Final[int] = 1013

_logger = logging.getLogger(__name__)


class Rate:
    """A token bucket: so many events a second, and some seconds' worth of them at once."""

    def __init__(self, per_second: float, now: float) -> None:
        """A full bucket.

        Args:
            per_second: Events that are allowed in a second.
            now: Time now, in seconds.
        """
        self._per_second = per_second
        self._most = max(1.0, per_second * _BURST_SECONDS)
        self._left = self._most
        self._time = now

    def allows(self, now: float) -> bool:
        """Count an event; whether it is allowed."""
        self._left = min(self._most, self._left + (now - self._time) * self._per_second)
        self._time = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


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
        try:
            await websocket.accept(subprotocol=SUBPROTOCOL)
            if self._open >= self._settings.max_sessions:
                await websocket.close(_TRY_AGAIN_LATER, "too many sessions")
                return
            self._open += 1
            try:
                await websocket.close(*await self._run(websocket))
            finally:
                self._open -= 1
        except WebSocketDisconnect:
            pass  # by the client, or by the protocol, which has told the client why
        except Exception as error:
            # Not its message, which may quote the data that was being read.
            _logger.error("A session failed: %s", logs.kind_and_place(error))
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it is closed already
                await websocket.close(_FAULT, "the service failed")

    async def _run(self, websocket: WebSocket) -> tuple[int, str]:
        """Reply to messages; the code and the reason of the close.

        Raises:
            WebSocketDisconnect: The connection is lost.
        """
        clock = asyncio.get_running_loop().time
        session, rate = self._processing.session(), Rate(self._settings.session_rate, clock())
        given_up = _given_up(websocket)
        end, number, first = clock() + self._settings.session_seconds, 0, None
        while True:
            silence = min(self._settings.session_idle_seconds, max(0.0, end - clock()))
            try:
                async with asyncio.timeout(silence):
                    message = await websocket.receive()
            except TimeoutError:
                return GOING_AWAY, "the session has become too long" if clock() >= end else "the session was idle"
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            data = message.get("bytes")
            if data is None:
                if not _ends(message["text"]):
                    return POLICY_VIOLATION, 'the only text message is {"type": "end"}'
                await _send(websocket, LiveSummary(summary=session.summary()))
                return _NORMAL, ""
            if not rate.allows(clock()):
                return POLICY_VIOLATION, f"more than {self._settings.session_rate:g} frames a second"
            arrival = message.get(ARRIVAL, clock())
            first = arrival if first is None else first
            dropped = message.get(DROPPED, False)
            del message
            reply = await self._reply(session, data, round(arrival - first, 3), given_up, dropped=dropped)
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


def _ends(text: str) -> bool:
    """Whether a text message ends the session."""
    try:
        return len(text) <= _MAX_TEXT and LiveEnd.model_validate(json.loads(text)).type == "end"
    except (ValueError, RecursionError, ValidationError):
        return False


def _given_up(websocket: WebSocket) -> Callable[[], Awaitable[bool]]:
    """A function that tells whether the client is gone, as far as the protocol tells."""
    is_gone = websocket.scope.get("extensions", {}).get(GONE, {}).get("is_gone", lambda: False)

    async def given_up() -> bool:
        return bool(is_gone())

    return given_up


def upgrade_required() -> problems.ProblemResponse:
    """The response to a request that is no handshake."""
    return problems.ProblemResponse(
        problems.from_status(HTTPStatus.UPGRADE_REQUIRED), {"Upgrade": "websocket", "Connection": "Upgrade"}
    )
