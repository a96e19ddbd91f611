"""The worker process: its limits from the operating system, and its connections."""

from __future__ import annotations

import resource
from collections.abc import Iterable
from typing import Any

import uvicorn.config

from service.connections import MAX_CONNECTIONS, Connection
from service.http_protocol import HttpProtocol
from service.websocket_protocol import WebSocketProtocol


def harden() -> None:
    """Forbid core dumps, and allow enough file descriptors for `MAX_CONNECTIONS`."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash must not write a face to disk
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else min(2 * MAX_CONNECTIONS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connect(**options: Any) -> Connection:
    """A new connection; uvicorn calls this with what it has to tell its protocol."""
    return Connection(HttpProtocol(**options))


def use_bounded_connections(seconds: float, *, max_message: int, websocket_paths: Iterable[str]) -> None:
    """Make uvicorn use `connect`, and our WebSockets; BentoML leaves the choice of the protocols to it.

    Args:
        seconds: Time that a client has to send a head or a message, and to read a part of a response, in seconds.
        max_message: Largest message of a WebSocket, in bytes.
        websocket_paths: Paths at which there are WebSockets.
    """
    Connection.seconds = HttpProtocol.seconds = WebSocketProtocol.seconds = seconds
    HttpProtocol.websocket_paths = frozenset(path.encode() for path in websocket_paths)
    WebSocketProtocol.max_bytes = max_message
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{connect.__name__}"
    uvicorn.config.WS_PROTOCOLS["auto"] = f"{WebSocketProtocol.__module__}:{WebSocketProtocol.__name__}"
