"""Load on a server: many clients in one process, on connections that are kept, as light as asyncio allows.

A general HTTP client needs more of a core per request than the service's own HTTP layer does, and on two cores would
measure itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import Final

import numpy as np

LOST: Final[int] = 0
"""The status of a request whose connection broke before an answer came."""


@dataclass(frozen=True)
class Answer:
    """What became of a request.

    Attributes:
        status: HTTP status, or `LOST`.
        started: when it was sent, as `time.perf_counter` counts.
        seconds: from there to the last byte of the answer.
        retry_after: whether the answer says when to try again.
        again: whether it was sent on a connection used before: an idle connection may be closed by the server at
            any time (RFC 9112, section 9.6), so that a client repeats such a request by itself.
    """

    status: int
    started: float
    seconds: float
    retry_after: bool = False
    again: bool = False


def upload_request(image: bytes, path: str = "/upload-meaa-image", token: str | None = None) -> bytes:
    """The bytes of an upload as a browser or a phone's HTTP library sends it: a multipart body with one file."""
    boundary = b"meaa-load-5f1c"
    body = (
        b"--" + boundary + b'\r\nContent-Disposition: form-data; name="image"; filename="frame.jpg"\r\n'
        b"Content-Type: image/jpeg\r\n\r\n" + image + b"\r\n--" + boundary + b"--\r\n"
    )
    head = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
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
        port: on 127.0.0.1.
        requests: whole requests, heads and bodies; each client goes through them in turn.
        clients: how many, each on a connection of its own with one request in flight.
        seconds: for how long requests are sent; answers are waited for beyond.
        rate: requests per second of all clients together, spread evenly; a client whose answer is late sends its next
            request when it comes. None sends the next at once.
        patience: seconds after which an answer is given up, as `LOST`.
        answers: a list to put them into as they come, for another thread to see.

    Returns:
        An answer for each request, in the order of completion.
    """
    answers = [] if answers is None else answers
    asyncio.run(_run(port, requests, clients, seconds, rate, patience, answers))
    return answers


async def _run(
    port: int,
    requests: list[bytes],
    clients: int,
    seconds: float,
    rate: float | None,
    patience: float,
    answers: list[Answer],
) -> None:
    begin = time.perf_counter()
    interval = 0.0 if rate is None else clients / rate
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            first = begin + interval * number / clients
            client = _Client(port, patience)
            turns = requests[number % len(requests) :] + requests[: number % len(requests)]
            group.create_task(_send_until(client, turns, answers, first, begin + seconds, interval))


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
    """A client with a connection of its own, which it opens anew where it breaks."""

    def __init__(self, port: int, patience: float) -> None:
        self._port = port
        self._patience = patience
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, request: bytes) -> Answer:
        """Send a request and read its answer."""
        started, again = time.perf_counter(), self._streams is not None
        try:
            async with asyncio.timeout(self._patience):
                if self._streams is None:
                    self._streams = await asyncio.open_connection("127.0.0.1", self._port)
                reader, writer = self._streams
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.lower().split(b"\r\n")
                fields = dict(line.split(b": ", 1) for line in lines[1:] if b": " in line)
                await reader.readexactly(int(fields.get(b"content-length", b"0")))
        except (OSError, EOFError, TimeoutError):
            await self.close()
            return Answer(LOST, started, time.perf_counter() - started, again=again)
        if fields.get(b"connection") == b"close":
            await self.close()
        status = int(lines[0].split()[1])
        return Answer(status, started, time.perf_counter() - started, b"retry-after" in fields, again)

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self._streams is not None:
            writer = self._streams[1]
            self._streams = None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def percentile(answers: list[Answer], share: float) -> float:
    """Seconds within which this share (in percent) of the answers came; not a number where there is none."""
    return float(np.percentile([answer.seconds for answer in answers], share)) if answers else float("nan")
