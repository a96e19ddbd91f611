"""The service in a process of its own, as `make serve` starts it: for the benchmarks, and for the tests of the API."""

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
from typing import Final

import psutil

ROOT: Final = Path(__file__).resolve().parents[1]
SERVICE: Final = "service.service:MoodEstimation"
UPLOAD: Final = "/upload-meaa-image"
HOST: Final = "127.0.0.1"

_START_SECONDS: Final = 120
_STOP_SECONDS: Final = 30

# Of this process, and not for the server's: the service's settings, the peers' packages (`make bench`), and the wish
# not to write bytecode, without which every start compiles BentoML anew.
_KEPT_BACK: Final = ("MEAA_", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")


@dataclass(frozen=True)
class RunningServer:
    """A server that said it was ready.

    Attributes:
        process: `bentoml serve`, the parent of the workers.
        port: on `HOST`.
        log: what it printed.
        start_seconds: from the command to `/readyz` = 200.
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


@contextmanager
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
        directory: for its log, and for BentoML's home.
        target: what `bentoml serve` is told to serve.
        working_directory: where it is told so.
        python: of the environment that it runs in.
        environment: variables beside those of this process; of the latter the service's own are left out.

    Raises:
        RuntimeError: it ended, or was not ready in time; the message has its log.
    """
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith(_KEPT_BACK)},
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
        _wait_until_ready(process, port, log)
        yield RunningServer(process, port, log, time.monotonic() - started)
    finally:
        process.terminate()
        process.wait(timeout=_STOP_SECONDS)


def _is_worker(process: psutil.Process) -> bool:
    try:
        return any("worker" in word for word in process.cmdline())
    except psutil.Error:  # it is no more
        return False


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection(HOST, port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == http.client.OK:
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.02)
    raise RuntimeError(f"the server did not start:\n{log.read_text()}")
