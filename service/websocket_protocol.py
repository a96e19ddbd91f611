"""WebSockets as the service accepts them: uvicorn's protocol on wsproto, with limits on memory and time.

uvicorn chooses the protocol by what is installed, compresses (a few bytes may then become many), writes clients'
addresses to the log, holds any number of messages that arrive at once, reads no more of a message that is too large,
which may cost the client the close code, keeps what follows broken framing, and takes any number of tiny frames, of
which a read of a quarter of a megabyte may have 40,000.
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
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from service.admission import Buffer, Rate
from service.connections import Connection
from service.errors import OverloadedError

GONE: Final[str] = "meaa.gone"
"""Extension of the scope: under `is_gone` a function that tells whether the connection is lost."""

DROPPED: Final[str] = "meaa.dropped"
"""Member of a received message: the worker had no room for its bytes, which are missing."""

ARRIVAL: Final[str] = "meaa.arrival"
"""Member of a received message: the event loop's time at which it was whole."""

STOPPING: Final[str] = "meaa.stopping"
"""Member of a received message that the client has not sent: the worker stops, and the session is to end."""

MAX_WAITING: Final[int] = 64
"""Most messages that wait for the application."""

MAX_TEXT_BYTES: Final[int] = 5_000
"""Longest text message, in bytes. Texts need no room among the images."""

SMALL_FRAMES: Final[float] = 20.0
"""Small frames a second that a client may send: pings, pongs, and tiny messages or pieces of them."""

_SMALL_BYTES: Final[int] = 125
"""Longest payload of a small frame, in bytes: that of the longest control frame."""

_CONNECTION_BYTES: Final[int] = 30_000
"""Memory of an open WebSocket beside its messages, in bytes (rounded up)."""

_STOP_SECONDS: Final[float] = 5.0
"""Time that the application has to end a session when the worker stops, in seconds."""

_LAST_SECONDS: Final[float] = 1.0
"""Time that a client has to read the close code if its answer is not waited for, in seconds."""

GOING_AWAY: Final[int] = 1001
POLICY_VIOLATION: Final[int] = 1008
TOO_BIG: Final[int] = 1009
SERVICE_RESTART: Final[int] = 1012

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
        self._stop_timer: asyncio.TimerHandle | None = None
        self._small_frames = Rate(SMALL_FRAMES, self.loop.time())
        self._asked = False  # whether the application has been asked whether it accepts the handshake
        self._early = b""  # what came before its answer
        self._deaf = False  # whether what still arrives is dropped unread

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The connection has become a WebSocket."""
        super().connection_made(transport)
        self.transport.set_protocol(self)  # so that it hears of the end, whatever the handshake comes to
        self.transport.hold(_CONNECTION_BYTES)
        self.transport.pause_reading()  # until the handshake is accepted

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed: what was held of it is free again."""
        self._stop_timers()
        self._forget_messages()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The worker ends: so does the session, once the frame that is being looked at is answered."""
        self.stop_keepalive()
        if self.handshake_complete and not self.close_sent:
            self.close_timeout = _LAST_SECONDS
            self._stop_message_timer()
            self._forget_messages()
            stop: dict[str, Any] = {"type": "websocket.receive", "bytes": b"", DROPPED: True, STOPPING: True}
            self.queue.put_nowait(stop | {ARRIVAL: self.loop.time()})  # type: ignore[arg-type]
            self._stop_timer = self.loop.call_later(_STOP_SECONDS, self._end, SERVICE_RESTART, "the worker stops")
        else:
            super().shutdown()

    # From the client

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived."""
        if self._deaf:
            return
        if self._asked and not self.handshake_complete:
            self._early += data
            return
        try:
            self.conn.receive_data(data)
        except (LocalProtocolError, RemoteProtocolError):  # after the close, or what is no handshake
            self._deaf = True
            self.transport.close()
        else:
            self.handle_events()

    def handle_events(self) -> None:
        """Handle what has arrived, frame by frame; after the close from here only the client's own close counts."""
        for event in self.conn.events():
            if _is_small_frame(event) and not self._small_frames.allows(self.loop.time()):
                self._end(POLICY_VIOLATION, "too many small frames")
                self._hear_no_more()
                return
            match event:
                case events.CloseConnection():
                    self.handle_close(event)
                case _ if self.close_sent:
                    pass
                case events.Request():
                    self.handle_connect(event)
                case events.TextMessage() | events.BytesMessage():
                    self.handle_message(event)
                case events.Ping():
                    self.handle_ping(event)
                case events.Pong():
                    self.handle_pong(event)

    def handle_connect(self, event: events.Request) -> None:
        """The handshake: the application is called."""
        super().handle_connect(event)
        self._asked = True
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
        if self.conn.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
            self._end(event.code, "this is no WebSocket frame")  # not the reason, which may quote what was sent
            self._hear_no_more()
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
        await super().send(message)
        if message["type"] == "websocket.accept":
            self.transport.read_messages()
            self.transport.resume_reading()
            self.data_received(self._early)
            self._early = b""

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
        self._stop_timers()
        self.stop_keepalive()
        self.close_sent = True
        self._forget_messages()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(self.conn.send(events.CloseConnection(code=code, reason=reason)))
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)

    def _hear_no_more(self) -> None:
        """Drop unread what the client still sends: its frames cannot be told apart, or are too many to be worth it."""
        self._deaf = True
        if self.close_timer is not None:
            self.close_timer.cancel()
        self.close_timer = self.loop.call_later(min(self.close_timeout, _LAST_SECONDS), self.transport.close)

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

    def _stop_timers(self) -> None:
        self._stop_message_timer()
        if self._stop_timer is not None:
            self._stop_timer.cancel()
            self._stop_timer = None

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


def _is_small_frame(event: events.Event) -> bool:
    """Whether an event is a small frame; see `SMALL_FRAMES`."""
    match event:
        case events.Ping() | events.Pong():
            return True
        case events.TextMessage(data, frame_finished) | events.BytesMessage(data, frame_finished):
            return frame_finished and len(data) <= _SMALL_BYTES
    return False
