"""The worker process: its limits from the operating system, and its connections."""

from __future__ import annotations

import resource
from typing import Any

import uvicorn.config

from service.connections import MAX_CONNECTIONS, Connection
from service.http_protocol import HttpProtocol


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


def use_bounded_connections(seconds: float) -> None:
    """Make uvicorn use `connect`; BentoML leaves the choice of the protocol to it.

    Args:
        seconds: Time that a client has to send a head, and to read a part of a response, in seconds.
    """
    Connection.seconds = HttpProtocol.seconds = seconds
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{connect.__name__}"
