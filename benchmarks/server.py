"""The service in a process of its own, as `make serve` starts it: for the benchmarks, and for the tests of the API."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

ROOT: Final = Path(__file__).resolve().parents[1]
SERVICE: Final = "service.service:MoodEstimation"
UPLOAD: Final = "/upload-meaa-image"
HOST: Final = "127.0.0.1"

_START_SECONDS: Final = 120
_STOP_SECONDS: Final = 30

# The server does not inherit these: settings of the service, the baselines' packages (`make bench`), and the ban on
# bytecode, with which every start would compile BentoML anew.
_NOT_INHERITED: Final = ("MEAA_", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")


@dataclass(frozen=True)
class RunningServer:
    """A server that reported ready.

    Attributes:
        process: `bentoml serve`, the parent of the workers.
        port: Port on `HOST`.
        log: File with its output.
        start_seconds: Time from the command to `/readyz` = 200.
    """

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    start_seconds: float

    @property
    def url(self) -> str:
        """Address without a path."""
        return f"http://{HOST}:{self.port}"

    def workers(self) -> list[psutil.Process]:
        """The processes that answer requests."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if _is_worker(child)]


@contextlib.contextmanager
def serve(
    directory: Path,
    target: str = SERVICE,
    *,
    working_directory: Path = ROOT,
    python: Path = Path(sys.executable),
    environment: dict[str, str] | None = None,
) -> Iterator[RunningServer]:
    """Start the service on a free port and wait until it is ready; stop it at the end.

    Args:
        directory: Directory for its log and BentoML's home.
        target: Argument of `bentoml serve`.
        working_directory: Directory in which `bentoml serve` runs.
        python: Interpreter of the environment that serves.
        environment: Variables beside those inherited from this process.

    Raises:
        RuntimeError: The server ended, or was not ready in time; the message has its log.
    """
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)},
        "BENTOML_HOME": str(directory / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        **(environment or {}),
    }
    command = [str(python), "-m", "bentoml", "serve", target, "--host", HOST, "--port", str(port)]
    log = directory / "server.log"
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=working_directory, env=variables, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        while not ready(port):
            if process.poll() is not None or time.monotonic() > started + _START_SECONDS:
                raise RuntimeError(f"the server did not start:\n{log.read_text()}")
            time.sleep(0.02)
        yield RunningServer(process, port, log, time.monotonic() - started)
    finally:
        process.terminate()
        process.wait(timeout=_STOP_SECONDS)


def get(port: int, path: str, token: str | None = None) -> tuple[int, str]:
    """Status and body of a GET request on a connection of its own."""
    with contextlib.closing(http.client.HTTPConnection(HOST, port, timeout=10)) as connection:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        response = connection.getresponse()
        return response.status, response.read().decode()


def ready(port: int) -> bool:
    """Whether a server accepts requests."""
    try:
        return get(port, "/readyz")[0] == http.client.OK
    except (OSError, http.client.HTTPException):
        return False


def _is_worker(process: psutil.Process) -> bool:
    try:
        return any("worker" in word for word in process.cmdline())
    except psutil.Error:  # the process has ended
        return False
