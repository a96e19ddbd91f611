"""An event loop whose clock leaps to the next timer if nothing else is to do, and a connection without a socket."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any, Final

_HIGH_WATER: Final = 65_536  # bytes; asyncio's default


class _Selector(selectors.SelectSelector):
    """A selector for which no file is ever ready; instead of waiting it moves the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Nothing, at once."""
        if timeout is None:
            raise RuntimeError("the event loop waits for what will never happen")
        self.now += timeout
        return []


class InstantLoop(asyncio.SelectorEventLoop):
    """An event loop in which an hour passes at once.

    `await asyncio.sleep(t)` returns when nothing is left to do before t. Threads are not waited for.
    """

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        """Seconds since the loop was made or rewound, on its own clock."""
        return self._clock.now

    def rewind(self) -> None:
        """Set the clock to zero, when nothing waits for a time: late on the clock short times are lost in rounding."""
        self._clock.now = 0.0


class Wire(asyncio.Transport):
    """The network's end of a connection: what a client does is a call, what it receives is in `received`.

    Attributes:
        received: Bytes that were sent to the client.
        closed: Whether the connection has ended.
    """

    def __init__(self, *, reads: bool = True) -> None:
        """A connection that is not open yet.

        Args:
            reads: Whether the client reads what it gets.
        """
        super().__init__()
        self.received = bytearray()
        self.closed = False
        self._reads = reads
        self._protocol: Any = None
        self._paused = False
        self._arriving: list[bytes] = []
        self._unsent = 0
        self._limit = _HIGH_WATER
        self._held_up = False
        self._closing = False
        self._ended = False

    # The client

    def connect(self, protocol: asyncio.BaseProtocol) -> None:
        """Connect to a protocol."""
        self._protocol = protocol
        protocol.connection_made(self)

    def send(self, data: bytes) -> None:
        """Send bytes, or have them wait until the server reads again."""
        if data and not self._closing:
            self._arriving.append(data)
            self._deliver()

    def finish(self) -> None:
        """Send no more."""
        if not self._closing and not self._arriving and not self._protocol.eof_received():
            self.close()

    def read(self, reads: bool) -> None:
        """Begin to read, or stop."""
        self._reads = reads
        if reads and self._unsent:
            self._unsent = 0
            if self._held_up:
                self._held_up = False
                self._protocol.resume_writing()
            if self._closing:
                self.abort()

    def _deliver(self) -> None:
        while self._arriving and not self._paused and not self._closing:
            data = self._arriving.pop(0)
            buffer = self._protocol.get_buffer(-1)
            count = min(len(data), len(buffer))
            buffer[:count] = data[:count]
            if data[count:]:
                self._arriving.insert(0, data[count:])
            self._protocol.buffer_updated(count)

    # The server

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send to the client."""
        if self._closing:
            return
        assert not self._ended, "written after the end"
        self.received += data
        if not self._reads:
            self._unsent += len(data)
            if self._unsent > self._limit and not self._held_up:
                self._held_up = True
                self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        """Bytes that the client has not read."""
        return self._unsent

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """How many bytes may wait for the client."""
        self._limit = _HIGH_WATER if high is None else high

    def can_write_eof(self) -> bool:
        """True, as for a socket."""
        return True

    def write_eof(self) -> None:
        """Announce that nothing follows."""
        self._ended = True

    def pause_reading(self) -> None:
        """Leave what the client sends."""
        self._paused = True

    def resume_reading(self) -> None:
        """Read on, soon."""
        if self._paused:
            self._paused = False
            self._soon(self._deliver)

    def is_reading(self) -> bool:
        """Whether the server reads."""
        return not self._paused and not self._closing

    def is_closing(self) -> bool:
        """Whether the connection has ended, or will when the client has read all."""
        return self._closing

    def close(self) -> None:
        """Close when the client has read all."""
        self._closing = True
        if not self._unsent:
            self.abort()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        if not self.closed:
            self.closed = True
            self._soon(lambda: self._protocol.connection_lost(None))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Addresses."""
        return {"peername": ("127.0.0.1", 50_000), "sockname": ("127.0.0.1", 8_000)}.get(name, default)

    @staticmethod
    def _soon(call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(call)
