"""Errors as HTTP: the one place where an error becomes a status and a problem document (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import request_id
from service.errors import (
    InvalidImageError,
    InvalidParameterError,
    MeaaError,
    MissingImageError,
    NoFaceError,
    OverloadedError,
    TooLargeError,
    TooManyImagesError,
    UnauthorizedError,
    UnsupportedEncodingError,
    UnsupportedTypeError,
)

MEDIA_TYPE: Final[str] = "application/problem+json"

STATUSES: Final[dict[type[MeaaError], HTTPStatus]] = {
    InvalidImageError: HTTPStatus.BAD_REQUEST,
    MissingImageError: HTTPStatus.BAD_REQUEST,
    InvalidParameterError: HTTPStatus.BAD_REQUEST,
    UnauthorizedError: HTTPStatus.UNAUTHORIZED,
    TooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    TooManyImagesError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    UnsupportedEncodingError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    NoFaceError: HTTPStatus.UNPROCESSABLE_ENTITY,
    OverloadedError: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""The status of each error; its code and title are attributes of its class."""

REFUSALS: Final[tuple[HTTPStatus, ...]] = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
)
"""The statuses of what is refused before the application is called; see `service.http_protocol`."""

HEADERS: Final[dict[type[MeaaError], dict[str, str]]] = {
    UnauthorizedError: {"WWW-Authenticate": "Bearer"},
    UnsupportedEncodingError: {"Accept-Encoding": "identity"},  # on no other 415 (RFC 9110, section 15.5.16)
    OverloadedError: {"Retry-After": "1"},  # seconds; the queue is short and drains in about one
}
"""The headers of the response to an error."""

ANSWERABLE: Final = (MeaaError, HTTPException)
"""The errors that `respond` accepts; any other exception is a fault of the service."""

_DETAILS: Final[dict[HTTPStatus, str]] = {
    HTTPStatus.BAD_REQUEST: "This is not an HTTP/1.1 request as RFC 9112 has it: its request line, a header field, its "
    "host, or the framing of its body is wrong.",
    HTTPStatus.NOT_FOUND: "There is nothing at this address. The endpoints are listed on the page at /.",
    HTTPStatus.UPGRADE_REQUIRED: "This address is a WebSocket: connect with the subprotocol `meaa.v1`.",
    HTTPStatus.METHOD_NOT_ALLOWED: "This address does not take this method; the header Allow lists those it takes.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The service failed; the fault is not in the request.",
}
"""Details for errors that the framework raises without one."""


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    type: str = Field(description="Names the kind of problem.", examples=["urn:problem-type:meaa:no_face"])
    title: str = Field(description="The kind of problem, for people.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What was wrong with this request, and what to do.")
    code: str = Field(description="The kind of problem, for programs; stable.")
    request: str = Field(
        default_factory=request_id.current,
        description=f"The id of the request, as in the header `{request_id.HEADER}`.",
    )


class ProblemResponse(JSONResponse):
    """A problem document as a response."""

    media_type = MEDIA_TYPE

    def __init__(self, problem: Problem, headers: dict[str, str] | None = None) -> None:
        headers = {**(headers or {}), request_id.HEADER: problem.request}
        super().__init__(problem.model_dump(), status_code=problem.status, headers=headers)
        self.code = problem.code


def respond(error: MeaaError | HTTPException) -> ProblemResponse:
    """The response to an error that a client caused or must handle."""
    if isinstance(error, HTTPException):
        return ProblemResponse(from_status(error.status_code, error.detail))
    problem = describe(type(error), str(error))
    return ProblemResponse(problem, HEADERS.get(type(error)))


def describe(kind: type[MeaaError], detail: str) -> Problem:
    """The problem document of a typed error."""
    return Problem(type=_type(kind.code), title=kind.title, status=STATUSES[kind], detail=detail, code=kind.code)


def from_status(status: int, detail: str | None = None) -> Problem:
    """The problem document of an error that is known only by its HTTP status; the code is the status' name."""
    known = HTTPStatus(status)
    code = known.phrase.lower().replace(" ", "_")
    detail = detail or _DETAILS.get(known, known.description or known.phrase)
    return Problem(type=_type(code), title=known.phrase, status=status, detail=detail, code=code)


def _type(code: str) -> str:
    return f"urn:problem-type:meaa:{code}"


class ProblemMiddleware:
    """Turns the framework's own error responses into problem documents.

    Starlette and BentoML report unknown paths, wrong methods, failed health checks and faults of the service as plain
    text or as JSON of their own; clients should have to read only one kind of error.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; replace the response if it is an error but not a problem document."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        replaced = False

        async def send_problem_instead(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and message["status"] >= 400:
                headers = Headers(raw=message["headers"])
                replaced = not headers.get("content-type", "").startswith(MEDIA_TYPE)
                if replaced:
                    kept = {name: headers[name] for name in ("allow", "retry-after") if name in headers}
                    response = ProblemResponse(from_status(message["status"]), kept)
                    await response(scope, receive, send)
            if not replaced:
                await send(message)

        await self._app(scope, receive, send_problem_instead)
