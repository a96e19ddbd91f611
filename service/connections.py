"""The connections of a worker: what they hold all together, and how each is read, written and closed.

uvicorn reads up to a quarter of a megabyte at once, waits for ever for a client that does not read its response, and
closes a connection while the client is still sending, which may cost the client the response. The requests are read by
`service.http_protocol`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:
    from service.http_protocol import HttpProtocol

MAX_CONNECTIONS: Final[int] = 1_000
"""Most connections of a worker, idle ones included."""

MAX_HELD_BYTES: Final[int] = 12_000_000
"""Most bytes that the connections of a worker hold all together; see `Account`."""

CONNECTION_BYTES: Final[int] = 8_000
"""Memory of a connection that holds nothing, in bytes (measured, rounded up)."""

HEAD_READ_BYTES: Final[int] = 8_192
"""Most bytes that are read at once before the application asks for the body; most heads are a tenth of this."""

BODY_READ_BYTES: Final[int] = 262_144
"""Most bytes of a body that are read at once."""

BLOCKED_BYTES: Final[int] = 64_000
"""Memory of a response whose client does not read, in bytes (measured, rounded up)."""

_MAX_UNSENT_BYTES: Final[int] = 4_096
"""Bytes that may wait for the client to read them before the application is held up and they are accounted for."""

_MAX_DISCARDED_BYTES: Final[int] = 32_000_000
"""Most bytes that are read, and dropped, after a connection's last response."""

_BODY_BUFFER: Final = memoryview(bytearray(BODY_READ_BYTES))
"""What was read last, on whichever connection; it is used up before anything else is read."""

_HEAD_BUFFER: Final = _BODY_BUFFER[:HEAD_READ_BYTES]


class Account:
    """What the connections of a worker hold, apart from the bodies of admitted uploads (`service.admission.Buffer`).

    If it is too much, those that have been waiting for their client longest are closed: idle ones, those with half a
    request, those whose client does not read. Clients that do not dawdle thus find room, whatever the others do.
    """

    def __init__(self, *, max_connections: int = MAX_CONNECTIONS, max_bytes: int = MAX_HELD_BYTES) -> None:
        self._max_connections = max_connections
        self._max_bytes = max_bytes
        self._held: dict[Connection, int] = {}
        self._waiting: dict[Connection, None] = {}  # in the order in which they began to wait
        self._total = 0

    def add(self, connection: Connection) -> None:
        """Account for a new connection, which waits for its client."""
        self._held[connection] = 0
        self._waiting[connection] = None
        self.note(connection, 0)

    def note(self, connection: Connection, held: int) -> None:
        """Note how many bytes a connection holds now, beside itself, and make room for them."""
        if connection not in self._held:
            return
        held += CONNECTION_BYTES
        self._total += held - self._held[connection]
        self._held[connection] = held
        while self._total > self._max_bytes or len(self._held) > self._max_connections:
            longest = next(iter(self._waiting), connection)
            self.remove(longest)
            longest.abort()
            if longest is connection:
                break

    def wait(self, connection: Connection) -> None:
        """Note that a connection begins to wait for its client."""
        if connection in self._held:
            self._waiting.pop(connection, None)
            self._waiting[connection] = None

    def work(self, connection: Connection) -> None:
        """Note that a connection no longer waits for its client."""
        self._waiting.pop(connection, None)

    def remove(self, connection: Connection) -> None:
        """Forget a connection."""
        self._total -= self._held.pop(connection, 0)
        self._waiting.pop(connection, None)


class Connection(asyncio.BufferedProtocol, asyncio.Transport):
    """A connection: to the event loop its protocol, to HTTP its transport.

    Attributes:
        account: What all connections of the worker hold.
        seconds: Time that a client has to read any part of a response, and to close after the last one, in seconds.
    """

    account: ClassVar[Account] = Account()
    seconds: ClassVar[float]

    def __init__(self, http: HttpProtocol) -> None:
        super().__init__()
        self._http = http
        self._receiver: Any = http  # or the WebSocket protocol that took over
        self._transport: asyncio.Transport
        self._buffer = _HEAD_BUFFER
        self._held = 0
        self._working = False
        self._closing = False
        self._discarded = 0
        self._unsent = 0
        self._timer: asyncio.TimerHandle | None = None

    # To the event loop

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The client has connected."""
        self._transport = transport
        transport.set_write_buffer_limits(high=_MAX_UNSENT_BYTES)
        self._http.connection_made(self)
        self.account.add(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes are to be put."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have arrived: pass them on, or drop them after the last response."""
        if not self._closing:
            self._receiver.data_received(bytes(self._buffer[:nbytes]))
            return
        self._discarded += nbytes
        if self._discarded > _MAX_DISCARDED_BYTES:
            self.abort()

    def eof_received(self) -> None:
        """The client sends no more; the connection is closed, as nobody half-closes in HTTP but who has gone."""
        self._receiver.eof_received()
        self._start_timer()  # for what the client has not read

    def pause_writing(self) -> None:
        """The client does not read: the response waits, but not for ever."""
        self._start_timer()
        self.account.wait(self)
        self.account.note(self, self._held + BLOCKED_BYTES)
        self._receiver.pause_writing()

    def resume_writing(self) -> None:
        """The client has read."""
        self.account.note(self, self._held)
        if not self._closing:
            self._stop_timer()
            if self._working:
                self.account.work(self)
        self._receiver.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._closing = True
        self._stop_timer()
        self.account.remove(self)
        self._receiver.connection_lost(exc)

    # To HTTP

    def hold(self, held: int) -> None:
        """Account for bytes that are held until the requests are answered."""
        if held != self._held:
            self._held = held
            self.account.note(self, held)

    def work(self) -> None:
        """A request has arrived to its end, and the application works on it."""
        self._working = True
        self.account.work(self)

    def wait(self) -> None:
        """What the client sends next is waited for: a request, or the rest of one."""
        self._working = False
        self.account.wait(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, if the client is still there."""
        if not self.is_closing():
            self._transport.write(data)

    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        return self._closing or self._transport.is_closing()

    def close(self) -> None:
        """Close the connection when the client has got all that was written.

        If the client is still sending, an immediate close might reach it before the response and replace it by an
        error; so what it sends is read and dropped until it closes (RFC 9112, section 9.6).
        """
        if self.is_closing():
            return
        self._closing = True
        self._start_timer()
        self.account.wait(self)
        if not self._http.receiving:
            self._transport.close()
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._transport.resume_reading()

    def abort(self) -> None:
        """Close the connection at once."""
        self._closing = True
        self._transport.abort()

    def pause_reading(self) -> None:
        """Leave what the client sends in the kernel."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on, faster if the application has asked for a body."""
        if self._http.body_wanted:
            self._buffer = _BODY_BUFFER
        self._transport.resume_reading()

    def read_heads(self) -> None:
        """Read a little at a time: a body has ended."""
        self._buffer = _HEAD_BUFFER

    def read_messages(self) -> None:
        """Read as much at once as of a body: the connection has become a WebSocket."""
        self._buffer = _BODY_BUFFER

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Addresses and the like."""
        return self._transport.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let another protocol receive what arrives from here on."""
        self._receiver = protocol

    def pass_on(self, data: bytes) -> None:
        """Let that protocol have what has arrived already."""
        if data and not self._closing:
            self._receiver.data_received(data)

    def _start_timer(self) -> None:
        self._stop_timer()
        self._unsent = self._transport.get_write_buffer_size()
        self._timer = asyncio.get_running_loop().call_later(self.seconds, self._time_out)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_out(self) -> None:
        """Give the client up, unless it has read since the timer was started: its line may be slow."""
        if self._transport.get_write_buffer_size() < self._unsent:
            self._start_timer()
        else:
            self.abort()
