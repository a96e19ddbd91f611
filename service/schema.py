"""The API's contract: the response types, and the OpenAPI document and page made from them."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from service import __version__, problems, request_id
from service.moods import MOODS
from service.settings import Settings
from service.upload import FIELDS

if TYPE_CHECKING:  # not needed by the process that starts the workers
    from service.classifier import ClassifierMetadata
    from service.estimator import MoodEstimate

UPLOAD_PATH: Final[str] = "/upload-meaa-image"
PAGE_PATH: Final[str] = "/"
OPENAPI_PATH: Final[str] = "/docs.json"
METRICS_PATH: Final[str] = "/metrics"

_STATUS_ONLY: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.INTERNAL_SERVER_ERROR)
"""Statuses of an upload that have no typed error; see `problems.from_status`."""

IMAGE_TYPES: Final[tuple[str, ...]] = ("image/jpeg", "image/png", "image/webp")

_REQUEST: Final[str] = "9f1c8a4be0d34c1f8c0a52e7d1b6a3f4"
"""Id of the request in the examples."""


class FaceBox(BaseModel):
    """The face that was classified, in pixels of the upright image."""

    x: int = Field(ge=0, description="Left edge.")
    y: int = Field(ge=0, description="Upper edge.")
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    confidence: float = Field(ge=0, le=1, description="The detector's probability that this is a face.")


class Model(BaseModel):
    """The classifier that estimated the mood."""

    name: str = Field(examples=["mini_xception"])
    version: str = Field(description="Number of the release.", examples=["4"])
    digest: str = Field(
        description="SHA-256 of the classifier as it is served, in hexadecimal: it differs if a prediction may differ.",
        examples=["5f2c8d0e4b7a4f0f9b0c5c5a3e6d1b2f7a8e9c0d1f2a3b4c5d6e7f8091a2b3c4"],
    )


class MoodResponse(BaseModel):
    """The mood of the largest face in an image."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    mood: str = Field(json_schema_extra={"enum": list(MOODS)}, description="The mood with the highest probability.")
    probabilities: dict[str, float] = Field(
        description="Probability of each mood; they sum to 1.",
        json_schema_extra={
            "properties": {mood: {"type": "number", "minimum": 0, "maximum": 1} for mood in MOODS},
            "required": list(MOODS),
            "additionalProperties": False,
        },
    )
    face: FaceBox
    faces: int = Field(ge=1, description="How many faces the image shows.")
    model: Model
    request: str = Field(
        default_factory=request_id.current,
        description=f"The id of the request, as in the header `{request_id.HEADER}`.",
    )

    @classmethod
    def of(cls, estimate: MoodEstimate, model: ClassifierMetadata) -> MoodResponse:
        """The response for an estimate."""
        return cls(
            mood=estimate.mood,
            probabilities=estimate.probabilities,
            face=FaceBox.model_validate(estimate.face, from_attributes=True),
            faces=estimate.face_count,
            model=Model(name=model.name, version=model.version, digest=model.digest),
        )


def openapi_document(settings: Settings) -> dict[str, Any]:
    """The API as an OpenAPI 3.1 document.

    It is written here because BentoML describes only what its own decorators declare, and those cannot express
    problem documents or a body that is either multipart or an image.

    Args:
        settings: Settings that decide whether clients need a token, and which addresses exist.
    """
    _, schemas = models_json_schema(
        [(MoodResponse, "serialization"), (problems.Problem, "serialization")],
        ref_template="#/components/schemas/{model}",
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "MEAA mood estimation",
            "version": __version__,
            "description": "The mood of a face in an image: positive, negative, neutral or other.",
        },
        "servers": [{"url": "."}],
        "paths": {
            UPLOAD_PATH: {"post": _upload_operation(settings)},
            "/healthz": {"get": _health_operation("Whether the service runs.")},
            "/livez": {"get": _health_operation("Whether the service runs (Kubernetes' liveness probe).")},
            "/readyz": {"get": _health_operation("Whether the service takes requests (Kubernetes' readiness probe).")},
            **_metrics_path(settings),
        },
        "components": {
            "schemas": schemas["$defs"],
            **({"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}} if settings.token else {}),
        },
    }


def outcomes() -> list[tuple[int, str]]:
    """Every status of an upload, with every code that it may carry."""
    typed = [(int(status), kind.code) for kind, status in problems.STATUSES.items()]
    untyped = [(int(status), problems.from_status(status).code) for status in _STATUS_ONLY]
    return [(200, "ok"), (400, "disconnected"), *typed, *untyped]


def _upload_operation(settings: Settings) -> dict[str, Any]:
    binary = {"type": "string", "format": "binary"}
    first, second = FIELDS
    fields = {
        first: {**binary, "description": "A JPEG, PNG or WebP file."},
        second: {**binary, "description": f"The same under another name, for clients that cannot send {first!r}."},
    }
    # Either name will do, but a schema that says so (`anyOf`) makes generators leave out the body.
    form = {"type": "object", "properties": fields, "required": [first]}
    return {
        "operationId": "upload_meaa_image",
        "summary": "The mood of the largest face in an image.",
        **_security(settings),
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": form},
                **{media_type: {"schema": binary} for media_type in IMAGE_TYPES},
            },
        },
        "responses": {
            "200": {
                "description": "A face was found.",
                "headers": _headers(request_id.HEADER),
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/MoodResponse"}}},
            },
            **_problem_responses(),
        },
    }


def _security(settings: Settings) -> dict[str, Any]:
    return {"security": [{"token": []}]} if settings.token else {}


def _problem_responses() -> dict[str, Any]:
    """The error responses of the upload, by status; each lists its possible codes."""
    typed = [problems.describe(kind, kind.__doc__ or kind.title) for kind in problems.STATUSES]
    untyped = [problems.from_status(status) for status in _STATUS_ONLY]
    documented = _by_status([*typed, *untyped, *_refusals()])
    for kind, headers in problems.HEADERS.items():
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
                "schema": {"$ref": "#/components/schemas/Problem"},
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
        operation["responses"]["401"] = _problem_responses()["401"]
    return {METRICS_PATH: {"get": operation}}


PAGE_ASSETS: Final[tuple[str, str]] = ("/static_content/swagger-ui.css", "/static_content/swagger-ui-bundle.js")
"""The files that the page loads; they come with BentoML."""

PAGE_SCRIPT: Final[str] = f'SwaggerUIBundle({{url: {json.dumps("." + OPENAPI_PATH)}, dom_id: "#swagger-ui"}});'
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
