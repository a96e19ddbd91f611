"""The BentoML service: HTTP in, HTTP out. Estimating a mood is left to `service.estimator`.

The uploads and the WebSocket are routes of a Starlette application mounted on the service, not a `bentoml.api`, which
would answer a broken upload with a 500 in its own error format and write uploads to temporary files.

The workers import this module, and so does the process that starts them. That process needs no NumPy, OpenCV or ONNX
Runtime; they are therefore imported only when a worker is set up, and the service is ready a second earlier.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import mimetypes
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final, get_args

import bentoml
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from service import bundle, instance, logs, memory, metrics, openapi, problems, request_id, schema, worker
from service.access import AccessMiddleware, check_token
from service.admission import Buffer
from service.errors import OverloadedError
from service.parameters import Options
from service.security_headers import SecurityHeadersMiddleware
from service.settings import Settings
from service.upload import read_frames, read_image
from service.websocket_protocol import WebSocketProtocol

PORT: Final[int] = 8000
SETTINGS: Final[Settings] = Settings()

_PROCESSING_TIMEOUT: Final[float] = 60.0
"""Seconds that a request may take after it was received; far more than the queue allows."""

_logger = logging.getLogger(__name__)


async def upload_meaa_image(request: Request) -> Response:
    """`POST /upload-meaa-image`: the mood of the largest face, or a problem document."""
    return await _respond(request, _service().answer)


async def upload_meaa_frames(request: Request) -> Response:
    """`POST /upload-meaa-frames`: the moods of one person in several frames, or a problem document."""
    return await _respond(request, _service().answer_frames, counted=False)


async def _respond(
    request: Request, answer: Callable[[Request], Awaitable[BaseModel]], *, counted: bool = True
) -> Response:
    """The response to an upload.

    Args:
        request: Request.
        answer: Function from the request to the body of its response.
        counted: Whether an answered request is counted; if not, its frames are.
    """
    started = time.perf_counter()
    status, code = 500, "internal_server_error"
    try:
        body = await answer(request)
        response: Response = JSONResponse(body.model_dump())
        status, code = response.status_code, "ok"
    except problems.ANSWERABLE as error:
        response = problem = problems.respond(error)
        status, code = problem.status_code, problem.code
        if isinstance(error, OverloadedError):
            # A worker accepts all waiting connections at once; on a new connection the client may get a less busy one.
            response.headers["Connection"] = "close"
    except ClientDisconnect:
        response = Response(status_code=400)  # nobody reads it, but BentoML requires a response
        status, code = response.status_code, "disconnected"
    except Exception as error:
        # Not its message, which may quote the data that was being read.
        _logger.error("A request failed: %s (request %s)", logs.kind_and_place(error), request_id.current())
        response = problems.ProblemResponse(problems.from_status(status))
    finally:
        if counted or code != "ok":
            metrics.REQUESTS.labels(status=status, code=code).inc()
            metrics.DURATION.observe(time.perf_counter() - started)
    return response


async def meaa_session(websocket: WebSocket) -> None:
    """`GET /meaa-session`: a session over a WebSocket."""
    await _service().sessions.serve(websocket)


async def no_websocket(_: Request) -> Response:
    """`GET /meaa-session` without a handshake."""
    from service.session.live import upgrade_required

    return upgrade_required()


def _service() -> MoodEstimation:
    service: MoodEstimation = bentoml.get_current_service()
    return service


@functools.cache
def _openapi() -> bytes:
    return bytes(JSONResponse(openapi.openapi_document(SETTINGS)).body)


async def document(_: Request) -> Response:
    """`GET /docs.json`: the OpenAPI document."""
    return Response(_openapi(), media_type="application/json")


async def page(_: Request) -> Response:
    """`GET /`: the API page."""
    return HTMLResponse(openapi.PAGE)


@functools.cache
def _asset(path: str) -> bytes:
    return (Path(bentoml.__file__).parent / "_internal" / "server" / path.lstrip("/")).read_bytes()


async def asset(request: Request) -> Response:
    """`GET /static_content/...`: a file of the API page.

    BentoML would read the file anew for each client; thus it is in memory once, however slowly clients take it.
    """
    path = request.scope["path"]
    return Response(_asset(path), media_type=mimetypes.guess_type(path)[0])


def exposition(_: Request) -> Response:
    """`GET /metrics`: the metrics of all workers for Prometheus."""
    content, media_type = metrics.exposition()
    return Response(content, media_type=media_type)


api: Final = Starlette(
    routes=[
        Route(schema.UPLOAD_PATH, upload_meaa_image, methods=["POST"]),
        Route(schema.FRAMES_PATH, upload_meaa_frames, methods=["POST"]),
        WebSocketRoute(schema.SESSION_PATH, meaa_session),
        Route(schema.SESSION_PATH, no_websocket),
        Route(schema.OPENAPI_PATH, document),
        Route(schema.METRICS_PATH, exposition),
        Route(schema.PAGE_PATH, page),
        *(Route(path, asset) for path in openapi.PAGE_ASSETS),
    ]
)


# BentoML's own log files lose rows; see `service.prediction_log`. Its configuration may send the rows elsewhere.
_MONITORING: Final = {
    "enabled": SETTINGS.prediction_log is not None,
    "type": "service.prediction_log.PredictionLog",
    "options": {"path": str(SETTINGS.prediction_log), "days": SETTINGS.prediction_log_days},
}


@bentoml.service(
    name="mood_estimator",
    http={"port": PORT},
    workers=SETTINGS.workers or "cpu_count",
    traffic={"timeout": SETTINGS.read_seconds + _PROCESSING_TIMEOUT},
    metrics={"enabled": False},  # see `service.metrics`
    # An access log would keep clients' addresses; the reverse proxy may log them if they are wanted.
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ".*"},
    monitoring=_MONITORING,
    envs=[{"name": "BENTOML_DO_NOT_TRACK", "value": "True"}],
)
@bentoml.asgi_app(api)
class MoodEstimation:
    """Mood of a face in an image, and of a person over time; `service.schema` has the addresses."""

    def __init__(self) -> None:
        """Load the model bundle; see `service.settings` for what can be configured."""
        from service.estimator import STAGES, MoodEstimator
        from service.moods import MOODS
        from service.observation import RELIABLE
        from service.prediction_log import enabled, record
        from service.processing import Processing
        from service.session.live import CLOSES, LiveSessions
        from service.session.mood_filter import FilterSettings

        worker.harden()
        bento = MoodEstimation.bento  # type: ignore[attr-defined]  # the decorator turns the class into a service
        directory = bundle.find(bento, SETTINGS.bundle)
        trimmer = memory.Trimmer()
        self._processing = Processing(
            MoodEstimator.load(directory),
            FilterSettings.read(directory),
            SETTINGS,
            trimmer=trimmer,
            record=record if enabled() else None,
        )
        self._buffer = WebSocketProtocol.room = Buffer(SETTINGS.max_buffer, after_large=trimmer.schedule)
        self.sessions = LiveSessions(self._processing, SETTINGS)
        metrics.merge_ended()
        metrics.prepare(
            outcomes=openapi.outcomes(),
            refusals=problems.REFUSALS,
            stages=STAGES,
            moods=MOODS,
            reliabilities=(RELIABLE, *get_args(schema.Reason.__value__)),
            closes=CLOSES,
            model=self._processing.estimator.classifier.metadata,
        )
        logs.guard()

    async def answer(self, request: Request) -> schema.MoodResponse:
        """The response to an upload.

        Raises:
            MeaaError, HTTPException: The client caused an error or must handle it; see `service.problems`.
            ClientDisconnect: The client did not wait for the response.
        """
        check_token(request.headers.get("authorization", ""), SETTINGS.token)
        options = Options.of(request.query_params)
        async with self._admitted() as hold:
            data = await read_image(request, max_bytes=SETTINGS.max_bytes, seconds=SETTINGS.read_seconds, hold=hold)
            header = self._processing.read_header(data)
            del data  # the header holds what counts of it
            response = await self._processing.snapshot(header, options, request.is_disconnected)
        if response is None:
            raise ClientDisconnect
        return response

    async def answer_frames(self, request: Request) -> schema.FramesResponse:
        """The response to several frames of a session.

        Raises:
            MeaaError, HTTPException, ClientDisconnect: See `answer`; a frame's own errors are in the response.
        """
        from service.session import frames

        check_token(request.headers.get("authorization", ""), SETTINGS.token)
        async with self._admitted() as hold:
            sent = await read_frames(request, max_bytes=SETTINGS.max_bytes, seconds=SETTINGS.read_seconds, hold=hold)
            response = await frames.take(sent, self._processing, request.is_disconnected)
        if response is None:
            raise ClientDisconnect
        return response

    @contextlib.asynccontextmanager
    async def _admitted(self) -> AsyncIterator[Callable[[int], None]]:
        """Room for an upload, if the worker has time for it.

        Yields:
            See `Buffer.lease`.

        Raises:
            OverloadedError: It has neither; raised after a pause.
        """
        from service.processing import REFUSAL_PAUSE

        try:
            self._processing.check()
            with self._buffer.lease() as hold:
                yield hold
        except OverloadedError:
            await asyncio.sleep(REFUSAL_PAUSE)
            raise


instance.enter(SETTINGS)
# With this variable set, as in a container, BentoML does not replace a dead worker until all of them are dead.
os.environ.pop("BENTOML_CONTAINERIZED", None)
worker.use_bounded_connections(
    SETTINGS.read_seconds, max_message=SETTINGS.max_bytes, websocket_paths=[schema.SESSION_PATH]
)
# The outermost middleware comes first.
MoodEstimation.add_asgi_middleware(  # type: ignore[attr-defined]
    request_id.RequestIdMiddleware, source=SETTINGS.request_id
)
MoodEstimation.add_asgi_middleware(SecurityHeadersMiddleware)  # type: ignore[attr-defined]
MoodEstimation.add_asgi_middleware(AccessMiddleware, settings=SETTINGS)  # type: ignore[attr-defined]
if SETTINGS.cors_origins:
    MoodEstimation.add_asgi_middleware(  # type: ignore[attr-defined]
        CORSMiddleware,
        allow_origins=SETTINGS.cors_origins,
        allow_methods=["POST"],
        allow_headers=["Authorization", "Content-Type", request_id.HEADER],
        expose_headers=["Retry-After", request_id.HEADER],
    )
MoodEstimation.add_asgi_middleware(problems.ProblemMiddleware)  # type: ignore[attr-defined]
