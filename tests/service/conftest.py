"""The service as its users meet it: a server process, and a client that talks to it through a socket."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from benchmarks.server import UPLOAD
from benchmarks.server import serve as start_server
from service.estimator import MoodEstimator
from tests.conftest import ROOT
from tests.service.pictures import Pixels, encode

__all__ = ["UPLOAD", "Server", "serve"]


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        client: sends to it.
        port: on 127.0.0.1.
        log: what it printed.
        prediction_log: see `service.prediction_log`.
    """

    client: httpx.Client
    port: int
    log: Path
    prediction_log: Path

    def upload(self, image: bytes, field: str = "image") -> httpx.Response:
        """The response to an image in a multipart field."""
        return self.client.post(UPLOAD, files={field: image})

    def exchange(self, request: bytes) -> tuple[int, bytes]:
        """The status and body that come back for bytes sent as they are."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(request)
            response = http.client.HTTPResponse(connection)
            response.begin()
            return response.status, response.read()


@contextmanager
def serve(
    directory: Path, target: str = "service.service:MoodEstimation", working_directory: Path = ROOT, **environment: str
) -> Iterator[Server]:
    """The service in a process of its own, as `make serve` starts it.

    Args:
        directory: for logs, temporary files, and BentoML's home.
        target: what `bentoml serve` is told to serve.
        working_directory: where it is told so.
        environment: variables beside those of this process; of the latter those of the service are left out.
    """
    prediction_log, temporary = directory / "predictions.jsonl", directory / "tmp"
    temporary.mkdir(exist_ok=True)
    variables = {"MEAA_PREDICTION_LOG": str(prediction_log), "TMPDIR": str(temporary), **environment}
    with (
        start_server(directory, target, working_directory=working_directory, environment=variables) as running,
        httpx.Client(base_url=running.url, timeout=60) as client,
    ):
        yield Server(client, running.port, running.log, prediction_log)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the default settings, but with less patience for slow senders."""
    with serve(tmp_path_factory.mktemp("server"), MEAA_READ_SECONDS="3") as running:
        yield running


@pytest.fixture(scope="session")
def guarded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with two tokens, all closed that can be, one web page let in, and room for a single image."""
    with serve(
        tmp_path_factory.mktemp("guarded"),
        MEAA_TOKEN="open sesame, open simsim",
        MEAA_DOCS="off",
        MEAA_METRICS="token",
        MEAA_CORS_ORIGINS="https://clinic.example",
        MEAA_WORKERS="1",
        MEAA_MAX_QUEUE="1",
        MEAA_PREDICTION_LOG="/dev/full",
    ) as running:
        yield running


@pytest.fixture(scope="session")
def estimator() -> MoodEstimator:
    """The released bundle."""
    return MoodEstimator.load(ROOT / "bundle")


@pytest.fixture(scope="session")
def photo(astronaut: Pixels) -> bytes:
    """The astronaut as a JPEG."""
    return encode(astronaut)
