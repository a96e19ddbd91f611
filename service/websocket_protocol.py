"""WebSockets as the service accepts them: uvicorn's protocol on wsproto, with limits on memory and time.

uvicorn chooses the protocol by what is installed, compresses (a few bytes may then become many), writes clients'
addresses to the log, holds any number of messages that arrive at once, and reads no more of a message that is too
large, which may cost the client the close code.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, ClassVar, Final

from uvicorn._types import ASGISendEvent, WebSocketEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.wsproto_impl import WebsocketBuffer, WSProtocol
from wsproto import events
from wsproto.connection import ConnectionState

from service.admission import Buffer
from service.connections import Connection
from service.errors import OverloadedError

GONE: Final[str] = "meaa.gone"
"""Extension of the scope: under `is_gone` a function that tells whether the connection is lost."""

DROPPED: Final[str] = "meaa.dropped"
"""Member of a received message: the worker had no room for its bytes, which are missing."""

ARRIVAL: Final[str] = "meaa.arrival"
"""Member of a received message: the event loop's time at which it was whole."""

MAX_WAITING: Final[int] = 64
"""Most messages that wait for the application."""

MAX_TEXT_BYTES: Final[int] = 4_000
"""Longest text message, in bytes. Texts need no room among the images."""

_CONNECTION_BYTES: Final[int] = 30_000
"""Memory of an open WebSocket beside its messages, in bytes (rounded up)."""

_STOP_SECONDS: Final[float] = 1.0
"""Time that a client has to answer the close of a worker that stops, in seconds."""

GOING_AWAY: Final[int] = 1001
POLICY_VIOLATION: Final[int] = 1008
TOO_BIG: Final[int] = 1009

_logger = logging.getLogger(__name__)
_logger.setLevel(logging.WARNING)  # uvicorn would tell at each handshake who has come


class WebSocketProtocol(WSProtocol):
    """A WebSocket.

    Attributes:
        max_bytes: Largest message, in bytes.
        seconds: Time that a message may take from its first byte to its last, in seconds.
        room: What bounds the bytes of all messages, and of all uploads, of the worker.
    """

    max_bytes: ClassVar[int]
    seconds: ClassVar[float]
    room: ClassVar[Buffer]
    transport: Connection

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.logger = _logger
        self.config.ws_per_message_deflate = False
        self.buffer = WebsocketBuffer(self.max_bytes)
        self.close_timeout = min(self.close_timeout, self.seconds)
        self._length = 0  # bytes of the message that is arriving
        self._arriving = 0  # those that are kept
        self._dropped = False  # whether there was no room for them
        self._waiting: list[int] = []  # bytes of the messages that the application has not taken yet
        self._taken = 0  # bytes of the message that it has taken last
        self._message_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The connection has become a WebSocket."""
        super().connection_made(transport)
        self.transport.hold(_CONNECTION_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed: what was held of it is free again."""
        self._stop_message_timer()
        self._forget_messages()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The worker ends: so does the session."""
        self.stop_keepalive()
        if self.handshake_complete and not self.close_sent:
            self.close_timeout = _STOP_SECONDS
            self._end(GOING_AWAY, "the worker stops")
        else:
            super().shutdown()

    # From the client

    def handle_connect(self, event: events.Request) -> None:
        """The handshake: the application is called."""
        super().handle_connect(event)
        self.scope["extensions"][GONE] = {"is_gone": lambda: self.disconnected}

    def handle_message(self, event: events.TextMessage | events.BytesMessage) -> None:
        """A part of a message has arrived."""
        if self._message_timer is None and not event.message_finished:
            self._start_message_timer()
        text = isinstance(event, events.TextMessage)
        most = MAX_TEXT_BYTES if text else self.max_bytes
        self._length += len(event.data.encode()) if isinstance(event.data, str) else len(event.data)
        if self._length > most:
            self._end(TOO_BIG, f"a message has more than {most} bytes")
            return
        if text:
            self.buffer.extend(event)
        elif not self._dropped:
            self._keep(event, len(event.data))
        if event.message_finished:
            self._finish()

    def handle_close(self, event: events.CloseConnection) -> None:
        """The client closes; or what it sends is no frame, of which wsproto makes an event of the same kind."""
        if self.conn.state == ConnectionState.OPEN and not self.close_sent:
            self._end(event.code, event.reason or "")
        else:
            super().handle_close(event)

    def handle_ping(self, event: events.Ping) -> None:
        """A ping is answered, unless the client does not even read the earlier answers."""
        if self.writable.is_set():
            super().handle_ping(event)

    def _keep(self, event: events.TextMessage | events.BytesMessage, size: int) -> None:
        """Keep a part of an image if there is room for it; else nothing of the message is kept."""
        try:
            self.room.take(size)
        except OverloadedError:
            self.room.give_up(self._arriving)
            self._arriving, self._dropped = 0, True
            self.buffer.clear()
        else:
            self._arriving += size
            self.buffer.extend(event)

    def _finish(self) -> None:
        """A message is whole: the application may take it, and nothing more is read until it has."""
        self._stop_message_timer()
        message: dict[str, Any] = {"type": "websocket.receive", "bytes": b""} if self._dropped else {}
        if not self._dropped:
            message |= self.buffer.to_message()
        message |= {DROPPED: self._dropped, ARRIVAL: self.loop.time()}
        self.buffer.clear()
        self._waiting.append(self._arriving)
        self._length, self._arriving, self._dropped = 0, 0, False
        self.queue.put_nowait(message)  # type: ignore[arg-type]
        if len(self._waiting) > MAX_WAITING:
            self._end(POLICY_VIOLATION, "too many messages at once")
        elif not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    # From the application

    async def receive(self) -> WebSocketEvent:
        """The next message; the application is done with the one before."""
        self.room.give_up(self._taken)
        self._taken = 0
        message = await super().receive()
        if message["type"] == "websocket.receive" and self._waiting:
            self._taken = self._waiting.pop(0)
        return message

    async def send(self, message: ASGISendEvent) -> None:
        """Send a message.

        Raises:
            ClientDisconnected: The client is gone, or the session was ended from here.
        """
        await self.writable.wait()
        if self.close_sent:
            raise ClientDisconnected
        if message["type"] == "websocket.accept":
            self.transport.read_messages()
        await super().send(message)

    async def run_asgi(self) -> None:
        """Run the application."""
        try:
            await super().run_asgi()
        finally:
            self.room.give_up(self._taken)
            self._taken = 0

    # The end

    def _end(self, code: int, reason: str) -> None:
        """Close from here, and drop what the client still sends, so that it gets to see why."""
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        self._stop_message_timer()
        self.stop_keepalive()
        self.close_sent = True
        self._forget_messages()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(self.conn.send(events.CloseConnection(code=code, reason=reason)))
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)

    def _forget_messages(self) -> None:
        """Forget all messages but the one that the application has."""
        while not self.queue.empty():
            self.queue.get_nowait()
        for size in (self._arriving, *self._waiting):
            self.room.give_up(size)
        self._length, self._arriving, self._dropped = 0, 0, False
        self._waiting.clear()
        self.buffer.clear()

    def _start_message_timer(self) -> None:
        self._message_timer = self.loop.call_later(self.seconds, self._time_out)

    def _stop_message_timer(self) -> None:
        if self._message_timer is not None:
            self._message_timer.cancel()
            self._message_timer = None

    def _time_out(self) -> None:
        """Give a message up that does not end, unless it is the worker that does not read."""
        if self.read_paused:
            self._start_message_timer()
        else:
            self._end(POLICY_VIOLATION, "a message took too long")
