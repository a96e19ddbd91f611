"""Bodies of uploads: what `service.upload` makes of a content type and a body that arrives in pieces.

An input is the value of Content-Type, a line feed, and the body.
"""

from __future__ import annotations

import asyncio
import logging
import random
import tempfile
import zlib
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final, Generic, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from benchmarks.robustness.fuzzing import multipart_mutation
from benchmarks.robustness.fuzzing.http_mutation import contents
from benchmarks.robustness.fuzzing.loop import InstantLoop
from benchmarks.robustness.fuzzing.mutation import damage
from service.errors import MeaaError
from service.upload import read_image

T = TypeVar("T")

MAX_BYTES: Final = 50_000
CPU_SECONDS: Final = 0.5

LIMIT: Final = 20_000
"""Largest body accepted here, so that the limit is met."""

_SECONDS: Final = 20.0
_STATUSES: Final = frozenset({400, 408, 413, 415})


def seeds() -> tuple[bytes, ...]:
    """Bodies with one part or several, and an image as the body."""
    image, _, text, form, *_ = contents()
    kind = b"multipart/form-data; boundary=meaa\n"
    disposition = b"Content-Disposition: form-data; name="
    parts = [
        disposition + b'"file"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n' + image,
        disposition + b'"text"\r\n\r\n' + text,
        disposition + b'"image"; filename="b.jpg"\r\n\r\n' + image * 20,
    ]
    return (
        kind + form,
        kind + multipart_mutation.body(parts),
        kind + multipart_mutation.body(parts[:2] * 8),
        b"image/jpeg\n" + image,
        b"\n" + image,
        b'multipart/form-data; boundary="meaa"; charset=utf-8\n' + form,
    )


def mutate(data: bytes, chance: random.Random) -> bytes:
    """A body that differs from another in its parts, in its content type, or in bytes."""
    if not data or chance.random() < 0.02:
        data = chance.choice(seeds())
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        kind, _, body = data.partition(b"\n")
        match chance.randrange(8):
            case 0 | 1:
                kind = multipart_mutation.content_type(chance)
            case 2:
                changed = bytearray(data)
                damage(changed, chance, seeds())
                kind, _, body = bytes(changed).partition(b"\n")
            case 3:
                parts = [
                    multipart_mutation.part(chance, chance.choice(contents()))
                    for _ in range(chance.choice((1, 2, 16, 40)))
                ]
                body = multipart_mutation.body(parts)
            case _:
                body = multipart_mutation.mutate(body, chance, contents())
        data = kind[:5_000] + b"\n" + body
    return data[:MAX_BYTES]


class _Body:
    """A body that arrives in pieces."""

    def __init__(self, pieces: list[bytes], *, stops: bool) -> None:
        self._pieces = list(pieces)
        self._stops = stops

    async def __call__(self) -> Message:
        """The next piece; nothing for ever if the client stops before the end."""
        if self._pieces:
            return {"type": "http.request", "body": self._pieces.pop(0), "more_body": bool(self._pieces) or self._stops}
        await asyncio.sleep(2 * _SECONDS)
        return {"type": "http.disconnect"}


class Reader(Generic[T]):
    """Reads bodies as the service does."""

    def __init__(self, read: Callable[..., Awaitable[T]]) -> None:
        """A reader with an event loop of its own; no body gets to a disk from now on.

        Args:
            read: Function of `service.upload`.
        """
        tempfile.SpooledTemporaryFile.rollover = _refuse_disk  # type: ignore[method-assign]
        logging.getLogger("python_multipart").disabled = True
        logging.getLogger("python_multipart.multipart").disabled = True
        self._read = read
        self._loop = InstantLoop()
        asyncio.set_event_loop(self._loop)
        self._failures: list[str] = []
        self._loop.set_exception_handler(lambda _, context: self._failures.append(str(context.get("message"))))

    def read(self, kind: bytes, pieces: list[bytes], *, stops: bool = False) -> tuple[str, T | None]:
        """Read a body.

        Args:
            kind: Value of Content-Type.
            pieces: Body as it arrives.
            stops: Whether the client neither ends the body nor leaves.

        Returns:
            The outcome: `read` or the code of an error; and what was read.
        """
        headers = [(b"content-type", kind)] if kind else []
        scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
        held = 0

        def hold(count: int) -> None:
            nonlocal held
            held += count

        async def read() -> T:
            request = Request(scope, _Body(pieces, stops=stops))
            return await self._read(request, max_bytes=LIMIT, seconds=_SECONDS, hold=hold)

        found, outcome, status = None, "read", HTTPStatus.BAD_REQUEST
        self._loop.rewind()
        try:
            found = self._loop.run_until_complete(read())
        except MeaaError as error:
            outcome = error.code
        except HTTPException as error:
            outcome, status = str(error.status_code), HTTPStatus(error.status_code)
        assert status in _STATUSES, f"a status that must not be: {status}"
        assert not self._failures, f"an exception nobody handled: {self._failures[0]}"
        assert held <= LIMIT, "more is held than the limit"
        assert not stops or outcome != "read", "an image of a body that never ended"
        return outcome, found

    def read_both_ways(self, kind: bytes, body: bytes) -> tuple[str, T | None]:
        """Read a body all at once and in pieces; see `read`."""
        chance = random.Random(zlib.crc32(kind + b"\n" + body))
        whole = self.read(kind, [body])
        pieces = [body[start : start + 1] for start in range(len(body))]
        if len(body) > 500 or chance.random() < 0.5:
            cuts = sorted(chance.randrange(len(body) + 1) for _ in range(chance.choice((1, 2, 8))))
            pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        parts = self.read(kind, pieces or [b""])
        # The parser skips what follows leading line ends up to a hyphen, or to the end of what has arrived; and a body
        # that is both broken and too large is refused for what is met first.
        if not body.startswith((b"\r", b"\n")) and len(body) <= LIMIT:
            assert whole == parts, f"another outcome in pieces: {whole[0]} {parts[0]}"
        self.read(kind, pieces, stops=True)
        return whole


def _refuse_disk(*_: Any, **__: Any) -> Any:
    raise AssertionError("an upload on its way to a disk")


_reader: Reader[bytes] | None = None


def run(data: bytes) -> list[str]:
    """Read a body all at once and in pieces.

    Returns:
        The outcome: `read`, or the code of an error.

    Raises:
        AssertionError: Something is not as it must be.
    """
    global _reader
    _reader = _reader or Reader(read_image)
    kind, _, body = data.partition(b"\n")
    if any(byte in kind for byte in b"\r\x00"):
        return ["no header"]
    outcome, image = _reader.read_both_ways(kind, body)
    assert (image or b"") in body, "an image that was not sent"
    return [outcome]
