"""The service as its users meet it: a server process, and a client that talks to it through a socket."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from service.estimator import MoodEstimator
from tests.conftest import ROOT
from tests.service.pictures import Pixels, encode

UPLOAD = "/upload-meaa-image"


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
        directory: for logs, and for BentoML's home.
        target: what `bentoml serve` is told to serve.
        working_directory: where it is told so.
        environment: variables beside those of this process; of the latter those of the service are left out.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log, prediction_log = directory / "server.log", directory / "predictions.jsonl"
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MEAA_")},
        "BENTOML_HOME": str(directory / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "MEAA_PREDICTION_LOG": str(prediction_log),
        **environment,
    }
    command = [sys.executable, "-m", "bentoml", "serve", target]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=working_directory, env=variables, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            _wait_until_ready(client, process, log)
            yield Server(client, port, log, prediction_log)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if client.get("/readyz").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"the server did not start:\n{log.read_text()}")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the default settings, but with less patience for slow senders."""
    with serve(tmp_path_factory.mktemp("server"), MEAA_READ_SECONDS="4") as running:
        yield running


@pytest.fixture(scope="session")
def guarded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a token and room for a single request."""
    with serve(tmp_path_factory.mktemp("guarded"), MEAA_TOKEN="open sesame", MEAA_MAX_QUEUE="1") as running:
        yield running


@pytest.fixture(scope="session")
def estimator() -> MoodEstimator:
    """The released bundle."""
    return MoodEstimator.load(ROOT / "bundle")


@pytest.fixture(scope="session")
def photo(astronaut: Pixels) -> bytes:
    """The astronaut as a JPEG."""
    return encode(astronaut)
