"""What a client, and the machine, notice of the running service: time to start, to answer, answers a second, memory."""

from __future__ import annotations

import http.client
import socket
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import load
from benchmarks.scenes import as_jpeg, scene
from benchmarks.server import HOST, RunningServer, serve
from benchmarks.speed.timing import Times

OK: Final = 200
_MEGABYTE: Final = 1e6
_PATIENCE_SECONDS: Final = 60
_LONGEST_SECONDS: Final = 60


def start_seconds(directory: Path, python: Path, starts: int) -> list[float]:
    """Seconds from the command to `/readyz` = 200, of several starts; one before them warms the disk.

    Args:
        directory: for the servers' logs.
        python: of the environment that serves.
        starts: how many.
    """
    taken = []
    for _ in range(starts + 1):
        with serve(directory, python=python) as server:
            taken.append(round(server.start_seconds, 2))
    return taken[1:]


def request_times(server: RunningServer, image: bytes, *, requests: int, warm_up: int) -> Times:
    """How long whole requests take to a single client, which sends the next one when it has the answer.

    Args:
        server: a running server.
        image: what is uploaded, again and again on one connection.
        requests: how many are timed; fewer where they take more than a minute together.
        warm_up: how many before them are not.
    """
    taken: list[float] = []
    deadline = time.perf_counter() + _LONGEST_SECONDS
    with _connect(server) as connection:
        request = load.upload_request(image)
        while len(taken) < warm_up + requests and (time.perf_counter() < deadline or len(taken) <= warm_up):
            started = time.perf_counter()
            _exchange(connection, request, server)
            taken.append((time.perf_counter() - started) * 1e3)
    return Times(tuple(taken[warm_up:]))


def throughput(server: RunningServer, image: bytes, *, clients: int, seconds: float) -> dict[str, Any]:
    """Answers a second to many clients, after two seconds of warm-up, and what the clients themselves cost.

    In the warm-up the clients find their workers: where one took most of the connections, it turns some away.
    """
    request, warm_up = load.upload_request(image), min(2.0, seconds)
    began, client_cpu = time.perf_counter(), time.process_time()
    answers = load.run(server.port, [request], clients=clients, seconds=warm_up + seconds)
    ended = time.perf_counter()
    client_cpu = (time.process_time() - client_cpu) * seconds / (ended - began)
    early = [answer for answer in answers if answer.started < began + warm_up]
    answers = [answer for answer in answers if answer.started >= began + warm_up]
    elapsed = ended - began - warm_up
    good = [answer for answer in answers if answer.status == OK]
    return {
        "clients": clients,
        "seconds": round(elapsed, 1),
        "per_second": round(len(good) / elapsed, 1),
        "errors": len(answers) - len(good),
        "errors_in_warm_up": sum(answer.status != OK for answer in early),
        **Times(tuple(answer.seconds * 1e3 for answer in good)).as_json(),
        "client_share_of_a_core": round(client_cpu / elapsed, 3),
    }


def memory(server: RunningServer, *, frames: int, sizes: int = 50, settled: int = 500) -> dict[str, Any]:
    """Resident memory of the largest worker while frames of many sizes go through.

    Args:
        server: a running server.
        frames: how many in all.
        sizes: of the frames, from 160 x 120 to 1920 x 1440.
        settled: after so many frames memory is noted for the first time.
    """
    widths = np.linspace(160, 1920, sizes).astype(int)
    requests = [load.upload_request(as_jpeg(scene(width, width * 3 // 4, 1).pixels)) for width in widths.tolist()]
    marks: dict[int, float] = {}
    with _connect(server) as connection:
        for sent in range(1, frames + 1):
            _exchange(connection, requests[sent % sizes], server)
            if sent in (settled, frames):
                marks[sent] = max(worker.memory_info().rss for worker in server.workers()) / _MEGABYTE
    return {
        "frames": frames,
        "sizes": sizes,
        "workers": len(server.workers()),
        "settled_after": settled,
        "settled_mb": round(marks[settled], 1),
        "resident_mb": round(marks[frames], 1),
        "growth_mb": round(marks[frames] - marks[settled], 1),
    }


def directory_megabytes(directory: Path) -> float:
    """What a directory takes on disk, in millions of bytes: whole blocks, as `du` counts, and each file once."""
    stats = [directory.lstat(), *(path.lstat() for path in directory.rglob("*"))]
    blocks = {(stat.st_dev, stat.st_ino): stat.st_blocks for stat in stats}
    return round(sum(blocks.values()) * 512 / _MEGABYTE, 1)


def _connect(server: RunningServer) -> socket.socket:
    connection = socket.create_connection((HOST, server.port), timeout=_PATIENCE_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _exchange(connection: socket.socket, request: bytes, server: RunningServer) -> None:
    """Send a request and read its answer.

    Raises:
        RuntimeError: it is not 200.
    """
    connection.sendall(request)
    response = http.client.HTTPResponse(connection)
    response.begin()
    body = response.read()
    if response.status != OK:
        raise RuntimeError(f"{response.status} to a good image: {body!r}; the server said:\n{server.log.read_text()}")
