"""HTTP as bytes on a socket: for requests that no client library sends, and for connections that misbehave."""

from __future__ import annotations

import contextlib
import json
import socket
from dataclasses import dataclass

from benchmarks.server import HOST

SENTINEL = b"GET /livez HTTP/1.1\r\nHost: sentinel\r\nConnection: close\r\n\r\n"
"""A request that is answered with 200 and the end of the connection: by it one sees whether server and client agree
on where the requests before it ended."""


@dataclass(frozen=True)
class Answer:
    """A response.

    Attributes:
        status: Status, 100 for the interim response.
        fields: Header fields, names in lower case.
        body: Body.
    """

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """Code of the problem document; empty if it is none."""
        problem = self.fields.get("content-type") == "application/problem+json" and self.body
        return json.loads(self.body)["code"] if problem else ""

    def __str__(self) -> str:
        return f"{self.status} {self.code}".strip()


def connect(port: int) -> socket.socket:
    """A connection that sends each piece at once."""
    connection = socket.create_connection((HOST, port), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def exchange(port: int, *pieces: bytes, bodiless: bool = False) -> list[Answer]:
    """The responses to bytes on a connection of their own, until the server closes it.

    Args:
        port: Port on 127.0.0.1.
        pieces: What is sent, piece by piece.
        bodiless: Whether responses have no body, whatever their length says, as those to HEAD.

    Raises:
        TimeoutError: The server neither responds nor closes.
    """
    with connect(port) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the server has responded and closed
            for piece in pieces:
                connection.sendall(piece)
        return parse(received(connection), bodiless=bodiless)


def received(connection: socket.socket) -> bytes:
    """All bytes until the server closes the connection."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def parse(data: bytes, *, bodiless: bool = False) -> list[Answer]:
    """The responses in what a server has sent; it fails on anything that is no response."""
    answers = []
    while data:
        head, separator, data = data.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        assert separator, head
        assert status_line.startswith("HTTP/1.1 "), status_line
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        assert len(fields) == len(lines), head
        length = 0 if bodiless else int(fields.get("content-length", "0"))
        assert len(data) >= length, head
        answers.append(Answer(int(status_line.split()[1]), fields, data[:length]))
        data = data[length:]
        bodiless = False
    return answers
