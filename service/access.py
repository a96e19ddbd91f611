"""Access control: which addresses exist, and which requests need a token."""

from __future__ import annotations

import hmac
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service import problems, schema
from service.errors import UnauthorizedError
from service.settings import Settings

_HEALTH_PATHS: Final[frozenset[str]] = frozenset({"/healthz", "/livez", "/readyz"})
_DOCS_PATHS: Final[frozenset[str]] = frozenset({schema.PAGE_PATH, schema.OPENAPI_PATH, *schema.PAGE_ASSETS})


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


class AccessMiddleware:
    """Lets requests through to the service's own addresses only.

    BentoML adds addresses that nobody needs to see: a schema, and the assets of its own page.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._paths = {schema.UPLOAD_PATH, *_HEALTH_PATHS}
        if settings.docs == "on":
            self._paths |= _DOCS_PATHS
        if settings.metrics != "off":
            self._paths.add(schema.METRICS_PATH)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        elif scope["type"] == "http":
            await self._handler(scope)(scope, receive, send)
        else:
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
