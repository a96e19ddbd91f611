"""The service as its users meet it: a server process, and a client that talks to it through a socket."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.server import UPLOAD, RunningServer
from benchmarks.server import serve as start_server
from tests.conftest import ROOT

__all__ = ["UPLOAD", "Server", "reachable_at", "responses", "serve", "without_id"]


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        client: Client that sends requests to it.
        port: Port on 127.0.0.1.
        log: File with its output.
        prediction_log: Its prediction log; see `service.prediction_log`.
    """

    client: httpx.Client
    port: int
    log: Path
    prediction_log: Path

    def upload(self, image: bytes, field: str = "image") -> httpx.Response:
        """The response to an image in a multipart field."""
        return self.client.post(UPLOAD, files={field: image})

    def exchange(self, request: bytes) -> tuple[int, bytes]:
        """The status and body of the response to bytes that are sent unchanged."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(request)
            response = http.client.HTTPResponse(connection)
            response.begin()
            return response.status, response.read()


def responses(server: Server, photo: bytes) -> list[httpx.Response]:
    """One response of every kind."""
    client = server.client
    return [
        server.upload(photo),
        server.upload(b"no image"),
        client.post(UPLOAD, json={}),
        client.get(UPLOAD),
        client.get("/nowhere"),
        *(client.get(path) for path in ("/", "/docs.json", "/static_content/swagger-ui.css", "/metrics", "/readyz")),
    ]


def reachable_at(server: RunningServer) -> set[str]:
    """Where the processes of a server accept connections or datagrams: addresses of the network, and Unix sockets."""
    parent = psutil.Process(server.process.pid)
    processes = [parent, *parent.children(recursive=True)]
    sockets = [own for process in processes for own in process.net_connections("all")]
    own = {own.laddr for own in sockets if own.family == socket.AF_UNIX and own.laddr}
    return own | {
        f"{own.type.name} {own.laddr.ip}:{own.laddr.port}"
        for own in sockets
        if own.family != socket.AF_UNIX and not own.raddr
    }


def without_id(response: httpx.Response) -> dict[str, Any]:
    """A JSON response without the id of its request, which is another one each time."""
    return {name: value for name, value in response.json().items() if name != "request"}


@contextmanager
def serve(
    directory: Path, target: str = "service.service:MoodEstimation", working_directory: Path = ROOT, **environment: str
) -> Iterator[Server]:
    """The service in a process of its own, started as `make serve` does.

    Args:
        directory: Directory for logs, temporary files, and BentoML's home.
        target: Argument of `bentoml serve`.
        working_directory: Working directory of the process.
        environment: Variables added to those of this process, whose own settings of the service are removed.
    """
    prediction_log, temporary = directory / "predictions.jsonl", directory / "tmp"
    temporary.mkdir(exist_ok=True)
    variables = {"MEAA_PREDICTION_LOG": str(prediction_log), "TMPDIR": str(temporary), **environment}
    with (
        start_server(directory, target, working_directory=working_directory, environment=variables) as running,
        httpx.Client(base_url=running.url, timeout=60) as client,
    ):
        yield Server(client, running.port, running.log, prediction_log)
