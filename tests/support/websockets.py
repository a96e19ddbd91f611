"""Live sessions as their clients meet them: a server in a thread of this process, and a client that talks to it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from starlette.types import ASGIApp
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_websocket

from service import schema, worker
from service.admission import Buffer
from service.connections import Connection
from service.http_protocol import HttpProtocol
from service.websocket_protocol import WebSocketProtocol

SESSION = schema.SESSION_PATH
END = json.dumps({"type": "end"})


def connect(port: int, *subprotocols: str, **options: Any) -> ClientConnection:
    """A session with a server on this machine; options are those of `websockets`."""
    names = [schema.SUBPROTOCOL, *subprotocols]
    options = {"compression": None, "max_size": None, "subprotocols": names, **options}
    return open_websocket(f"ws://127.0.0.1:{port}{SESSION}", **options)


def ask(connection: ClientConnection, message: bytes | str) -> dict[str, Any]:
    """The reply to a message."""
    connection.send(message)
    return reply(connection)


def reply(connection: ClientConnection) -> dict[str, Any]:
    """The next message."""
    received: dict[str, Any] = json.loads(connection.recv(timeout=30))
    return received


@contextmanager
def serving(
    app: ASGIApp,
    monkeypatch: pytest.MonkeyPatch,
    *,
    seconds: float = 5.0,
    max_bytes: int = 1_000_000,
    room: Buffer | None = None,
) -> Iterator[uvicorn.Server]:
    """A server of an application in a thread, with the connections of the service.

    Args:
        app: ASGI application.
        monkeypatch: What undoes the settings at the end.
        seconds: Patience with clients, in seconds.
        max_bytes: Largest message, in bytes.
        room: What bounds the bytes of all messages.
    """
    for kind in (Connection, HttpProtocol, WebSocketProtocol):
        monkeypatch.setattr(kind, "seconds", seconds, raising=False)
    monkeypatch.setattr(HttpProtocol, "websocket_paths", frozenset({SESSION.encode()}))
    monkeypatch.setattr(WebSocketProtocol, "max_bytes", max_bytes, raising=False)
    monkeypatch.setattr(WebSocketProtocol, "room", room or Buffer(64_000_000), raising=False)
    config = uvicorn.Config(
        app,
        port=0,
        http=worker.connect,  # type: ignore[arg-type]
        ws=WebSocketProtocol,
        lifespan="off",
        log_config=None,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(timeout=10)
    assert not thread.is_alive()


def port_of(server: uvicorn.Server) -> int:
    """The port of a server from `serving`."""
    return int(server.servers[0].sockets[0].getsockname()[1])
