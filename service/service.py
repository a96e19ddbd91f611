"""The BentoML service: HTTP in, HTTP out. What a mood is, and how it is found, is left to `service.estimator`.

`POST /upload-meaa-image` is a route of a Starlette application mounted on the service, not a `bentoml.api`: those
answer a broken upload with a 500 and their own error format, and write uploads to temporary files.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import anyio
import bentoml
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from service import bundle, metrics, problems, schema
from service.errors import OverloadedError, UnauthorizedError
from service.estimator import MoodEstimator
from service.prediction_log import Prediction, PredictionLog
from service.settings import Settings
from service.upload import read_image

PORT: Final[int] = 8000


async def upload_meaa_image(request: Request) -> Response:
    """`POST /upload-meaa-image`: the mood of the largest face, or a problem document."""
    started = time.perf_counter()
    status, code = 500, "internal_server_error"
    try:
        response: Response = JSONResponse((await bentoml.get_current_service().answer(request)).model_dump())
        status, code = response.status_code, "ok"
    except problems.ANSWERABLE as error:
        response = problem = problems.respond(error)
        status, code = problem.status_code, problem.code
    except ClientDisconnect:
        response = Response(status_code=400)  # nobody reads it, but BentoML waits for one
        status, code = response.status_code, "disconnected"
    finally:
        metrics.REQUESTS.labels(status=status, code=code).inc()
        metrics.DURATION.observe(time.perf_counter() - started)
    return response


async def openapi(_: Request) -> Response:
    """`GET /docs.json`: the OpenAPI document."""
    return JSONResponse(schema.openapi_document(bentoml.get_current_service().version))


async def page(_: Request) -> Response:
    """`GET /`: the API page."""
    return HTMLResponse(schema.PAGE)


api: Final = Starlette(
    routes=[
        Route(schema.UPLOAD_PATH, upload_meaa_image, methods=["POST"]),
        Route(schema.OPENAPI_PATH, openapi),
        Route("/", page),
    ]
)


@bentoml.service(
    name="mood_estimator",
    http={"port": PORT},
    # BentoML decodes the type as UTF-8 for its access log, and cuts the response off where a client's is not.
    logging={"access": {"request_content_type": False}},
    envs=[{"name": "BENTOML_DO_NOT_TRACK", "value": "True"}],
)
@bentoml.asgi_app(api)
class MoodEstimation:
    """Mood of a face in an image: `POST /upload-meaa-image`."""

    def __init__(self) -> None:
        """Load the model bundle; see `service.settings` for what the environment decides."""
        settings = Settings.from_environment()
        bento = MoodEstimation.bento  # type: ignore[attr-defined]  # of the service that the decorator makes
        self.version: str = str(bento.tag.version) if bento is not None else "checkout"
        self._settings = settings
        self._estimator = MoodEstimator.load(bundle.find(bento, settings.bundle))
        self._log = PredictionLog(settings.prediction_log) if settings.prediction_log else None
        self._threads = anyio.CapacityLimiter(settings.threads)
        self._admitted = 0

    async def answer(self, request: Request) -> schema.MoodResponse:
        """The response to an upload.

        Raises:
            MeaaError, HTTPException: see `service.problems`.
        """
        self._authorise(request)
        with self._admission():
            data = await read_image(request, max_bytes=self._settings.max_bytes, seconds=self._settings.read_seconds)
            # In a thread, so that the event loop goes on answering; NumPy, OpenCV and ONNX Runtime release the GIL.
            return await anyio.to_thread.run_sync(self._estimate, data, limiter=self._threads)

    def _estimate(self, data: bytes) -> schema.MoodResponse:
        """Estimate, count and log: the part of a request that runs in a thread."""
        estimate = self._estimator.estimate(data, max_pixels=self._settings.max_pixels)
        model = self._estimator.classifier.metadata
        metrics.PREDICTIONS.labels(mood=estimate.mood, model_version=model.version).inc()
        if self._log is not None:
            self._log.write(Prediction.of(estimate, model.version))
        return schema.MoodResponse.of(estimate, model)

    def _authorise(self, request: Request) -> None:
        """Check the bearer token, in a time that does not tell how much of it is right.

        Raises:
            UnauthorizedError: a token is set and the request does not carry it.
        """
        if self._settings.token is None:
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        # Starlette decodes headers as Latin-1; encoded so again, they are the bytes that were sent.
        right = hmac.compare_digest(token.strip().encode("latin-1"), self._settings.token.encode())
        if scheme.lower() != "bearer" or not right:
            raise UnauthorizedError("Send the header `Authorization: Bearer TOKEN` with a valid token.")

    @contextmanager
    def _admission(self) -> Iterator[None]:
        """A place among the requests that this worker holds at once; bounds its memory and the time spent waiting.

        Raises:
            OverloadedError: all places are taken.
        """
        if self._admitted >= self._settings.max_queue:
            raise OverloadedError("Too many requests are waiting. Try again in a moment.")
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1


MoodEstimation.add_asgi_middleware(problems.ProblemMiddleware)  # type: ignore[attr-defined]
