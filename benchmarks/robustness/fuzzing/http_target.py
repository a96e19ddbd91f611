"""Requests as bytes on a connection: the protocol and the whole application.

Each input is served all at once and in pieces, which must make no difference; some again, to a client that does not
read, or that leaves. h11, another parser, must not see other requests in it than the service.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, TypeVar

import anyio.to_thread
import h11
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from benchmarks.robustness.fuzzing import http_mutation
from benchmarks.robustness.fuzzing.loop import InstantLoop, Wire

for _name in [name for name in os.environ if name.startswith("MEAA_")]:
    del os.environ[_name]
os.environ["MEAA_TOKEN"] = http_mutation.TOKEN

from _bentoml_sdk.service import set_current_service  # noqa: E402

from service import service as meaa  # noqa: E402  # it reads its settings when it is imported
from service.connections import Account, Connection  # noqa: E402
from service.http_protocol import HttpProtocol  # noqa: E402

T = TypeVar("T")

MAX_BYTES: Final = http_mutation.MAX_BYTES
CPU_SECONDS: Final = 1.0

_PATIENCE: Final = 300.0
"""Seconds after which every connection must have ended, whatever the client has sent."""

_SINGLE: Final = 200
"""How many bytes arrive one by one, if they do."""

_STATUSES: Final = frozenset({100, 200, 204, 304, 400, 401, 404, 405, 408, 413, 415, 422, 431, 503})
_REFUSALS: Final = frozenset({400, 408, 431})
_WITHOUT_BODY: Final = (100, 204, 304)

seeds = http_mutation.seeds
mutate = http_mutation.mutate


@dataclass
class Seen:
    """A request as a server has understood it.

    Attributes:
        method: Method.
        target: Path and query as they were sent.
        body: Body, as far as it was read.
        complete: Whether it was read to its end.
    """

    method: bytes
    target: bytes
    body: bytearray = field(default_factory=bytearray)
    complete: bool = False


class _Lines(logging.Handler):
    """The lines of the log: nothing that a client sends is worth one."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(f"{record.name} at {record.filename}:{record.lineno}")


async def _run_inline(function: Callable[..., T], *arguments: Any, **_: Any) -> T:
    """What would run in a thread, at once: the loop waits for no thread."""
    return function(*arguments)


class Server:
    """A worker without a socket."""

    def __init__(self) -> None:
        self._loop = InstantLoop()
        asyncio.set_event_loop(self._loop)
        self._failures: list[str] = []
        self._loop.set_exception_handler(lambda _, context: self._failures.append(_explain(context)))
        self._log = _Lines()
        self._seen: list[Seen] = []
        self._application: ASGIApp = meaa.MoodEstimation.to_asgi()
        self._service = meaa.MoodEstimation()
        set_current_service(self._service)
        anyio.to_thread.run_sync = _run_inline
        self._config = Config(self._record, interface="asgi3", lifespan="off", log_config=None, access_log=False)
        self._config.load()
        logging.getLogger().handlers = [self._log]
        for name in ("uvicorn", "uvicorn.error", "bentoml", "asyncio"):
            logging.getLogger(name).handlers, logging.getLogger(name).propagate = [], True
        self._state = ServerState()

    async def _record(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        seen = Seen(scope["method"].encode(), scope["raw_path"] + query)
        self._seen.append(seen)

        async def receive_and_record() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                seen.body += message.get("body", b"")
                seen.complete = not message.get("more_body", False)
            return message

        await self._application(scope, receive_and_record, send)

    def serve(self, pieces: list[bytes], *, reads: bool = True, ends: bool = False) -> tuple[list[Seen], list[int]]:
        """Serve a connection to its end.

        Args:
            pieces: What the client sends, read by read.
            reads: Whether the client reads what it gets.
            ends: Whether the client closes after its last byte.

        Returns:
            The requests that reached the application, and the statuses of the responses.

        Raises:
            AssertionError: Something did not end as it must.
        """
        self._seen, wire = [], Wire(reads=reads)

        async def drive() -> None:
            wire.connect(
                Connection(HttpProtocol(config=self._config, server_state=self._state, app_state={}, _loop=self._loop))
            )
            for piece in pieces:
                wire.send(piece)
                await asyncio.sleep(0.001)
            if ends:
                wire.finish()
            await asyncio.sleep(_PATIENCE)

        self._loop.run_until_complete(drive())
        try:
            self._check_end(wire)
        finally:  # one fault must not be found again with every further input
            Connection.account, self._state = Account(), ServerState()
            self._failures, self._log.lines = [], []
        if not reads or ends:
            return self._seen, []
        statuses = _responses(bytes(wire.received), [seen.method for seen in self._seen])
        assert _STATUSES.issuperset(statuses), f"a status that must not be: {statuses}"
        statuses = [status for status in statuses if status != 100]
        assert len(self._seen) <= len(statuses) <= len(self._seen) + 1, "not one response for each request"
        return self._seen, statuses

    def _check_end(self, wire: Wire) -> None:
        account = Connection.account
        assert not self._failures, f"an exception nobody handled: {self._failures[0]}"
        assert not self._log.lines, f"a line in the log: {self._log.lines[0]}"
        assert wire.closed, "the connection never ends"
        assert not account._held, "the account keeps a connection"
        assert not account._waiting, "the account keeps a connection that waits"
        assert account._total == 0, "the account keeps bytes"
        assert self._service._buffer._free == meaa.SETTINGS.max_buffer, "the buffer keeps bytes"
        assert not self._state.connections, "the server keeps a connection"
        assert not self._state.tasks, "the server keeps a task"


def _explain(context: dict[str, Any]) -> str:
    return f"{context.get('message')} {context.get('exception')!r}"


def _responses(data: bytes, methods: list[bytes]) -> list[int]:
    """The statuses of responses, checked for their form."""
    statuses: list[int] = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, "half a response"
        start, *lines = head.split(b"\r\n")
        assert start.startswith(b"HTTP/1.1 "), f"no response: {start[:40]!r}"
        status = int(start.split(b" ")[1])
        fields = {name.lower(): value for name, value in (line.split(b": ", 1) for line in lines)}
        assert len(fields) == len(lines), "a field twice"
        answered = sum(earlier != 100 for earlier in statuses)
        statuses.append(status)
        if status in _WITHOUT_BODY or (answered < len(methods) and methods[answered] == b"HEAD"):
            continue
        assert b"content-length" in fields, "a response without a length"
        length = int(fields[b"content-length"])
        assert len(data) >= length, "half a response"
        data = data[length:]
    return statuses


_server: Final = Server()


def run(data: bytes) -> list[str]:
    """Serve the bytes of a connection.

    Returns:
        The statuses of all responses; `closed` if there is none.

    Raises:
        AssertionError: Something is not as it must be.
    """
    chance = random.Random(zlib.crc32(data))
    whole, statuses = _server.serve([data])
    if chance.random() < 0.1:
        pieces = [*(data[at : at + 1] for at in range(min(len(data), _SINGLE))), data[_SINGLE:]]
    else:
        cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.choice((1, 2, 8))))
        pieces = [data[start:end] for start, end in pairwise((0, *cuts, len(data)))]
    parts, others = _server.serve(pieces)
    _compare(whole, statuses, parts, others)
    if chance.random() < 0.3:
        _server.serve(pieces, reads=chance.random() < 0.5, ends=chance.random() < 0.5)
    _compare_with_h11(data, whole)
    return [str(status) for status in (*statuses, *others)] or ["closed"]


def _compare(first: list[Seen], statuses: list[int], second: list[Seen], others: list[int]) -> None:
    """Check that it makes no difference how bytes arrive.

    Only the end may differ: if a request turns out to be broken, the application may have answered it already, and
    responses to the requests before it may come first.
    """
    for number, (one, other) in enumerate(zip(statuses, others, strict=False)):
        if one != other:
            ends = [given[number] for given in (statuses, others) if len(given) == number + 1]
            assert _REFUSALS.intersection(ends), f"another answer in pieces: {statuses} {others}"
            break
    for request, same in zip(first, second, strict=False):
        assert (request.method, request.target) == (same.method, same.target), "another request in pieces"
        if request.complete and same.complete:
            assert request.body == same.body, "another body in pieces"


def _compare_with_h11(data: bytes, seen: list[Seen]) -> None:
    """Check that h11 sees the same requests, as far as it sees any: it refuses some that the service takes."""
    expected, refused = _parse_with_h11(data)
    for one, other in zip(seen, expected, strict=False):
        assert (one.method, _path(one.target)) == (other.method, _path(other.target)), "h11 sees another request"
        if one.complete and other.complete:
            assert one.body == other.body, "h11 sees another body"
    assert refused or len(seen) <= len(expected), "h11 sees fewer requests"


def _path(target: bytes) -> bytes:
    """Path and query of a target in any of its forms, as the server passes them on."""
    if not target.startswith(b"/") and b"://" in target:
        target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
    return target.partition(b"#")[0]


def _parse_with_h11(data: bytes) -> tuple[list[Seen], bool]:
    """The requests that h11 sees, the last perhaps incomplete, and whether it refuses what follows."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_BYTES)
    connection.receive_data(data)
    found: list[Seen] = []
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                found.append(Seen(event.method, event.target))
            elif isinstance(event, h11.Data):
                found[-1].body += event.data
            elif isinstance(event, h11.EndOfMessage):
                found[-1].complete = True
                connection.send(h11.Response(status_code=404, headers=[("Content-Length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    return found, False
                connection.start_next_cycle()
            else:
                return found, False
    except h11.RemoteProtocolError:
        return found, True
