"""Load generator: many clients in one process on keep-alive connections, with as little overhead as asyncio allows.

A general HTTP client needs more CPU per request than the service's own HTTP layer; on two cores it would measure
itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks.server import HOST, UPLOAD

OK: Final = 200
NO_FACE: Final = 422
OVERLOADED: Final = 503
LOST: Final = 0
"""The status of a request whose connection broke before the response."""


@dataclass(frozen=True)
class Answer:
    """The outcome of a request.

    Attributes:
        status: HTTP status, or `LOST`.
        started: Time of sending, on the clock of `time.perf_counter`.
        seconds: Time from sending to the last byte of the response.
        retry_after: Whether the response has a Retry-After header.
    """

    status: int
    started: float
    seconds: float
    retry_after: bool = False


def upload_request(image: bytes, token: str | None = None, *, query: str = "") -> bytes:
    """The bytes of an upload as a browser or a phone's HTTP library sends it: a multipart body with one file.

    Args:
        image: Content of the file.
        token: Token of the client, if the server asks for one.
        query: Query of the address, with its question mark.
    """
    boundary = b"meaa-load-5f1c"
    body = (
        b"--" + boundary + b'\r\nContent-Disposition: form-data; name="image"; filename="frame.jpg"\r\n'
        b"Content-Type: image/jpeg\r\n\r\n" + image + b"\r\n--" + boundary + b"--\r\n"
    )
    head = [
        f"POST {UPLOAD}{query} HTTP/1.1",
        f"Host: {HOST}",
        f"Content-Type: multipart/form-data; boundary={boundary.decode()}",
        f"Content-Length: {len(body)}",
        *([f"Authorization: Bearer {token}"] if token else []),
    ]
    return ("\r\n".join(head) + "\r\n\r\n").encode() + body


def run(
    port: int,
    requests: list[bytes],
    *,
    clients: int,
    seconds: float,
    rate: float | None = None,
    patience: float = 60.0,
    answers: list[Answer] | None = None,
) -> list[Answer]:
    """Send requests from many clients for some time.

    Args:
        port: Port on 127.0.0.1.
        requests: Whole requests, heads and bodies; each client sends them in turn.
        clients: Number of clients, each with its own connection and one request in flight.
        seconds: Duration of sending; responses are awaited beyond it.
        rate: Requests per second of all clients together, evenly spaced. A client whose response is late sends its
            next request on receiving it. None: every client sends without a pause.
        patience: Timeout of a request in seconds; after it the request is `LOST`.
        answers: List to append to, so that another thread can watch it.

    Returns:
        An answer for each request, in the order of completion.
    """
    answers = [] if answers is None else answers

    async def run_clients() -> None:
        begin, end = time.perf_counter(), time.perf_counter() + seconds
        interval = 0.0 if rate is None else clients / rate
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                first = begin + interval * number / clients
                turns = requests[number % len(requests) :] + requests[: number % len(requests)]
                group.create_task(_send_until(_Client(port, patience), turns, answers, first, end, interval))

    asyncio.run(run_clients())
    return answers


async def _send_until(
    client: _Client, requests: list[bytes], answers: list[Answer], first: float, end: float, interval: float
) -> None:
    due, turn = first, 0
    while True:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        if time.perf_counter() >= end:
            break
        answers.append(await client.send(requests[turn % len(requests)]))
        turn += 1
        due = max(due + interval, time.perf_counter())
        if answers[-1].status == LOST:
            due += 0.05
    await client.close()


class _Client:
    """A client with its own connection, which it reopens after a failure."""

    def __init__(self, port: int, patience: float) -> None:
        self._port = port
        self._patience = patience
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, request: bytes) -> Answer:
        """Send a request and read its response."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._patience):
                if self._streams is None:
                    self._streams = await asyncio.open_connection(HOST, self._port)
                reader, writer = self._streams
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.lower().split(b"\r\n")
                fields = dict(line.split(b": ", 1) for line in lines[1:] if b": " in line)
                await reader.readexactly(int(fields.get(b"content-length", b"0")))
        except (OSError, EOFError, TimeoutError):
            await self.close()
            return Answer(LOST, started, time.perf_counter() - started)
        if fields.get(b"connection") == b"close":
            await self.close()
        status = int(lines[0].split()[1])
        return Answer(status, started, time.perf_counter() - started, b"retry-after" in fields)

    async def close(self) -> None:
        """Close the connection, if one is open."""
        if self._streams is not None:
            writer = self._streams[1]
            self._streams = None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def percentile(answers: list[Answer], share: float) -> float:
    """A percentile (0 to 100) of the response times in seconds; NaN for an empty list."""
    return float(np.percentile([answer.seconds for answer in answers], share)) if answers else float("nan")
