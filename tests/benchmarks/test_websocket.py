"""`benchmarks.websocket`: what the benchmarks' client sends is what a WebSocket library reads."""

from __future__ import annotations

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage

from benchmarks.websocket import message


@pytest.mark.parametrize("size", [1, 125, 126, 65_535, 65_536, 100_001])
def test_a_message_of_any_length_is_read_as_it_was_meant(size: int) -> None:
    data = bytes(index % 251 for index in range(size))
    server = Connection(ConnectionType.SERVER)
    server.receive_data(message(data))
    parts = list(server.events())
    assert all(isinstance(part, BytesMessage) for part in parts)
    assert b"".join(bytes(part.data) for part in parts) == data
    assert parts[-1].message_finished
