"""The security headers of every response (OWASP, HTTP Security Response Headers Cheat Sheet).

TLS and its headers are left to the reverse proxy.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import openapi, schema

_POLICY: Final[str] = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

HEADERS: Final[dict[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Content-Security-Policy": _POLICY,
}
"""The headers of every response but the API page's, whose policy admits more."""

# Swagger UI sets styles and draws its icons from data URLs; the page's one inline script is named by its digest.
_PAGE_POLICY: Final[str] = (
    f"{_POLICY}; connect-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self' "
    f"'sha256-{base64.b64encode(hashlib.sha256(openapi.PAGE_SCRIPT.encode()).digest()).decode()}'"
)


class SecurityHeadersMiddleware:
    """Sets the security headers on every HTTP response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; set the headers if it is HTTP."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = HEADERS
        if scope["path"] == schema.PAGE_PATH:
            headers = {**HEADERS, "Content-Security-Policy": _PAGE_POLICY}

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(raw=message.setdefault("headers", [])).update(headers)
            await send(message)

        await self._app(scope, receive, send_with_headers)
