"""The worker process: what the operating system may do with it, and how long it listens to unfinished requests.

uvicorn waits for ever for the rest of a request's head, and keeps all of it, however long it gets.
"""

from __future__ import annotations

import asyncio
import resource
from http import HTTPStatus
from typing import Any, Final

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service import problems
from service.settings import Settings

MAX_HEAD_BYTES: Final[int] = 64_000
"""Longest head of a request; browsers and proxies send a few thousand bytes."""

MAX_CONNECTIONS: Final[int] = 2_000
"""Connections of a worker, idle ones included; one more is closed at once."""


def harden() -> None:
    """Keep what is in memory off the disk, and let connections run out before file descriptors do."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash must not leave a face behind
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else min(2 * MAX_CONNECTIONS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP, with limits on what comes before an application is asked, and after it has answered."""

    seconds: float = Settings.read_seconds

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._in_head = False
        self._head_bytes = 0  # beside those that came together with the head's first
        self._message_complete = True
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there: it has some time to send a head."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes came: a head must not become too long."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_message_begin(self) -> None:
        """The first byte of a request, maybe of a further one on the same connection."""
        super().on_message_begin()
        self._in_head, self._head_bytes, self._message_complete = True, 0, False
        self._start_timer()

    def on_headers_complete(self) -> None:
        """The application is asked; from here on the time is its own."""
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The last byte of a request."""
        self._message_complete = True
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The application has answered: a body that it did not wait for may go on for some time only."""
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
        """Answer in the application's place, and hang up."""
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:  # it would be taken for that one's answer
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
    """Make uvicorn use `BoundedProtocol` where BentoML leaves the choice to it.

    Args:
        seconds: that a client has to send a head.
    """
    BoundedProtocol.seconds = seconds
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedProtocol.__name__}"
