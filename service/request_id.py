"""The id of a request: in its response, its problem document, the service's log and the prediction log.

A label that arrives later is joined to the logged row by it. It is random, so that it leads to nobody.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Literal

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER: Final[str] = "X-Request-Id"

_ACCEPTED: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

_current: ContextVar[str] = ContextVar("request id")


def current() -> str:
    """The id of the request that is being handled; a new one if there is none, as before a head is complete."""
    return _current.get(None) or uuid.uuid4().hex


@contextmanager
def renewed() -> Iterator[None]:
    """Give what is done inside a random id of its own: each frame of a session has one."""
    token = _current.set(uuid.uuid4().hex)
    try:
        yield
    finally:
        _current.reset(token)


class RequestIdMiddleware:
    """Gives each request its id, and each HTTP response the header."""

    def __init__(self, app: ASGIApp, source: Literal["random", "client"]) -> None:
        """The middleware.

        Args:
            app: Application to wrap.
            source: Whether a client may choose the id; see `service.settings`.
        """
        self._app = app
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its id."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = Headers(scope=scope).get(HEADER, "") if self._source == "client" else ""
        request = sent if _ACCEPTED.fullmatch(sent) else uuid.uuid4().hex

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(raw=message.setdefault("headers", []))[HEADER] = request
            await send(message)

        token = _current.set(request)
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            _current.reset(token)
