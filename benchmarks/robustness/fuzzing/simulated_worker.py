"""A worker without a socket: the service's connections, protocol and whole application on an `InstantLoop`.

It is for a process of its own: it replaces settings, log, threads and the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import anyio.to_thread
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

PATIENCE: Final = 300.0
"""Seconds after which every connection must have ended, whatever its client does."""

STATUSES: Final = frozenset({100, 200, 204, 304, 400, 401, 404, 405, 408, 413, 415, 422, 426, 431, 503})
"""The statuses that a response may have."""


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


class SimulatedWorker:
    """A worker whose clients are `Wire`s.

    Attributes:
        seen: Requests that have reached the application since the last `run`.
    """

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self._loop = InstantLoop()
        asyncio.set_event_loop(self._loop)
        self._failures: list[str] = []
        self._loop.set_exception_handler(lambda _, context: self._failures.append(_explain(context)))
        self._application: ASGIApp = meaa.MoodEstimation.to_asgi()
        self._service = meaa.MoodEstimation()
        set_current_service(self._service)
        anyio.to_thread.run_sync = _run_inline
        self._config = Config(self._record, interface="asgi3", lifespan="off", log_config=None, access_log=False)
        self._config.load()
        self._state = ServerState()
        self._log = _Lines()
        logging.getLogger().handlers = [self._log]
        for name in ("uvicorn", "uvicorn.error", "bentoml", "asyncio"):
            logging.getLogger(name).handlers, logging.getLogger(name).propagate = [], True

    async def _record(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, with a record of what reaches it."""
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        seen = Seen(scope.get("method", "GET").encode(), scope["raw_path"] + query)
        self.seen.append(seen)

        async def receive_and_record() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                seen.body += message.get("body", b"")
                seen.complete = not message.get("more_body", False)
            return message

        await self._application(scope, receive_and_record, send)

    def connect(self, *, reads: bool = True) -> Wire:
        """A new connection; to be called while `run` runs.

        Args:
            reads: Whether the client reads what it gets.
        """
        wire = Wire(reads=reads)
        protocol = HttpProtocol(config=self._config, server_state=self._state, app_state={}, _loop=self._loop)
        wire.connect(Connection(protocol))
        return wire

    def run(self, clients: Coroutine[Any, Any, None], account: Account | None = None) -> None:
        """Let clients act, and time pass until all is over.

        Args:
            clients: What the clients do.
            account: What the worker's connections may hold; by default as in the service.

        Raises:
            AssertionError: Something has not ended as it must.
        """
        self.seen = []
        Connection.account, self._state = account or Account(), ServerState()
        self._failures, self._log.lines = [], []

        async def act_and_wait() -> None:
            await clients
            await asyncio.sleep(PATIENCE)

        self._loop.rewind()
        self._loop.run_until_complete(act_and_wait())
        assert not self._failures, f"an exception nobody handled: {self._failures[0]}"
        assert not self._log.lines, f"a line in the log: {self._log.lines[0]}"
        assert not Connection.account._held, "the account keeps a connection"
        assert not Connection.account._waiting, "the account keeps a connection that waits"
        assert Connection.account._total == 0, "the account keeps bytes"
        assert self._service._buffer._free == meaa.SETTINGS.max_buffer, "the buffer keeps bytes"
        assert not self._state.connections, "the server keeps a connection"
        assert not self._state.tasks, "the server keeps a task"

    def converse(self, pieces: Sequence[bytes], *, reads: bool = True, ends: bool = False) -> bytes:
        """Serve one connection to its end.

        Args:
            pieces: What the client sends, read by read.
            reads: Whether the client reads what it gets.
            ends: Whether the client closes after its last byte.

        Returns:
            What the client has got.

        Raises:
            AssertionError: See `run`.
        """
        received = bytearray()

        async def client() -> None:
            nonlocal received
            wire = self.connect(reads=reads)
            received = wire.received
            for piece in pieces:
                wire.send(piece)
                await asyncio.sleep(0.001)
            if ends:
                wire.finish()

        self.run(client())
        return bytes(received)


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


def _explain(context: dict[str, Any]) -> str:
    return f"{context.get('message')} {context.get('exception')!r}"
