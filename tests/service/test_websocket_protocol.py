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
from service.websocket_protocol import ARRIVAL, DROPPED, MAX_TEXT_BYTES, MAX_WAITING
from tests.support.websockets import connect, port_of, serving


async def sizes(scope: Any, receive: Any, send: Any) -> None:
    """Replies to each message with its size, -1 if it was dropped; slowly after a message that begins with `slow`."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept", "subprotocol": scope["subprotocols"][0]})
    while (message := await receive())["type"] == "websocket.receive":
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


def test_a_worker_that_stops_says_so_with_1001(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(sizes, monkeypatch) as server, connect(port_of(server)) as connection:
        connection.send(b"1")
        assert connection.recv(timeout=5) == "1"
        server.should_exit = True
        assert closed_with(connection) == 1001


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
