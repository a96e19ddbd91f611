"""Access control: which addresses exist, and which requests need a token."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from service import openapi, problems, schema
from service.errors import InvalidParameterError, UnauthorizedError
from service.settings import Settings

_HEALTH_PATHS: Final[frozenset[str]] = frozenset({"/healthz", "/livez", "/readyz"})
_DOCS_PATHS: Final[frozenset[str]] = frozenset({schema.PAGE_PATH, schema.OPENAPI_PATH, *openapi.PAGE_ASSETS})


def check_token(authorization: str, tokens: tuple[str, ...]) -> None:
    """Check a bearer token; the time this takes reveals neither how much of it is right nor which token it resembles.

    Args:
        authorization: The `Authorization` header as Starlette decodes it (Latin-1); empty if there is none.
        tokens: Valid tokens; if there are none, every request is admitted.

    Raises:
        UnauthorizedError: The header carries none of the tokens.
    """
    scheme, _, token = authorization.partition(" ")
    sent = token.strip().encode("latin-1")  # the bytes that were sent
    matches = [hmac.compare_digest(sent, valid.encode()) for valid in tokens]  # a list, so that all are compared
    if tokens and (scheme.lower() != "bearer" or not any(matches)):
        raise UnauthorizedError("Send the header `Authorization: Bearer TOKEN` with a valid token.")


def check_handshake(headers: Headers, offered: Sequence[str], settings: Settings) -> None:
    """Check whether a WebSocket may be opened.

    A browser lets any page open one, and sends its origin: only pages of the service's own origin, and of those that
    the settings list, may. Clients that are no browsers send none.

    Args:
        headers: Headers of the handshake.
        offered: Subprotocols that the client offers.
        settings: Tokens and origins.

    Raises:
        HTTPException: The page may not call the service.
        InvalidParameterError: The subprotocol is not offered.
        UnauthorizedError: Neither the header nor a subprotocol has a valid token.
    """
    allowed = settings.cors_origins
    for origin in headers.getlist("origin"):
        own = origin.partition("://")[2]
        if "*" not in allowed and origin not in allowed and (not own or own.lower() != headers.get("host", "").lower()):
            raise HTTPException(HTTPStatus.FORBIDDEN, "Pages of this origin may not call the service.")
    if schema.SUBPROTOCOL not in offered:
        raise InvalidParameterError(f"Offer the subprotocol {schema.SUBPROTOCOL!r}.")
    if "authorization" in headers or not settings.token:
        check_token(headers.get("authorization", ""), settings.token)
        return
    tokens = [part.removeprefix(schema.BEARER) for part in offered if part.startswith(schema.BEARER)]
    token = tokens[0] if tokens else ""
    try:
        check_token(f"Bearer {token}", settings.token)
    except UnauthorizedError:
        # A subprotocol cannot hold every character; those that it cannot are percent-encoded.
        try:
            check_token(f"Bearer {unquote(token, 'latin-1')}", settings.token)
        except UnauthorizedError:
            raise UnauthorizedError(
                "Send the header `Authorization: Bearer TOKEN` with a valid token, or, in a browser, the subprotocol "
                f"`{schema.BEARER}TOKEN` beside `{schema.SUBPROTOCOL}`."
            ) from None


class AccessMiddleware:
    """Lets requests through to the service's own addresses only.

    BentoML adds addresses that nobody needs to see: a schema, and the assets of its own page.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._paths = {schema.UPLOAD_PATH, schema.FRAMES_PATH, schema.SESSION_PATH, *_HEALTH_PATHS}
        if settings.docs == "on":
            self._paths |= _DOCS_PATHS
        if settings.metrics != "off":
            self._paths.add(schema.METRICS_PATH)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "websocket" and scope["path"] != schema.SESSION_PATH:
            await send({"type": "websocket.close"})
        elif scope["type"] == "http":
            await self._handler(scope)(scope, receive, send)
        else:  # the session itself checks its token
            await self._app(scope, receive, send)

    def _handler(self, scope: Scope) -> ASGIApp:
        """The application that handles a request: the service, or a problem document."""
        if scope["path"] not in self._paths:
            return problems.ProblemResponse(problems.from_status(404))
        # The service itself checks the token of an upload, because it counts the request.
        if scope["path"] == schema.METRICS_PATH and self._settings.metrics == "token":
            try:
                check_token(Headers(scope=scope).get("authorization", ""), self._settings.token)
            except UnauthorizedError as error:
                return problems.respond(error)
        return self._app
