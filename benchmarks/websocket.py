"""A WebSocket client with little overhead: the benchmarks' clients must not cost what they measure (RFC 6455)."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import Final, Self

import numpy as np

from benchmarks.server import HOST
from service.schema import SESSION_PATH, SUBPROTOCOL

_TIMEOUT_SECONDS: Final = 60
_BINARY: Final = 0x82  # the last frame of a binary message
_TEXT: Final = 0x81
_PING: Final = 0x89
_PONG: Final = 0x8A
_MASKED: Final = 0x80
_HANDSHAKE: Final = (
    f"GET {SESSION_PATH} HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
).encode()


def message(data: bytes) -> bytes:
    """A binary message as a client sends it, masked."""
    key = np.frombuffer(os.urandom(4), np.uint8)
    masked = np.frombuffer(data, np.uint8) ^ np.resize(key, len(data))
    if len(data) < 126:
        head = struct.pack("!BB", _BINARY, _MASKED | len(data))
    elif len(data) < 1 << 16:
        head = struct.pack("!BBH", _BINARY, _MASKED | 126, len(data))
    else:
        head = struct.pack("!BBQ", _BINARY, _MASKED | 127, len(data))
    return head + key.tobytes() + masked.tobytes()


class BlockingClient:
    """A live session that waits for each reply."""

    def __init__(self, port: int) -> None:
        """Open a session.

        Raises:
            RuntimeError: The server refuses it.
        """
        self._socket = socket.create_connection((HOST, port), timeout=_TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(_HANDSHAKE)
        self._stream = self._socket.makefile("rb")
        _check_handshake(b"".join(iter(self._stream.readline, b"\r\n")))

    def exchange(self, sent: bytes) -> bytes:
        """Send what `message` made, and wait for the text of the reply.

        Raises:
            RuntimeError: The reply has no estimate, or the session is closed.
        """
        self._socket.sendall(sent)
        while True:
            kind, size = self._stream.read(2)
            extended = _EXTENDED.get(size, 0)
            if extended:
                size = int.from_bytes(self._stream.read(extended))
            payload = self._stream.read(size)
            if kind != _PING:
                return _estimate(kind, payload)
            self._socket.sendall(_pong(payload))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._socket.close()


class Client:
    """The same for asyncio."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Client:
        """Open a session; see `BlockingClient`."""
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(_HANDSHAKE)
        _check_handshake(await reader.readuntil(b"\r\n\r\n"))
        return cls(reader, writer)

    async def exchange(self, sent: bytes) -> bytes:
        """See `BlockingClient.exchange`."""
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            self._writer.write(sent)
            while True:
                kind, size = await self._reader.readexactly(2)
                extended = _EXTENDED.get(size, 0)
                if extended:
                    size = int.from_bytes(await self._reader.readexactly(extended))
                payload = await self._reader.readexactly(size)
                if kind != _PING:
                    return _estimate(kind, payload)
                self._writer.write(_pong(payload))

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


_EXTENDED: Final = {126: 2, 127: 8}
"""Bytes of the length of a message, by what stands in place of a length that has seven bits."""


def _pong(payload: bytes) -> bytes:
    """The answer to a ping; its mask is zero."""
    return struct.pack("!BBL", _PONG, _MASKED | len(payload), 0) + payload


def _check_handshake(head: bytes) -> None:
    if not head.startswith(b"HTTP/1.1 101 "):
        raise RuntimeError(f"no session: {head.decode()}")


def _estimate(kind: int, text: bytes) -> bytes:
    if kind != _TEXT or b'"estimate"' not in text:
        raise RuntimeError(f"no estimate of a good frame, but {kind:#x} {text!r}")
    return text
