"""The worker process: its limits from the operating system, and its limits on unfinished requests.

uvicorn waits forever for the rest of a request's head, and keeps all of it, however long it gets.
"""

from __future__ import annotations

import asyncio
import resource
from http import HTTPStatus
from typing import Any, ClassVar, Final

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service import problems

MAX_HEAD_BYTES: Final[int] = 64_000
"""Longest head of a request, in bytes; browsers and proxies send a few thousand."""

MAX_CONNECTIONS: Final[int] = 2_000
"""Most connections of a worker, idle ones included; one more is closed at once."""


def harden() -> None:
    """Forbid core dumps, and allow enough file descriptors for `MAX_CONNECTIONS`."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash must not write a face to disk
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else min(2 * MAX_CONNECTIONS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with limits before the application is called and after it has responded.

    Attributes:
        seconds: Time that a client has to send a head, in seconds.
    """

    seconds: ClassVar[float]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._in_head = False
        self._head_bytes = 0  # not counting those that arrived together with its first byte
        self._message_complete = True
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected: from now on it has `seconds` to send a head."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has disconnected."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived: refuse a head that is too long."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_message_begin(self) -> None:
        """The first byte of a request, perhaps not the first request on this connection."""
        super().on_message_begin()
        self._in_head, self._head_bytes, self._message_complete = True, 0, False
        self._start_timer()

    def on_headers_complete(self) -> None:
        """The application is called; it limits the time from here on."""
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The last byte of a request has arrived."""
        self._message_complete = True
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The application has responded: if it did not wait for the whole body, the rest has `seconds` to arrive."""
        super().on_response_complete()
        if not self._message_complete:
            self._start_timer()

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(self.seconds, self._time_out)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_out(self) -> None:
        if self._in_head:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self.transport.close()

    def _refuse(self, status: HTTPStatus) -> None:
        """Respond in place of the application, and close the connection."""
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:  # the refusal would look like its response
            self.transport.close()
            return
        response = problems.ProblemResponse(problems.from_status(status))
        head = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
        self.transport.write(
            b"HTTP/1.1 %d %b\r\n%bconnection: close\r\n\r\n%b"
            % (status, status.phrase.encode(), head, bytes(response.body))
        )
        self.transport.close()


def use_bounded_protocol(seconds: float) -> None:
    """Make uvicorn use `BoundedProtocol`; BentoML leaves the choice of the protocol to it.

    Args:
        seconds: Time that a client has to send a head, in seconds.
    """
    BoundedProtocol.seconds = seconds
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedProtocol.__name__}"
