"""What is seen from outside: which addresses exist, who may use them, and the headers on every response."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import problems, schema
from service.errors import UnauthorizedError
from service.settings import Settings

_HEALTH_PATHS: Final[frozenset[str]] = frozenset({"/healthz", "/livez", "/readyz"})
_DOCS_PATHS: Final[frozenset[str]] = frozenset({"/", schema.OPENAPI_PATH, *schema.PAGE_ASSETS})

_HEADERS: Final[dict[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
"""On every response (OWASP, HTTP Security Response Headers Cheat Sheet); TLS and its headers are the proxy's."""

_POLICY: Final[str] = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
# Swagger UI sets styles and draws its icons from data URLs; its one inline script is named by its digest.
_PAGE_POLICY: Final[str] = (
    f"{_POLICY}; connect-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self' "
    f"'sha256-{base64.b64encode(hashlib.sha256(schema.PAGE_SCRIPT.encode()).digest()).decode()}'"
)


def check_token(authorization: str, tokens: tuple[str, ...]) -> None:
    """Check a bearer token, in a time that does not tell how much of it is right, or of which token.

    Args:
        authorization: the header, empty where there is none; as Starlette decodes it, as Latin-1.
        tokens: of which one must be sent; none admits everybody.

    Raises:
        UnauthorizedError: the header carries none of them.
    """
    scheme, _, token = authorization.partition(" ")
    sent = token.strip().encode("latin-1")  # the bytes that were sent
    right = [hmac.compare_digest(sent, known.encode()) for known in tokens]  # a list: all of them, whichever is right
    if tokens and (scheme.lower() != "bearer" or not any(right)):
        raise UnauthorizedError("Send the header `Authorization: Bearer TOKEN` with a valid token.")


class PerimeterMiddleware:
    """Lets requests through to the addresses that exist, and puts the security headers on whatever comes back.

    BentoML adds addresses of its own (a schema, its page's assets), which nobody needs to see.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._paths = {schema.UPLOAD_PATH, *_HEALTH_PATHS}
        if settings.docs:
            self._paths |= _DOCS_PATHS
        if settings.metrics != "off":
            self._paths.add(schema.METRICS_PATH)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer that there is nothing."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        policy = _PAGE_POLICY if scope["path"] == "/" else _POLICY

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                headers.update({**_HEADERS, "Content-Security-Policy": policy})
            await send(message)

        await self._within(scope)(scope, receive, send_with_headers)

    def _within(self, scope: Scope) -> ASGIApp:
        """What answers a request: the service, or a problem document."""
        if scope["path"] not in self._paths:
            return problems.ProblemResponse(problems.from_status(404))
        # An upload's token is checked by the service, which counts the request.
        if scope["path"] == schema.METRICS_PATH and self._settings.metrics == "token":
            try:
                check_token(Headers(scope=scope).get("authorization", ""), self._settings.tokens)
            except UnauthorizedError as error:
                return problems.respond(error)
        return self._app
