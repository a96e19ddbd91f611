"""Start time, response time, throughput, memory and disk usage of the running service."""

from __future__ import annotations

import http.client
import socket
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import load
from benchmarks.scenes import as_jpeg, scene
from benchmarks.server import HOST, RunningServer, serve
from benchmarks.speed.timing import Times, milliseconds

_MEGABYTE: Final = 1e6
_TIMEOUT_SECONDS: Final = 60
_MAX_SECONDS: Final = 60


def start_seconds(directory: Path, python: Path, starts: int) -> list[float]:
    """Seconds from the command to `/readyz` = 200, of several starts; an extra one before them warms the disk cache.

    Args:
        directory: Directory for the servers' logs.
        python: Interpreter of the environment that serves.
        starts: Number of starts.
    """
    seconds = []
    for _ in range(starts + 1):
        with serve(directory, python=python) as server:
            seconds.append(round(server.start_seconds, 2))
    return seconds[1:]


def request_times(server: RunningServer, image: bytes, *, requests: int, warm_up: int) -> Times:
    """Times of whole requests of a single client, which sends the next one on receiving a response.

    Args:
        server: Server under test.
        image: Image to upload, again and again on one connection.
        requests: Number of timed requests; fewer if all together take more than a minute.
        warm_up: Number of requests before them that are not timed.
    """
    times: list[float] = []
    deadline = time.perf_counter() + _MAX_SECONDS
    with connect(server) as connection:
        once = partial(exchange, connection, load.upload_request(image), server)
        while len(times) < warm_up + requests and (time.perf_counter() < deadline or len(times) <= warm_up):
            times.append(milliseconds(once))
    return Times(tuple(times[warm_up:]))


def throughput(server: RunningServer, image: bytes, *, clients: int, seconds: float) -> dict[str, Any]:
    """Answers per second to many clients after a warm-up of two seconds, and the CPU usage of the clients themselves.

    During the warm-up the connections spread over the workers: a worker that accepted most of them refuses some.
    """
    warm_up = min(2.0, seconds)
    began, client_cpu = time.perf_counter(), time.process_time()
    answers = load.run(server.port, [load.upload_request(image)], clients=clients, seconds=warm_up + seconds)
    total, client_cpu = time.perf_counter() - began, time.process_time() - client_cpu
    counted = [answer for answer in answers if answer.started >= began + warm_up]
    good = [answer for answer in counted if answer.status == load.OK]
    errors = Counter(answer.started >= began + warm_up for answer in answers if answer.status != load.OK)
    return {
        "clients": clients,
        "seconds": round(total - warm_up, 1),
        "per_second": round(len(good) / (total - warm_up), 1),
        "errors": errors[True],
        "errors_in_warm_up": errors[False],
        **Times(tuple(answer.seconds * 1e3 for answer in good)).as_json(),
        "client_share_of_a_core": round(client_cpu / total, 3),
    }


def memory(server: RunningServer, *, frames: int, sizes: int = 50, settled: int = 500) -> dict[str, Any]:
    """Resident memory of the largest worker while it answers frames of many sizes.

    Args:
        server: Server under test.
        frames: Number of frames.
        sizes: Number of frame sizes, from 160 x 120 to 1920 x 1440.
        settled: Number of frames before the first reading.
    """
    widths = np.linspace(160, 1920, sizes).astype(int)
    requests = [load.upload_request(as_jpeg(scene(width, width * 3 // 4, 1).pixels)) for width in widths.tolist()]
    resident: dict[int, float] = {}
    with connect(server) as connection:
        for sent in range(1, frames + 1):
            exchange(connection, requests[sent % sizes], server)
            if sent in (settled, frames):
                resident[sent] = max(worker.memory_info().rss for worker in server.workers()) / _MEGABYTE
    return {
        "frames": frames,
        "sizes": sizes,
        "workers": len(server.workers()),
        "settled_after": settled,
        "settled_mb": round(resident[settled], 1),
        "resident_mb": round(resident[frames], 1),
        "growth_mb": round(resident[frames] - resident[settled], 1),
    }


def directory_megabytes(directory: Path) -> float:
    """Disk usage of a directory in millions of bytes: whole blocks, as `du` counts, and each hard-linked file once."""
    stats = [directory.lstat(), *(path.lstat() for path in directory.rglob("*"))]
    blocks = {(stat.st_dev, stat.st_ino): stat.st_blocks for stat in stats}
    return round(sum(blocks.values()) * 512 / _MEGABYTE, 1)


def connect(server: RunningServer) -> socket.socket:
    """A connection to a server."""
    connection = socket.create_connection((HOST, server.port), timeout=_TIMEOUT_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def exchange(connection: socket.socket, request: bytes, server: RunningServer) -> None:
    """Send a request and read its response.

    Raises:
        RuntimeError: The status is not 200.
    """
    connection.sendall(request)
    response = http.client.HTTPResponse(connection)
    response.begin()
    body = response.read()
    if response.status != load.OK:
        raise RuntimeError(f"{response.status} to a good image: {body!r}; the server said:\n{server.log.read_text()}")
