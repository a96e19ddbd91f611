"""Limits on unfinished requests and on overload: bad clients do not affect the others."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from benchmarks import load
from service.admission import Admission, Buffer
from service.errors import OverloadedError
from service.http_protocol import MAX_HEAD_BYTES
from tests.support.server import UPLOAD, Server

HEAD = f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"


def received(connection: socket.socket) -> bytes:
    """All bytes until the server closes the connection."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


@pytest.mark.slow
def test_a_client_that_stops_sending_gets_408_and_is_disconnected(server: Server, photo: bytes) -> None:
    sent = {
        "nothing": b"",
        "half a head": HEAD.encode(),
        "half a body": (HEAD + "Content-Length: 999\r\n\r\n").encode() + b"\xff\xd8",
        "a refused body": (HEAD + "Content-Length: 99999999\r\n\r\n").encode(),
        "a request and half a head": load.upload_request(photo) + HEAD.encode(),
    }
    with ExitStack() as stack:
        connections = {name: stack.enter_context(connect(server)) for name in sent}
        for name, connection in connections.items():
            connection.sendall(sent[name])
        answers = {name: received(connection) for name, connection in connections.items()}
    assert answers["nothing"] == b""
    assert answers["half a head"].startswith(b"HTTP/1.1 408 ")
    assert answers["half a body"].startswith(b"HTTP/1.1 408 ")
    assert answers["a refused body"].startswith(b"HTTP/1.1 413 ")
    assert b'"code":"request_timeout"' in answers["half a head"]
    assert answers["a request and half a head"].startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in answers["a request and half a head"]


def test_a_client_that_sends_its_head_too_slowly_gets_408(server: Server) -> None:
    with connect(server) as connection:
        connection.settimeout(0.2)
        connection.sendall(HEAD.encode())
        answer = b""
        deadline = time.monotonic() + 20
        while not answer and time.monotonic() < deadline:
            connection.sendall(b"X-Drop: x\r\n")
            try:
                answer = connection.recv(65536)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "drop", [b"X-Long: " + b"x" * 100_000, b"X: x\r\n" * 100_000], ids=["one long header", "many headers"]
)
def test_a_head_without_an_end_is_refused(server: Server, drop: bytes) -> None:
    assert len(drop) > MAX_HEAD_BYTES
    with connect(server) as connection:
        try:
            connection.sendall(HEAD.encode())
            time.sleep(0.1)
            for start in range(0, len(drop), 10_000):
                connection.sendall(drop[start : start + 10_000])
                time.sleep(0.01)
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert b"HTTP/1.1 431 " in received(connection)


def test_an_address_without_an_end_is_refused(server: Server) -> None:
    with connect(server) as connection:
        try:
            connection.sendall(b"GET /")
            for _ in range(10):
                time.sleep(0.02)
                connection.sendall(b"x" * 10_000)
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert b"HTTP/1.1 431 " in received(connection)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        (HEAD + "Transfer-Encoding: chunked\r\n\r\nZZ\r\nx\r\n0\r\n\r\n").encode(),
        b"GET / HTTP/9.9\r\n\r\n",
    ],
    ids=["TLS", "two lengths", "a negative length", "an invalid chunk size", "an unknown version"],
)
def test_anything_but_http_is_refused(server: Server, request_bytes: bytes) -> None:
    assert server.exchange(request_bytes)[0] in (400, 505)


def test_slow_senders_take_no_place_in_the_queue(guarded_server: Server, photo: bytes) -> None:
    headers = {"authorization": "Bearer open sesame"}
    with ExitStack() as stack:
        for _ in range(50):  # the server has a single place
            slow = stack.enter_context(connect(guarded_server))
            slow.sendall((HEAD + "Authorization: Bearer open sesame\r\nContent-Length: 999\r\n\r\n").encode() + b"\xff")
        assert guarded_server.client.post(UPLOAD, files={"image": photo}, headers=headers).status_code == 200


def test_a_refused_client_is_told_when_to_try_again(guarded_server: Server, photo: bytes) -> None:
    requests = [load.upload_request(photo, token="open sesame")]
    answers = load.run(guarded_server.port, requests, clients=8, seconds=1)
    assert {answer.status for answer in answers} == {200, 503}
    assert all(answer.retry_after for answer in answers if answer.status == 503)
    response = _first(503, guarded_server, photo)
    assert response.json()["code"] == "overloaded"
    assert int(response.headers["retry-after"]) >= 1
    assert response.headers["connection"] == "close"


def _first(status: int, server: Server, photo: bytes) -> httpx.Response:
    """The first response with this status to many concurrent uploads."""

    async def first() -> httpx.Response:
        async with httpx.AsyncClient(base_url=server.client.base_url, timeout=60) as client:
            headers = {"authorization": "Bearer open sesame"}
            tasks: list[Any] = [client.post(UPLOAD, files={"image": photo}, headers=headers) for _ in range(12)]
            return next(r for r in await asyncio.gather(*tasks) if r.status_code == status)

    return asyncio.run(first())


class TestBuffer:
    def test_the_bytes_of_all_requests_together_are_limited(self) -> None:
        buffer = Buffer(100)
        with buffer.lease() as first, buffer.lease() as second:
            first(60)
            second(40)
            with pytest.raises(OverloadedError):
                first(1)

    def test_a_request_that_ends_gives_back_what_it_held(self) -> None:
        buffer = Buffer(100)
        with buffer.lease() as hold:
            hold(90)
            with pytest.raises(OverloadedError):
                hold(90)
        with buffer.lease() as hold:
            hold(100)


class TestAdmission:
    """One thread, a longest wait of 0.15 seconds, and work that takes 0.1 seconds."""

    @staticmethod
    async def _never() -> bool:
        return False

    def _run(self, count: int, *, learned: bool = True, max_queue: int = 99) -> list[Any]:
        async def main() -> list[Any]:
            admission = Admission(threads=1, max_queue=max_queue, max_wait=0.15)
            for _ in range(20 if learned else 0):
                await admission.run(lambda: time.sleep(0.02), given_up=self._never)
            admission._seconds = 0.1 if learned else 0.0
            tasks = [admission.run(lambda: time.sleep(0.1) or "done", given_up=self._never) for _ in range(count)]
            return await asyncio.gather(*tasks, return_exceptions=True)

        return asyncio.run(main())

    def test_work_that_would_wait_too_long_is_refused_at_once(self) -> None:
        results = self._run(10)
        assert results[:2] == ["done", "done"]
        assert all(isinstance(result, OverloadedError) for result in results[2:])

    def test_the_queue_is_bounded_whatever_the_work_takes(self) -> None:
        results = self._run(5, learned=False, max_queue=3)
        assert results[:3] == ["done"] * 3
        assert all(isinstance(result, OverloadedError) for result in results[3:])

    def test_work_that_nobody_waits_for_is_not_done(self) -> None:
        async def gone() -> bool:
            return True

        done: Iterator[int] = iter([1])
        assert asyncio.run(Admission(threads=1, max_queue=9, max_wait=1).run(lambda: next(done), given_up=gone)) is None
        assert next(done) == 1
