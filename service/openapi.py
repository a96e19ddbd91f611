"""The OpenAPI document of the API, and the page that shows it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from service import __version__, problems, request_id, schema
from service.errors import (
    InvalidImageError,
    InvalidParameterError,
    MeaaError,
    NoFaceError,
    TooManyImagesError,
    UnauthorizedError,
)
from service.parameters import DEFAULT_FACES, MAX_FACES, MAX_IMAGES
from service.settings import Settings
from service.upload import FIELDS

IMAGE_TYPES: Final[tuple[str, ...]] = ("image/jpeg", "image/png", "image/webp")

_STATUS_ONLY: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.INTERNAL_SERVER_ERROR)
"""Statuses of an upload that have no typed error; see `problems.from_status`."""

_REQUEST: Final[str] = "9f1c8a4be0d34c1f8c0a52e7d1b6a3f4"
"""Id of the request in the examples."""

_MODELS: Final = (
    schema.MoodResponse,
    schema.FramesResponse,
    schema.LiveAnswer,
    schema.LiveProblem,
    schema.LiveSummary,
    schema.LiveEnd,
    schema.LiveResume,
    problems.Problem,
)

_BINARY: Final = {"type": "string", "format": "binary"}

_REFERENCE: Final[str] = "#/components/schemas/"

# OpenAPI knows no WebSocket, and nothing refers to its messages: generators export what has a name here.
_LIVE_REPLY: Final = {
    "description": "A text message of a live session, from the service: the reply to an image, or the summary.",
    "oneOf": [{"$ref": _REFERENCE + model} for model in ("LiveAnswer", "LiveProblem", "LiveSummary")],
}


def openapi_document(settings: Settings) -> dict[str, Any]:
    """The API as an OpenAPI 3.1 document.

    It is written here because BentoML describes only what its own decorators declare, and those cannot express
    problem documents or a body that is either multipart or an image.

    Args:
        settings: Settings that decide whether clients need a token, and which addresses exist.
    """
    _, schemas = models_json_schema(
        [(model, "serialization") for model in _MODELS], ref_template=_REFERENCE + "{model}"
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "MEAA mood estimation",
            "version": __version__,
            "description": "The mood of a face in an image, and of a person over time: positive, negative, neutral or "
            "other.",
        },
        "servers": [{"url": "."}],
        "paths": {
            schema.UPLOAD_PATH: {"post": _upload_operation(settings)},
            schema.FRAMES_PATH: {"post": _frames_operation(settings)},
            schema.SESSION_PATH: {"get": _session_operation(settings)},
            "/healthz": {"get": _health_operation("Whether the service runs.")},
            "/livez": {"get": _health_operation("Whether the service runs (Kubernetes' liveness probe).")},
            "/readyz": {"get": _health_operation("Whether the service takes requests (Kubernetes' readiness probe).")},
            **_metrics_path(settings),
        },
        "components": {
            "schemas": {**schemas["$defs"], "LiveReply": _LIVE_REPLY},
            **({"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}} if settings.token else {}),
        },
    }


def outcomes() -> list[tuple[int, str]]:
    """Every status of an upload, with every code that it may carry."""
    typed = [(int(status), kind.code) for kind, status in problems.STATUSES.items()]
    untyped = [(int(status), problems.from_status(status).code) for status in _STATUS_ONLY]
    return [(200, "ok"), (400, "disconnected"), *typed, *untyped]


def _upload_operation(settings: Settings) -> dict[str, Any]:
    first, second = FIELDS
    fields = {
        first: {**_BINARY, "description": "A JPEG, PNG or WebP file."},
        second: {**_BINARY, "description": f"The same under another name, for clients that cannot send {first!r}."},
    }
    # Either name will do, but a schema that says so (`anyOf`) makes generators leave out the body.
    form = {"type": "object", "properties": fields, "required": [first]}
    return {
        "operationId": "upload_meaa_image",
        "summary": "The mood of the largest face in an image, or of all faces.",
        **_security(settings),
        "parameters": _upload_parameters(),
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": form},
                **{media_type: {"schema": _BINARY} for media_type in IMAGE_TYPES},
            },
        },
        "responses": {
            "200": _answer("A face was found.", "MoodResponse"),
            **_problem_responses(kind for kind in problems.STATUSES if kind is not TooManyImagesError),
        },
    }


def _upload_parameters() -> list[dict[str, Any]]:
    """The query of an upload."""
    parameters = {
        "faces": (
            {"type": "string", "enum": ["all"]},
            "The response is to list all people, in `people`, and not only the one with the largest face.",
        ),
        "max_faces": (
            {"type": "integer", "minimum": 1, "maximum": MAX_FACES, "default": DEFAULT_FACES},
            "Most people that it lists; of more, those with the largest faces.",
        ),
        "box": (
            {"type": "string", "pattern": r"^ *-?\d{1,7}(\.\d*)? *(, *-?\d{1,7}(\.\d*)? *){3}$"},
            "Where the face is, if the client knows: `x,y,width,height` in pixels of the upright image. It saves most "
            "of the time of the search. If no face is there, the whole image is searched. `faces=all` searches it "
            "anyway.",
        ),
    }
    return [
        {"name": name, "in": "query", "required": False, "schema": kind, "description": description}
        for name, (kind, description) in parameters.items()
    ]


def _frames_operation(settings: Settings) -> dict[str, Any]:
    fields = {
        FIELDS[0]: {
            "type": "array",
            "items": _BINARY,
            "minItems": 1,
            "maxItems": MAX_IMAGES,
            "description": "JPEG, PNG or WebP files in order of time: one part each, all under this name.",
        },
        "times": {
            "type": "string",
            "description": "Times of the images in seconds, rising, separated by commas. Without them the images are "
            "half a second apart.",
            "examples": ["0,0.25,0.5"],
        },
        "session": {
            "type": "string",
            "description": "What the response before gave back, if these frames go on with its session.",
        },
    }
    return {
        "operationId": "upload_meaa_frames",
        "summary": "The mood of one person in several frames, and over all of them.",
        "description": "A frame that is bad gets a problem in its place and does not spoil the others. The service "
        "keeps nothing between two requests: the session is in the response, and comes back with the next request.",
        **_security(settings),
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {"type": "object", "properties": fields, "required": [FIELDS[0]]},
                }
            },
        },
        "responses": {
            "200": _answer("The frames were looked at, one by one.", "FramesResponse"),
            **_problem_responses(kind for kind in problems.STATUSES if kind not in (InvalidImageError, NoFaceError)),
        },
    }


def _session_operation(settings: Settings) -> dict[str, Any]:
    """The WebSocket, as far as OpenAPI can say: the handshake. The messages are described in words and as types."""
    description = (
        f"A WebSocket with the subprotocol `{schema.SUBPROTOCOL}`. The client sends each frame as a binary message, "
        "one image each. The service replies to each with one text message, in order: `LiveAnswer`, or `LiveProblem`; "
        'a bad frame or an overload costs that frame, not the session. The text message `{"type": "end"}` ends the '
        "session: the last message is `LiveSummary`, then the service closes with 1000. The text message `LiveResume` "
        "before all frames goes on with an earlier session. Other close codes: 1001 (the session was idle or has "
        "become too long), 1008 (too many frames a second, too slow a message, too many tiny frames, or another text "
        "message), 1009 (a message has too many bytes), 1011 (a fault of the service), 1012 (the worker stops; the "
        "last message is `LiveSummary`), 1013 (too many sessions). A token is sent in the header, or as "
        f"`{schema.BEARER}TOKEN` in a second subprotocol."
    )
    statuses = [HTTPStatus.FORBIDDEN, HTTPStatus.UPGRADE_REQUIRED, HTTPStatus.INTERNAL_SERVER_ERROR]
    refusals = [problems.from_status(status) for status in statuses]
    typed = [InvalidParameterError, *([UnauthorizedError] if settings.token else [])]
    return {
        "operationId": "meaa_session",
        "summary": "The mood of one person, live: a WebSocket.",
        "description": description,
        **_security(settings),
        "responses": {
            "101": {"description": "The connection is a WebSocket now."},
            **_problem_responses(typed, refusals),
        },
        "x-websocket": {
            "subprotocol": schema.SUBPROTOCOL,
            "receives": {
                "binary": "An image.",
                "text": {"oneOf": [{"$ref": _REFERENCE + name} for name in ("LiveEnd", "LiveResume")]},
            },
            "sends": {"$ref": f"{_REFERENCE}LiveReply"},
        },
    }


def _answer(description: str, model: str) -> dict[str, Any]:
    return {
        "description": description,
        "headers": _headers(request_id.HEADER),
        "content": {"application/json": {"schema": {"$ref": _REFERENCE + model}}},
    }


def _security(settings: Settings) -> dict[str, Any]:
    return {"security": [{"token": []}]} if settings.token else {}


def _problem_responses(
    kinds: Iterable[type[MeaaError]], others: Iterable[problems.Problem] | None = None
) -> dict[str, Any]:
    """Error responses by status; each lists its possible codes.

    Args:
        kinds: Typed errors of the operation.
        others: Problems that have only a status; by default those of an upload.
    """
    kinds = list(kinds)
    typed = [problems.describe(kind, kind.__doc__ or kind.title) for kind in kinds]
    untyped = [problems.from_status(status) for status in _STATUS_ONLY] if others is None else [*others]
    documented = _by_status([*typed, *untyped, *_refusals()])
    for kind, headers in problems.HEADERS.items():
        if kind in kinds:
            documented[str(int(problems.STATUSES[kind]))]["headers"] |= _headers(*headers)
    return documented


def _refusals() -> list[problems.Problem]:
    """The problems that any request may get before the service sees it."""
    return [problems.from_status(status) for status in problems.REFUSALS]


def _by_status(documents: list[problems.Problem]) -> dict[str, Any]:
    by_code: dict[int, dict[str, problems.Problem]] = {}
    for problem in documents:
        by_code.setdefault(problem.status, {})[problem.code] = problem
    return {str(status): _problem_response(by_code[status]) for status in sorted(by_code)}


def _problem_response(by_code: dict[str, problems.Problem]) -> dict[str, Any]:
    values = {code: {**problem.model_dump(), "request": _REQUEST} for code, problem in by_code.items()}
    return {
        "description": "; ".join(f"`{code}`: {problem.title}" for code, problem in by_code.items()),
        "headers": _headers(request_id.HEADER),
        "content": {
            problems.MEDIA_TYPE: {
                "schema": {"$ref": f"{_REFERENCE}Problem"},
                "examples": {code: {"value": value} for code, value in values.items()},
            }
        },
    }


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"schema": {"type": "string"}} for name in names}


def _health_operation(summary: str) -> dict[str, Any]:
    ok = {
        "description": "OK",
        "headers": _headers(request_id.HEADER),
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
    return {"summary": summary, "responses": {"200": ok, **_by_status(_refusals())}}


def _metrics_path(settings: Settings) -> dict[str, Any]:
    """The path of the metrics; empty if they are switched off."""
    if settings.metrics == "off":
        return {}
    operation = _health_operation("Metrics for Prometheus.")
    if settings.metrics == "token":
        operation |= _security(settings)
        operation["responses"]["401"] = _problem_responses([UnauthorizedError])["401"]
    return {schema.METRICS_PATH: {"get": operation}}


PAGE_ASSETS: Final[tuple[str, str]] = ("/static_content/swagger-ui.css", "/static_content/swagger-ui-bundle.js")
"""The files that the page loads; they come with BentoML."""

PAGE_SCRIPT: Final[str] = f'SwaggerUIBundle({{url: {json.dumps("." + schema.OPENAPI_PATH)}, dom_id: "#swagger-ui"}});'
"""The page's own script."""

# BentoML's own page includes Google Tag Manager; this one uses the same assets without it.
PAGE: Final[str] = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>MEAA mood estimation</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href=".{PAGE_ASSETS[0]}">
</head>
<body>
<div id="swagger-ui"></div>
<script src=".{PAGE_ASSETS[1]}"></script>
<script>{PAGE_SCRIPT}</script>
</body>
</html>
"""
"""The API page."""
