"""What connections may hold and how they end: no client takes memory or places from others, none loses a response."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psutil
import pytest
import uvicorn

from benchmarks.server import HOST, RunningServer
from benchmarks.server import serve as start_server
from service import worker
from service.connections import CONNECTION_BYTES, MAX_CONNECTIONS, Account, Connection
from service.http_protocol import MAX_FIELDS, MAX_PIPELINED, HttpProtocol
from tests.support.raw_http import SENTINEL, connect, exchange, parse, received
from tests.support.server import UPLOAD

POST = f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n".encode()
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
PROBE = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
ASSET = b"GET /static_content/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
AUTHORIZED = b"Authorization: Bearer open sesame\r\n"

UNAUTHORIZED_BYTES = 64_000_000
"""Most memory that all clients without a token may claim together."""


@pytest.fixture(scope="module")
def worker_behind_a_token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of one worker that asks for a token, and has little patience."""
    directory = tmp_path_factory.mktemp("token")
    settings = {"MEAA_TOKEN": "open sesame", "MEAA_WORKERS": "1", "MEAA_READ_SECONDS": "3"}
    with start_server(directory, environment={"TMPDIR": str(directory), **settings}) as running:
        yield running


@contextlib.contextmanager
def growth(server: RunningServer) -> Iterator[Callable[[], int]]:
    """Watches the memory of a server's only worker.

    Yields:
        Function that gives its highest growth so far, in bytes.
    """
    (process,) = server.workers()
    before = process.memory_info().rss
    peak, ended = before, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.01):
            peak = max(peak, process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: peak - before
    finally:
        ended.set()
        thread.join()


def send_all(connections: list[socket.socket], data: bytes, seconds: float = 6.0) -> None:
    """Send as much of the same bytes on each connection as the server takes."""
    sent = dict.fromkeys(connections, 0)
    for connection in connections:
        connection.setblocking(False)
    end = time.monotonic() + seconds
    while sent and time.monotonic() < end:
        for connection in list(sent):
            try:
                sent[connection] += connection.send(data[sent[connection] :])
            except BlockingIOError:
                continue
            except OSError:
                sent[connection] = len(data)
            if sent[connection] == len(data):
                del sent[connection]


def connect_many(stack: ExitStack, port: int, count: int) -> list[socket.socket]:
    """Connections with the smallest receive buffers, so that responses that nobody reads stay at the server."""
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (limit, most))
    if most != resource.RLIM_INFINITY and most < 2 * count:
        pytest.skip(f"the system allows {most} open files, which is too few")
    connections = []
    for _ in range(count):
        connection = stack.enter_context(socket.socket())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_304)
        connection.connect((HOST, port))
        connections.append(connection)
    return connections


@pytest.mark.parametrize(
    ("unit", "total"),
    [
        pytest.param(b"a:\r\n", 16_000_000, id="short trailers"),
        pytest.param(b"a: " + b"x" * 20_000 + b"\r\n", 150_000_000, id="long trailers"),
        pytest.param(b"x" * 20_000, 150_000_000, id="a trailer without an end"),
    ],
)
@pytest.mark.parametrize("token", [b"", AUTHORIZED], ids=["no token", "a token"])
def test_trailers_take_no_memory(worker_behind_a_token: RunningServer, unit: bytes, total: int, token: bytes) -> None:
    head = POST + token + b"Transfer-Encoding: chunked\r\n\r\n"
    block = unit * (100_000 // len(unit))
    with growth(worker_behind_a_token) as grown, connect(worker_behind_a_token.port) as connection:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(head + b"3\r\nabc\r\n0\r\n")
            for _ in range(total // len(block)):  # most of it is dropped, and the rest not taken
                connection.sendall(block)
        answers = parse(received(connection))
        assert grown() < 10_000_000
    assert {answer.status for answer in answers} <= {401, 431}


@pytest.mark.slow
@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(POST + b"X: " + b"x" * 31_000, id="half a head"),
        pytest.param(POST + b"a:\r\n" * (MAX_FIELDS - 3), id="half a head of many fields"),
        pytest.param(POST + b"Content-Length: 9000000\r\n\r\n" + b"x" * 250_000, id="a body"),
        pytest.param(CHUNKED + b"3\r\nabc\r\n0\r\n" + b"a:\r\n" * 15_000, id="trailers"),
        pytest.param(PROBE * 300, id="many requests at once"),
        pytest.param(ASSET * MAX_PIPELINED, id="responses that are not read"),
        pytest.param(ASSET + POST + b"X: " + b"x" * 31_000, id="a response that is not read and half a head"),
    ],
)
def test_clients_without_a_token_claim_little_however_many_they_are(
    worker_behind_a_token: RunningServer, sent: bytes
) -> None:
    with growth(worker_behind_a_token) as grown, ExitStack() as stack:
        send_all(connect_many(stack, worker_behind_a_token.port, MAX_CONNECTIONS + 200), sent)
        time.sleep(0.5)
        assert [str(answer) for answer in exchange(worker_behind_a_token.port, SENTINEL)] == ["200"]
        assert grown() < UNAUTHORIZED_BYTES


@pytest.mark.slow
def test_who_comes_last_is_served_however_many_wait(worker_behind_a_token: RunningServer) -> None:
    with ExitStack() as stack:
        idle = connect_many(stack, worker_behind_a_token.port, MAX_CONNECTIONS + 100)
        begun = time.monotonic()
        assert [answer.status for answer in exchange(worker_behind_a_token.port, SENTINEL)] == [200]
        assert time.monotonic() < begun + 2
        assert idle[0].recv(1) == b""  # the one that had waited longest
        idle[-1].sendall(SENTINEL)
        assert [answer.status for answer in parse(received(idle[-1]))] == [200]


@pytest.mark.slow
def test_who_comes_last_is_served_however_many_uploads_are_half_sent(worker_behind_a_token: RunningServer) -> None:
    with ExitStack() as stack:
        uploads = connect_many(stack, worker_behind_a_token.port, MAX_CONNECTIONS + 100)
        send_all(uploads, POST + AUTHORIZED + b"Content-Length: 1000\r\n\r\nabc")
        assert [answer.status for answer in exchange(worker_behind_a_token.port, SENTINEL)] == [200]


@pytest.mark.slow
def test_a_response_that_nobody_reads_is_given_up_and_logged_nowhere(worker_behind_a_token: RunningServer) -> None:
    (process,) = worker_behind_a_token.workers()
    logged = worker_behind_a_token.log.read_bytes()
    with ExitStack() as stack:
        connections = connect_many(stack, worker_behind_a_token.port, 20)
        send_all(connections, ASSET * 400)
        time.sleep(1)
        assert len(established(process)) >= len(connections)
        time.sleep(5)
        assert len(established(process)) < len(connections) // 2
    assert worker_behind_a_token.log.read_bytes() == logged


def established(process: psutil.Process) -> list[Any]:
    return [own for own in process.net_connections("tcp") if own.raddr and own.status == psutil.CONN_ESTABLISHED]


def test_nothing_is_answered_twice(worker_behind_a_token: RunningServer) -> None:
    with connect(worker_behind_a_token.port) as connection:
        connection.sendall(CHUNKED + b"3\r\nabc\r\n")
        time.sleep(0.2)  # the request is refused meanwhile
        connection.sendall(b"ZZ\r\n" + SENTINEL)
        assert [str(answer) for answer in parse(received(connection))] == ["401 unauthorized"]


def test_a_token_in_a_trailer_is_none(worker_behind_a_token: RunningServer) -> None:
    sent = CHUNKED + b"3\r\nabc\r\n0\r\n" + AUTHORIZED + b"\r\n"
    assert str(exchange(worker_behind_a_token.port, sent, SENTINEL)[0]) == "401 unauthorized"


class TestAccount:
    """Room for 3 connections, and for 100 bytes beside them."""

    class _Connection:
        def __init__(self) -> None:
            self.aborted = False

        def abort(self) -> None:
            self.aborted = True

    def _account(self, count: int) -> tuple[Account, list[Any]]:
        account = Account(max_connections=3, max_bytes=3 * CONNECTION_BYTES + 100)
        connections: list[Any] = [self._Connection() for _ in range(count)]
        for connection in connections:
            account.add(connection)
        return account, connections

    def _aborted(self, connections: list[Any]) -> list[bool]:
        return [connection.aborted for connection in connections]

    def test_one_connection_too_many_costs_the_one_that_has_waited_longest(self) -> None:
        _, connections = self._account(4)
        assert self._aborted(connections) == [True, False, False, False]

    def test_one_byte_too_many_costs_it_too(self) -> None:
        account, connections = self._account(3)
        account.note(connections[2], 100)
        assert self._aborted(connections) == [False, False, False]
        account.note(connections[2], 101)
        assert self._aborted(connections) == [True, False, False]

    def test_a_connection_whose_request_is_answered_is_spared(self) -> None:
        account, connections = self._account(3)
        account.work(connections[0])
        account.note(connections[2], 101)
        assert self._aborted(connections) == [False, True, False]

    def test_waiting_begins_anew_with_each_response(self) -> None:
        account, connections = self._account(3)
        account.work(connections[0])
        account.wait(connections[0])
        account.note(connections[0], 101)
        assert self._aborted(connections) == [False, True, False]

    def test_what_a_closed_connection_held_is_free_again(self) -> None:
        account, connections = self._account(3)
        account.note(connections[0], 100)
        account.remove(connections[0])
        account.note(connections[1], 100)
        assert self._aborted(connections) == [False, False, False]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Responds with the body: a thousand times at `/large`, late at `/slow`, before reading it at `/refuse`."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})
        return
    body, more = b"", scope["path"] != "/refuse"
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    if scope["path"] == "/slow":
        await asyncio.sleep(0.8)
    if scope["path"] == "/large":
        body *= 1_000
    fields = [(b"content-length", b"%d" % len(body))] + ([(b"connection", b"close")] if not body else [])
    await send({"type": "http.response.start", "status": 200 if body else 503, "headers": fields})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(params=["uvloop", "asyncio"])
def echoing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[uvicorn.Server]:
    """A server of `echo` in a thread, with half a second's patience and WebSockets at `/live`."""
    monkeypatch.setattr(Connection, "seconds", 0.5, raising=False)
    monkeypatch.setattr(HttpProtocol, "seconds", 0.5, raising=False)
    monkeypatch.setattr(HttpProtocol, "websocket_paths", frozenset({b"/live"}))
    config = uvicorn.Config(
        echo,
        port=0,
        http=worker.connect,
        loop=request.param,
        lifespan="off",
        log_config=None,  # type: ignore[arg-type]
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server
    server.should_exit = True
    thread.join(timeout=5)
    assert not thread.is_alive()


def port_of(server: uvicorn.Server) -> int:
    return int(server.servers[0].sockets[0].getsockname()[1])


def upload(body: bytes, path: bytes = b"/", fields: bytes = b"") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n%b" % (path, fields, len(body), body)


def test_a_refusal_reaches_a_client_that_is_still_sending(echoing: uvicorn.Server) -> None:
    for _ in range(10):
        (answer,) = exchange(port_of(echoing), upload(bytes(8_000_000), b"/refuse"))
        assert answer.status == 503
        assert answer.fields["connection"] == "close"


def test_a_large_body_arrives_whole(echoing: uvicorn.Server) -> None:
    body = bytes(range(256)) * 20_000
    first, second, _ = exchange(
        port_of(echoing), upload(body) + upload(body[::-1], fields=b"Upgrade: h2c\r\n"), SENTINEL
    )
    assert first.body == body
    assert second.body == body[::-1]


def test_a_client_that_reads_slowly_gets_all_of_its_response(echoing: uvicorn.Server) -> None:
    with connect(port_of(echoing)) as connection:
        connection.sendall(upload(bytes(16_000), b"/large", b"Connection: close\r\n"))
        parts = []
        while part := connection.recv(400_000, socket.MSG_WAITALL):  # takes several times the server's patience
            parts.append(part)
            time.sleep(0.1)
        assert len(parse(b"".join(parts))[0].body) == 16_000_000


def test_a_client_that_does_not_read_at_all_loses_its_connection(echoing: uvicorn.Server) -> None:
    with ExitStack() as stack:
        (connection,) = connect_many(stack, port_of(echoing), 1)
        connection.sendall(upload(bytes(8_000), b"/large"))
        time.sleep(2)
        assert len(received(connection)) < 8_000_000


def test_what_is_no_request_does_not_cost_the_one_before_its_response(echoing: uvicorn.Server) -> None:
    answers = exchange(port_of(echoing), upload(b"first", b"/slow") + b"nonsense\r\n\r\n")
    assert [answer.body for answer in answers] == [b"first"]


def test_half_a_head_does_not_cost_the_one_before_its_response(echoing: uvicorn.Server) -> None:
    answers = exchange(port_of(echoing), upload(b"first", b"/slow") + b"GET / HTTP/1.1\r\n")
    assert [answer.body for answer in answers] == [b"first"]


def test_half_a_head_after_a_large_body_is_no_long_head(echoing: uvicorn.Server) -> None:
    with connect(port_of(echoing)) as connection:
        connection.sendall(upload(bytes(200_000)) + b"GET / HTTP/1.1\r\n")
        assert [answer.status for answer in parse(received(connection))] == [200, 408]


def test_a_bad_chunk_costs_the_upload_and_not_the_one_before(echoing: uvicorn.Server) -> None:
    bad = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"
    assert [str(answer) for answer in exchange(port_of(echoing), bad)] == ["400 bad_request"]
    answers = exchange(port_of(echoing), upload(b"first", b"/slow") + bad)
    assert [answer.body for answer in answers] == [b"first"]


def test_no_more_than_a_few_requests_wait_for_an_earlier_one(echoing: uvicorn.Server) -> None:
    answers = exchange(port_of(echoing), upload(b"first", b"/slow") + upload(b"x") * (MAX_PIPELINED + 10))
    assert [answer.body for answer in answers] == [b"first", *[b"x"] * MAX_PIPELINED]


def test_a_connection_that_is_kept_open_after_its_last_response_is_closed(echoing: uvicorn.Server) -> None:
    with connect(port_of(echoing)) as connection:
        connection.sendall(upload(bytes(500), b"/refuse")[:-1])
        assert [answer.status for answer in parse(received(connection))] == [503]
        time.sleep(1)
        with contextlib.suppress(ConnectionError):  # the first bytes may still find a socket to refuse them
            connection.sendall(b"x")
            time.sleep(0.1)
        with pytest.raises(ConnectionError):
            connection.sendall(b"x")


def test_the_end_of_the_server_waits_for_no_unfinished_request(echoing: uvicorn.Server) -> None:
    """The fixture asserts that the server ends in time."""
    with connect(port_of(echoing)) as half, connect(port_of(echoing)) as refused, connect(port_of(echoing)) as idle:
        half.sendall(b"GET / HTTP/1.1\r\n")
        refused.sendall(upload(bytes(500), b"/refuse")[:-1])
        refused.recv(1000)
        echoing.should_exit = True
        assert received(idle) == b""


def test_a_websocket_opens_at_its_own_path_only(echoing: uvicorn.Server) -> None:
    fields = (
        b"Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
    )
    with connect(port_of(echoing)) as connection:
        connection.sendall(b"GET /live?a=b HTTP/1.1\r\n" + fields)
        assert connection.recv(1000).startswith(b"HTTP/1.1 101 ")
        connection.sendall(b"\x88\x82\0\0\0\0\x03\xe8")  # the client's part of closing
        received(connection)
    assert [answer.status for answer in exchange(port_of(echoing), b"GET / HTTP/1.1\r\n" + fields)] == [503]
