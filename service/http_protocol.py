"""HTTP/1.1 as the service accepts it: uvicorn's protocol, with limits, and without its leniency.

What is no proper request is answered here, with a problem document and before the application is called, and its
connection is closed, since nobody can tell where the next request would begin. Metrics count it: with a line in the
log for each, anybody could fill the disk.
"""

from __future__ import annotations

import asyncio
import base64
import contextvars
import re
from http import HTTPStatus
from typing import Any, ClassVar, Final

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service import metrics, problems, security_headers
from service.connections import HEAD_READ_BYTES, Connection

MAX_HEAD_BYTES: Final[int] = 32_000
"""Longest head of a request, in bytes; browsers and proxies send a few thousand. What frames a body (the sizes of its
chunks, chunk extensions, trailers) may be as long, and longer by an eighth of the body."""

MAX_FIELDS: Final[int] = 100
"""Most header fields of a request, and most trailers."""

MAX_PIPELINED: Final[int] = 8
"""Most requests of a connection that wait for the response to an earlier one."""

_REQUEST_BYTES: Final[int] = 4_000
"""Memory of a request beside its head (measured, rounded up)."""

_FIELD_BYTES: Final[int] = 200
"""Memory of a header field beside its characters (measured, rounded up)."""

_MAX_DIGITS: Final[int] = 20
"""Most digits of a Content-Length. The parser takes any number of zeros before it, but Python's `int` does not."""

# RFC 3986, section 3.2.2, and a port. The empty one belongs to a target that has no authority.
_HOST: Final = re.compile(rb"(?:\[[\w:.%~-]+\]|(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::\d*)?")


def _decode(text: bytes) -> bytes:
    """Bytes from Base64; none if it is something else."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


class _RefusedError(Exception):
    """Raised in a callback of the parser, to stop it.

    Attributes:
        status: Status of the response.
    """

    def __init__(self, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(status)
        self.status = status


class HttpProtocol(HttpToolsProtocol):
    """The requests of a connection.

    Attributes:
        seconds: Time that a client has to send a head, in seconds.
        websocket_paths: Paths at which `Upgrade: websocket` is heeded. Any other upgrade is ignored (RFC 9110, section
            7.8): the request is answered as if it had not asked.
    """

    seconds: ClassVar[float]
    websocket_paths: ClassVar[frozenset[bytes]] = frozenset()
    transport: Connection

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._answering: RequestResponseCycle | None = None  # the request that the application was called for
        self._unanswered_bytes = 0  # memory of that one and of those that wait for it
        self._fields = 0  # header fields so far; after the head, trailers
        self._field_bytes = 0  # length of their names and values
        self._in_head = False
        self._complete = True  # the latest request has arrived to its end
        self._arriving = 0  # bytes of the read that is being parsed
        self._arrived = 0  # bytes of the head, of its first read at most a few; then bytes after the read with its end
        self._content = 0  # bytes of the body
        self._keep_alive = False
        self._refused = False
        self._stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self._context: contextvars.Context

    @property
    def receiving(self) -> bool:
        """Whether bytes may arrive that will not be read."""
        return not self._stopping and (self._in_head or not self._complete or self.flow.read_paused)

    @property
    def body_wanted(self) -> bool:
        """Whether the application is asking for the rest of an upload, which it may have refused instead."""
        partly = not self._in_head and not self._complete
        return partly and self._answering is self.cycle and self.scope["method"] == "POST"

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected: from now on it has `seconds` to send a head."""
        super().connection_made(transport)
        self._context = contextvars.copy_context()
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed: no request that waits is begun."""
        self._stop_timer()
        if self._answering is not None:
            self._disconnect(self._answering)
        super().connection_lost(exc)
        self._forget()

    def shutdown(self) -> None:
        """The worker ends: no more requests."""
        self._stopping = True
        if self._answering is not None:
            super().shutdown()
        elif self.transport.is_closing():
            self.transport.abort()
        else:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived."""
        self._arriving = len(data)
        self._arrived += len(data)
        begun = self.cycle
        while data and not self._refused:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self._should_upgrade():
                    self.handle_websocket_upgrade()
                    self.transport.pass_on(data[upgrade.args[0] :])
                    return
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
            except httptools.HttpParserError as error:
                cause = error.__context__
                self._refuse(cause.status if isinstance(cause, _RefusedError) else HTTPStatus.BAD_REQUEST)
            else:
                data = b""
        if self._refused:
            return
        if self._in_head:
            if self._arrived > MAX_HEAD_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
                return
            self.transport.hold(self._unanswered_bytes + self._arrived + _FIELD_BYTES * self._fields)
            return
        self.transport.hold(self._unanswered_bytes)
        if not self._complete:
            if self._arrived - self._content > MAX_HEAD_BYTES + self._content // 8:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            elif self.cycle is not begun:
                self.flow.pause_reading()  # until the application, which may refuse the request, asks for its body

    def handle_websocket_upgrade(self) -> None:
        """The request asks for a WebSocket at one of `websocket_paths`: another protocol takes over."""
        self._stop_timer()
        self._in_head, self._complete = False, True
        self.transport.work()
        super().handle_websocket_upgrade()

    def _should_upgrade(self) -> bool:
        """Whether the head is the opening handshake of a WebSocket (RFC 6455, section 4.2.1), and nothing is before it.

        A body would be read as frames by us and as a body by a proxy, and responses to requests that still wait would
        be written among frames. HTTP/1.0 knows no upgrade (RFC 9110, section 7.8).
        """
        if not super()._should_upgrade() or self.url.partition(b"?")[0] not in self.websocket_paths:
            return False
        fields = [field for field in self.headers if field[0].startswith(b"sec-websocket-")]
        return (
            self.parser.get_method() == b"GET"
            and self.parser.get_http_version() == "1.1"
            and [value for name, value in fields if name == b"sec-websocket-version"] == [b"13"]
            and [len(_decode(value)) for name, value in fields if name == b"sec-websocket-key"] == [16]
            and all(value.isascii() for _, value in fields)
            and not any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers)
            and self._answering is None
            and not self.pipeline
        )

    def _head_without_upgrade(self) -> bytes:
        """The head that the parser has just read, without the upgrade, for a new parser.

        The parser takes what follows an upgrade for another protocol, even if the request has a body.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        fields = [b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        return b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, b"".join(fields))

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        """The first byte of a request, perhaps not the first request on this connection."""
        super().on_message_begin()
        self._unset_keepalive_if_required()  # not by line ends, which the parser skips before a request
        self._in_head, self._complete = True, False
        self._arrived, self._content = min(self._arriving, HEAD_READ_BYTES), 0
        self._fields, self._field_bytes = 0, 0
        self._start_timer()
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _RefusedError

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field has arrived, or a trailer, which must not pass for one (RFC 9110, section 6.5.1)."""
        self._fields += 1
        self._field_bytes += len(name) + len(value)
        if self._fields > MAX_FIELDS or self._field_bytes > MAX_HEAD_BYTES:
            raise _RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A head has arrived: the application is called, and limits the time from here on."""
        self._check_head()
        if self.parser.should_upgrade() and not self._should_upgrade():
            return  # the head is read again, without the upgrade
        super().on_headers_complete()
        if self.parser.should_upgrade():
            return
        self._in_head = False
        self._stop_timer()
        self._unanswered_bytes += _REQUEST_BYTES + self._field_bytes + _FIELD_BYTES * self._fields
        self._arrived, self._fields, self._field_bytes = 0, 0, 0
        # If the response begins before the request has ended, the rest of the request will not be read.
        self._keep_alive, self.cycle.keep_alive = self.cycle.keep_alive, False
        if self.pipeline:
            self.transport.wait()  # with many such clients, they are the first who may lose their connections
            self.transport.hold(self._unanswered_bytes)
            if self.transport.is_closing():
                raise _RefusedError
        else:
            self.transport.wait()  # for the body, if there is one

    def on_body(self, body: bytes) -> None:
        """A part of a body has arrived."""
        self._content += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The last byte of a request has arrived."""
        if self._in_head:
            return  # nothing but a head with an upgrade
        self._complete = True
        if self._answering is self.cycle:
            self.transport.work()
        self.transport.read_heads()
        if not self.cycle.response_started:
            self.cycle.keep_alive = self._keep_alive and not self._stopping
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The application has responded."""
        if self._answering is not None:
            self._answering.body.clear()
        self._answering = None
        # In a request's own context, the timer of an idle connection would keep the request in memory.
        self._context.run(super().on_response_complete)
        if self._in_head:
            self._unset_keepalive_if_required()  # the connection is not idle
        if self._answering is not None:
            if not self.pipeline and self._complete:
                self.transport.work()
        else:
            self._forget()
            self.transport.wait()
            if not self._in_head:
                self.headers, self.scope = [], None  # type: ignore[assignment]
                self.transport.hold(0)

    def _forget(self) -> None:
        """Free the memory of what has been answered, or never will be, without waiting for the garbage collector."""
        self.pipeline.clear()
        self._answering = self.cycle = None  # type: ignore[assignment]
        self._unanswered_bytes = 0

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _check_head(self) -> None:
        """Check what the parser leaves to the server (RFC 9112, sections 2.3, 3.2 and 6.1; RFC 9110, section 9.3.6).

        Raises:
            _RefusedError: The request cannot be answered.
        """
        version = self.parser.get_http_version()
        hosts = [value for name, value in self.headers if name == b"host"]
        codings = [value for name, value in self.headers if name == b"transfer-encoding"]
        lengths = [value for name, value in self.headers if name == b"content-length"]
        if (
            version not in ("1.0", "1.1")
            or len(hosts) > 1
            or (not hosts and version == "1.1")
            or not all(map(_HOST.fullmatch, hosts))
            or (codings and (version == "1.0" or [coding.lower() for coding in codings] != [b"chunked"]))
            or any(len(length) > _MAX_DIGITS for length in lengths)
            or self.parser.get_method() == b"CONNECT"
        ):
            raise _RefusedError

    # Refusals

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
        """Answer the request that is arriving in place of the application, and read nothing after it.

        Requests are answered once at most, and in their order: if earlier ones still wait for their responses, or the
        application has begun this one's, the connection ends with those.
        """
        self._refused = True
        self._stop_timer()
        metrics.REFUSALS.labels(status=int(status)).inc()
        arriving = None if self._in_head else self.cycle
        if self.pipeline and self.pipeline[0][0] is arriving:
            self.pipeline.popleft()
        elif arriving is self._answering and (arriving is None or not arriving.response_started):
            is_head = arriving is not None and arriving.scope["method"] == "HEAD"
            self.transport.write(self._refusal(status, has_body=not is_head))
            self.transport.close()
            if arriving is not None:
                self._disconnect(arriving)
                self._answering = None
            return
        last = self.pipeline[0][0] if self.pipeline else self._answering
        assert last is not None
        last.keep_alive = False

    def _refusal(self, status: HTTPStatus, *, has_body: bool) -> bytes:
        response = problems.ProblemResponse(problems.from_status(status), security_headers.HEADERS)
        fields = [*self.server_state.default_headers, *response.raw_headers, (b"connection", b"close")]
        head = b"".join(b"%b: %b\r\n" % field for field in fields)
        return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (status, status.phrase.encode(), head, bytes(response.body) * has_body)

    @staticmethod
    def _disconnect(cycle: RequestResponseCycle) -> None:
        """Tell the application that nobody waits for its response."""
        cycle.disconnected = True
        cycle.message_event.set()
