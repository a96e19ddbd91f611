"""`service.websocket_protocol`: what a WebSocket may hold, how long it may take, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import time
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from service.admission import Buffer
from service.websocket_protocol import (
    ARRIVAL,
    DROPPED,
    MAX_TEXT_BYTES,
    MAX_WAITING,
    SMALL_FRAMES,
    STOPPING,
    WebSocketProtocol,
)
from tests.support import raw_http
from tests.support.websockets import connect, port_of, serving


async def sizes(scope: Any, receive: Any, send: Any) -> None:
    """Replies to each message with its size, -1 if it was dropped; slowly after a message that begins with `slow`."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept", "subprotocol": scope["subprotocols"][0]})
    while (message := await receive())["type"] == "websocket.receive":
        if STOPPING in message:
            await send({"type": "websocket.send", "text": "last"})
            await send({"type": "websocket.close", "code": 1012})
            return
        data = message.get("bytes") or b""
        if data.startswith(b"slow"):
            await asyncio.sleep(1.5)
        await send({"type": "websocket.send", "text": str(-1 if message[DROPPED] else len(data))})


async def flood(scope: Any, receive: Any, send: Any) -> None:
    """Sends without an end."""
    await receive()
    await send({"type": "websocket.accept", "subprotocol": scope["subprotocols"][0]})
    while True:
        await send({"type": "websocket.send", "text": "x" * 10_000})


def closed_with(connection: Any) -> int:
    """The code with which the server closes a connection."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            connection.recv(timeout=10)
    return int(connection.close_code)


def free_bytes(room: Buffer) -> int:
    """How many bytes fit."""
    return room._free


def test_messages_of_any_size_within_the_limit_arrive_whole_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(sizes, monkeypatch) as server, connect(port_of(server)) as connection:
        lengths = [0, 1, 125, 126, 65_535, 65_536, 300_000, 1_000_000]
        for length in lengths:
            connection.send(os.urandom(length))
        assert [int(connection.recv(timeout=10)) for _ in lengths] == lengths
        connection.send([b"in", b"", b"pieces"])
        assert connection.recv(timeout=10) == "8"


def test_a_message_over_the_limit_is_refused_with_1009_while_it_is_still_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Buffer(64_000_000)
    with serving(sizes, monkeypatch, room=room) as server:
        for _ in range(5):
            with connect(port_of(server)) as connection:
                with contextlib.suppress(ConnectionClosed):
                    connection.send(bytes(20_000_000))
                assert closed_with(connection) == 1009
    assert free_bytes(room) == 64_000_000


def test_a_message_in_many_pieces_over_the_limit_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(sizes, monkeypatch) as server, connect(port_of(server)) as connection:
        with contextlib.suppress(ConnectionClosed):
            connection.send(bytes(100_000) for _ in range(20))
        assert closed_with(connection) == 1009


def test_a_long_text_is_refused_with_1009(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(sizes, monkeypatch) as server, connect(port_of(server)) as connection:
        connection.send("x" * (MAX_TEXT_BYTES + 1))
        assert closed_with(connection) == 1009


def test_compression_is_not_negotiated(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(sizes, monkeypatch) as server, connect(port_of(server), compression="deflate") as connection:
        assert connection.protocol.extensions == []


def test_a_message_without_room_is_dropped_and_the_next_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Buffer(100_000)
    with serving(sizes, monkeypatch, room=room) as server, connect(port_of(server)) as connection:
        replies = []
        for length in (60_000, 300_000, 90_000):
            connection.send(bytes(length))
            replies.append(connection.recv(timeout=10))
        assert replies == ["60000", "-1", "90000"]
    assert free_bytes(room) == 100_000


def test_room_is_free_again_however_a_connection_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Buffer(1_000_000)
    with serving(sizes, monkeypatch, room=room) as server:
        with connect(port_of(server)) as connection:
            connection.send(b"slow" + bytes(100_000))
            connection.send(bytes(100_000))
            time.sleep(0.3)
            assert free_bytes(room) < 1_000_000
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.socket.close()
        with connect(port_of(server)) as connection:
            connection.socket.sendall(b"\x82\xff" + struct.pack("!Q", 500_000) + bytes(4) + bytes(200_000))
            time.sleep(0.3)
            assert free_bytes(room) < 900_000
            connection.socket.close()
        time.sleep(2)
        assert free_bytes(room) == 1_000_000


def test_a_message_that_does_not_end_is_given_up_with_1008(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(sizes, monkeypatch, seconds=0.5) as server, connect(port_of(server)) as connection:
        connection.socket.sendall(b"\x02\x80" + bytes(4))  # the first fragment, which is empty
        assert closed_with(connection) == 1008


def test_a_worker_that_is_slow_itself_gives_no_message_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(sizes, monkeypatch, seconds=0.5) as server, connect(port_of(server)) as connection:
        connection.send(b"slow")
        connection.send(b"12")
        connection.send([b"1", b"23"])
        assert [connection.recv(timeout=10) for _ in range(3)] == ["4", "2", "3"]


def test_many_small_messages_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(sizes, monkeypatch) as server, connect(port_of(server)) as connection:
        connection.send(b"slow")
        message = b"\x82\x81" + bytes(4) + b"x"
        connection.socket.sendall(message * (MAX_WAITING + 10))
        assert closed_with(connection) == 1008


def test_pings_are_answered_but_not_collected_for_a_client_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(sizes, monkeypatch, seconds=1.0) as server, connect(port_of(server)) as connection:
        assert connection.ping().wait(timeout=5)
    with (
        serving(flood, monkeypatch, seconds=1.0) as server,
        socket.create_connection(("127.0.0.1", port_of(server))) as raw,
    ):
        raw.sendall(
            b"GET /meaa-session HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
            b"Sec-WebSocket-Protocol: meaa.v1\r\n\r\n"
        )
        begun = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < begun + 10:
                raw.sendall((b"\x89\xfd" + bytes(4 + 125)) * 100)
                time.sleep(0.05)
        assert time.monotonic() < begun + 10  # the server gives the client up after a second


def test_a_worker_that_stops_lets_the_application_answer_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(sizes, monkeypatch) as server, connect(port_of(server)) as connection:
        connection.send(b"slow")
        connection.send(b"waits")
        time.sleep(0.3)
        server.should_exit = True
        assert connection.recv(timeout=5) == "4"  # but nothing that had not begun
        assert connection.recv(timeout=5) == "last"
        assert closed_with(connection) == 1012


def test_a_worker_that_stops_waits_for_no_application_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.websocket_protocol._STOP_SECONDS", 0.5)
    with serving(flood, monkeypatch) as server, connect(port_of(server)) as connection:
        connection.recv(timeout=5)
        server.should_exit = True
        assert closed_with(connection) == 1012


def test_what_is_no_websocket_frame_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(sizes, monkeypatch) as server:
        with connect(port_of(server)) as connection:
            connection.socket.sendall(b"\x82\x05hello")  # not masked
            assert closed_with(connection) == 1002
        with connect(port_of(server)) as connection:
            connection.socket.sendall(b"\x81\x81" + bytes(4) + b"\xff")  # not UTF-8
            assert closed_with(connection) == 1007
        with connect(port_of(server)) as connection:
            connection.send(b"still there")
            assert connection.recv(timeout=5) == "11"


def upgrade(*, line: bytes = b"GET /meaa-session HTTP/1.1", **fields: bytes | None) -> bytes:
    """An opening handshake, with other fields or without some."""
    names = {
        "host": b"x",
        "connection": b"Upgrade",
        "upgrade": b"websocket",
        "sec_websocket_version": b"13",
        "sec_websocket_key": b"MDEyMzQ1Njc4OWFiY2RlZg==",
        "sec_websocket_protocol": b"meaa.v1",
        **fields,
    }
    lines = [name.replace("_", "-").encode() + b": " + value for name, value in names.items() if value is not None]
    return b"\r\n".join([line, *lines, b"", b""])


def start(port: int) -> socket.socket:
    """A connection whose handshake is done and whose bytes are sent as they are."""
    connection = raw_http.connect(port)
    connection.sendall(upgrade())
    assert connection.recv(65_536).startswith(b"HTTP/1.1 101 ")
    return connection


PING = b"\x89\x80" + bytes(4)
PONG = b"\x8a\x80" + bytes(4)
PIECE = b"\x00\x81" + bytes(4) + b"x"
TEXT_PIECE = b"\x01\x80" + bytes(4)


@pytest.mark.parametrize(
    "frames",
    [PING * 40_000, PONG * 40_000, b"\x02\x80" + bytes(4) + PIECE * 40_000, TEXT_PIECE + b"\x00\x80\0\0\0\0" * 40_000],
    ids=["pings", "pongs", "pieces of an image", "pieces of a text"],
)
def test_a_flood_of_tiny_frames_ends_the_connection_and_holds_nobody_up(
    frames: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled = 0

    def counting(method: Any) -> Any:
        def handle(self: WebSocketProtocol, event: Any) -> None:
            nonlocal handled
            handled += 1
            method(self, event)

        return handle

    for name in ("handle_ping", "handle_pong", "handle_message"):
        monkeypatch.setattr(WebSocketProtocol, name, counting(getattr(WebSocketProtocol, name)))
    with serving(sizes, monkeypatch) as server, connect(port_of(server)) as connection:
        connection.socket.sendall(frames)
        assert closed_with(connection) == 1008
    assert 0 < handled < 10 * SMALL_FRAMES  # not 40,000


def test_a_client_may_send_a_ping_now_and_then_and_pieces_of_any_ordinary_size(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(sizes, monkeypatch) as server, connect(port_of(server)) as connection:
        for _ in range(50):
            assert connection.ping().wait(timeout=5)
        connection.send(bytes(1_000) for _ in range(900))
        assert connection.recv(timeout=10) == "900000"


def test_what_follows_broken_framing_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    protocols: list[WebSocketProtocol] = []
    made = WebSocketProtocol.connection_made

    def note(self: WebSocketProtocol, transport: asyncio.Transport) -> None:
        protocols.append(self)
        made(self, transport)

    monkeypatch.setattr(WebSocketProtocol, "connection_made", note)
    with serving(sizes, monkeypatch) as server, start(port_of(server)) as raw:
        with contextlib.suppress(ConnectionError):
            raw.sendall(b"\x83\x80" + bytes(4) + bytes(20_000_000))
        (protocol,) = protocols
        decoder = protocol.conn.connection._proto._frame_decoder  # type: ignore[union-attr]
        assert len(decoder.buffer) <= 300_000


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\xc2\x81" + bytes(4) + b"x", 1002),
        (b"\x82\xff" + b"\xff" * 8 + bytes(4), 1002),
        (b"\x82\xfe\x00\x01" + bytes(4) + b"x", 1002),
        (b"\x09\x80" + bytes(4), 1002),
        (b"\x89\xfe\x01\x00" + bytes(4 + 256), 1002),
        (b"\x80\x80" + bytes(4), 1002),
        (b"\x02\x80" + bytes(4) + b"\x82\x80" + bytes(4), 1002),
        (b"\x88\x81" + bytes(4) + b"x", 1002),
        (b"\x88\x82" + bytes(4) + b"\x03\xed", 1002),
        (b"\x01\x81" + bytes(4) + b"\xff", 1007),
    ],
    ids=[
        "compressed though nobody agreed to it",
        "a length beyond 63 bits",
        "a length in a longer form than needed",
        "a ping in pieces",
        "a long ping",
        "a piece of nothing",
        "a message within another",
        "half a close code",
        "a close code that is never sent",
        "text that is no UTF-8",
    ],
)
def test_frames_that_the_standard_forbids_end_the_connection(
    frame: bytes, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(sizes, monkeypatch) as server, connect(port_of(server)) as connection:
        connection.socket.sendall(frame)
        assert closed_with(connection) == code
        assert connection.protocol.close_rcvd is not None
        assert connection.protocol.close_rcvd.reason == "this is no WebSocket frame"  # nothing of what was sent


def test_frames_that_come_with_the_handshake_are_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(sizes, monkeypatch) as server, raw_http.connect(port_of(server)) as raw:
        raw.sendall(upgrade() + b"\x82\x85" + bytes(4) + b"hello")
        received = b""
        while b"\r\n\r\n\x81\x015" not in received:  # its size, as a text message
            part = raw.recv(65_536)
            assert part
            received += part


@pytest.mark.parametrize(
    "request_",
    [
        upgrade(line=b"GET /meaa-session HTTP/1.0"),
        upgrade(line=b"POST /meaa-session HTTP/1.1"),
        upgrade(line=b"GET http://x/meaa-session HTTP/1.1"),
        upgrade(line=b"GET /meaa-session/ HTTP/1.1"),
        upgrade(content_length=b"10"),
        upgrade(transfer_encoding=b"chunked"),
        upgrade(sec_websocket_version=b"8"),
        upgrade(sec_websocket_version=None),
        upgrade(sec_websocket_key=None),
        upgrade(sec_websocket_key=b"x"),
        upgrade(sec_websocket_key=b"MDEyMzQ1Njc4OWFiY2RlZg==\r\nsec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZw=="),
        upgrade(sec_websocket_protocol=b"meaa.v1, \xff"),
        upgrade(upgrade=b"h2c"),
        upgrade(connection=b"keep-alive"),
        b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" + upgrade(),
    ],
    ids=[
        "HTTP/1.0",
        "POST",
        "an absolute target",
        "another path",
        "with a body",
        "with a body in chunks",
        "version 8",
        "no version",
        "no key",
        "a key that is none",
        "two keys",
        "a subprotocol that is no ASCII",
        "another upgrade",
        "no upgrade for this connection",
        "behind a request that has no response yet",
    ],
)
def test_what_is_no_proper_handshake_is_an_ordinary_request(request_: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = []

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        kinds.append(scope["type"])
        await asyncio.sleep(0.1)
        headers = [(b"content-length", b"0"), (b"connection", b"close" if len(kinds) == expected else b"x")]
        await send({"type": "http.response.start", "status": 426, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    expected = request_.count(b"HTTP/1.")
    with serving(answer, monkeypatch) as server:
        answers = raw_http.exchange(port_of(server), request_)
        assert [one.status for one in answers] == [426] * expected
        assert kinds == ["http"] * expected


def test_no_handshake_leaves_anything_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(sizes, monkeypatch) as server:
        for fields in (
            {},
            {"sec_websocket_protocol": b"\xff"},
            {"sec_websocket_extensions": b"\xff"},
            {"origin": b"\xff"},
        ):
            with raw_http.connect(port_of(server)) as raw:
                raw.sendall(upgrade(**fields))
                raw.recv(65_536)
        deadline = time.monotonic() + 5
        while (server.server_state.connections or server.server_state.tasks) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not server.server_state.connections
        assert not server.server_state.tasks


def test_messages_carry_the_time_of_their_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    arrivals = []

    async def note(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": scope["subprotocols"][0]})
        while (message := await receive())["type"] == "websocket.receive":
            arrivals.append(message[ARRIVAL])
            await asyncio.sleep(0.5)
            await send({"type": "websocket.send", "text": ""})

    with serving(note, monkeypatch) as server, connect(port_of(server)) as connection:
        connection.send(b"1")
        time.sleep(0.2)
        connection.send(b"2")
        connection.recv(timeout=5)
        connection.recv(timeout=5)
    assert arrivals[1] - arrivals[0] == pytest.approx(0.2, abs=0.15)  # not the half second that the first one took


def test_a_close_by_the_client_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(sizes, monkeypatch) as server:
        with connect(port_of(server)) as connection:
            connection.close(1000)
        assert connection.close_code == 1000
