"""The BentoML service: HTTP in, HTTP out. Estimating a mood is left to `service.estimator`.

`POST /upload-meaa-image` is a route of a Starlette application mounted on the service, not a `bentoml.api`, which
would answer a broken upload with a 500 in its own error format and write uploads to temporary files.

The workers import this module, and so does the process that starts them. That process needs no NumPy, OpenCV or ONNX
Runtime; they are therefore imported only when a worker is set up, and the service is ready a second earlier.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import mimetypes
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import bentoml
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from service import bundle, instance, logs, memory, metrics, problems, request_id, schema, worker
from service.access import AccessMiddleware, check_token
from service.admission import Admission, Buffer
from service.errors import OverloadedError
from service.security_headers import SecurityHeadersMiddleware
from service.settings import Settings
from service.upload import read_image

if TYPE_CHECKING:
    from service.estimator import Decoder, MoodEstimate
    from service.images import Frame
    from service.markers import Header

PORT: Final[int] = 8000
SETTINGS: Final[Settings] = Settings()

_PROCESSING_TIMEOUT: Final[float] = 60.0
"""Seconds that a request may take after it was received; far more than the queue allows."""

_REFUSAL_PAUSE: Final[float] = 0.05
"""Seconds before a request is refused. The pause slows down clients that ignore `Retry-After`, which would otherwise
take CPU from accepted requests: thirty such clients left a sixth of the capacity (measured)."""

_logger = logging.getLogger(__name__)


async def upload_meaa_image(request: Request) -> Response:
    """`POST /upload-meaa-image`: the mood of the largest face, or a problem document."""
    started = time.perf_counter()
    status, code = 500, "internal_server_error"
    try:
        answer = await bentoml.get_current_service().answer(request)
        response: Response = JSONResponse(answer.model_dump())
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
        metrics.REQUESTS.labels(status=status, code=code).inc()
        metrics.DURATION.observe(time.perf_counter() - started)
    return response


@functools.cache
def _openapi() -> bytes:
    return bytes(JSONResponse(schema.openapi_document(SETTINGS)).body)


async def openapi(_: Request) -> Response:
    """`GET /docs.json`: the OpenAPI document."""
    return Response(_openapi(), media_type="application/json")


async def page(_: Request) -> Response:
    """`GET /`: the API page."""
    return HTMLResponse(schema.PAGE)


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
        Route(schema.OPENAPI_PATH, openapi),
        Route(schema.METRICS_PATH, exposition),
        Route(schema.PAGE_PATH, page),
        *(Route(path, asset) for path in schema.PAGE_ASSETS),
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
    """Mood of a face in an image: `POST /upload-meaa-image`."""

    def __init__(self) -> None:
        """Load the model bundle; see `service.settings` for what can be configured."""
        from service.decoder import DecoderProcess
        from service.estimator import STAGES, MoodEstimator
        from service.moods import MOODS
        from service.prediction_log import enabled, record

        worker.harden()
        bento = MoodEstimation.bento  # type: ignore[attr-defined]  # the decorator turns the class into a service
        self._estimator = MoodEstimator.load(bundle.find(bento, SETTINGS.bundle))
        self._record = record if enabled() else None
        self._trimmer = memory.Trimmer()
        self._buffer = Buffer(SETTINGS.max_buffer, after_large=self._trimmer.schedule)
        self._admission = Admission(threads=SETTINGS.threads, max_queue=SETTINGS.max_queue, max_wait=SETTINGS.max_wait)
        # One at a time, so that large images neither take the threads of small ones nor add up in memory.
        self._large = Admission(
            threads=1, max_queue=SETTINGS.max_queue, max_wait=SETTINGS.max_wait, expected=SETTINGS.decode_seconds / 4
        )
        self._decoder = DecoderProcess(SETTINGS.decode_seconds)
        metrics.merge_ended()
        metrics.prepare(
            outcomes=schema.outcomes(),
            refusals=problems.REFUSALS,
            stages=STAGES,
            moods=MOODS,
            model=self._estimator.classifier.metadata,
        )
        logs.guard()

    async def answer(self, request: Request) -> schema.MoodResponse:
        """The response to an upload.

        Raises:
            MeaaError, HTTPException: The client caused an error or must handle it; see `service.problems`.
            ClientDisconnect: The client did not wait for the response.
        """
        from service.images import read_header

        check_token(request.headers.get("authorization", ""), SETTINGS.token)
        try:
            self._admission.check()
            with self._buffer.lease() as hold:
                data = await read_image(request, max_bytes=SETTINGS.max_bytes, seconds=SETTINGS.read_seconds, hold=hold)
                header = read_header(data, max_pixels=SETTINGS.max_pixels)
                del data  # the header holds what counts of it
                response = await self._take_turn(request, header)
        except OverloadedError:
            await asyncio.sleep(_REFUSAL_PAUSE)
            raise
        if response is None:
            raise ClientDisconnect
        return response

    async def _take_turn(self, request: Request, header: Header) -> schema.MoodResponse | None:
        """The response to an image, which waits for its turn; None if the client has gone.

        Raises:
            MeaaError: See `answer`.
        """
        from service.decoder import needs_process
        from service.images import load

        gone = request.is_disconnected
        if needs_process(header, self._estimator.detector.settings.working_side):
            work = functools.partial(self._estimate, functools.partial(self._decoder.load, header))
            try:
                return await self._large.run(work, given_up=gone, stop=self._decoder.stop)
            finally:
                self._trimmer.schedule()
        work = functools.partial(self._estimate, functools.partial(load, header))
        return await self._admission.run(work, given_up=gone)

    def _estimate(self, decode: Decoder) -> schema.MoodResponse:
        """Estimate the mood, count and log it: the part of a request that runs in a thread."""
        started, model = time.perf_counter(), self._estimator.classifier.metadata

        def record(frame: Frame, estimate: MoodEstimate | None) -> None:
            seconds = time.perf_counter() - started
            if self._record is not None:
                self._record(frame, estimate, model=model, seconds=seconds)

        estimate = self._estimator.estimate_decoded(
            decode,
            observe=lambda stage, seconds: metrics.STAGE_DURATION.labels(stage=stage).observe(seconds),
            inspect=record,
        )
        metrics.FACES.inc(estimate.face_count)
        metrics.PREDICTIONS.labels(mood=estimate.mood, model_version=model.version).inc()
        return schema.MoodResponse.of(estimate, model)


instance.enter(SETTINGS)
# With this variable set, as in a container, BentoML does not replace a dead worker until all of them are dead.
os.environ.pop("BENTOML_CONTAINERIZED", None)
worker.use_bounded_connections(SETTINGS.read_seconds)
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
