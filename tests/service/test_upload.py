"""Reading an upload: what it leaves behind, and what it may cost."""

from __future__ import annotations

import asyncio
import encodings
from collections.abc import Iterable
from typing import Any

import pytest
from starlette.requests import Request

from service.errors import MissingImageError, TooLargeError
from service.upload import read_image

TYPE = b"multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nabc\r\n--x--\r\n'


def read(content_type: bytes, *chunks: bytes, **fields: bytes) -> bytes:
    """The image in a request."""
    arriving = iter(chunks)

    async def receive() -> dict[str, Any]:
        body = next(arriving, b"")
        return {"type": "http.request", "body": body, "more_body": bool(body)}

    others: Iterable[tuple[bytes, bytes]] = [(name.replace("_", "-").encode(), value) for name, value in fields.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-type", content_type), *others]}
    request = Request(scope, receive)
    return asyncio.run(read_image(request, max_bytes=1_000, seconds=5, hold=lambda _: None))


def test_the_names_of_charsets_are_not_remembered() -> None:
    known = len(encodings._cache)  # type: ignore[attr-defined]  # Python's own memory of them, without a limit
    for number in range(100):
        assert read(TYPE + b"; charset=unknown-%d" % number, PART) == b"abc"
    assert len(encodings._cache) == known  # type: ignore[attr-defined]


@pytest.mark.parametrize("boundary", [b'"x"', b"x; a=b", b'"x" ', b"x;charset=undefined"])
def test_the_boundary_is_found_however_it_is_written(boundary: bytes) -> None:
    assert read(b"multipart/form-data; a=b; boundary=" + boundary, PART) == b"abc"


@pytest.mark.parametrize("boundary", [b"", b'""', b'"', b"y" * 5_000, b"\\", b'"\\""', b"\xff"])
def test_a_boundary_that_does_not_fit_is_a_mistake_of_the_client(boundary: bytes) -> None:
    with pytest.raises(MissingImageError):
        read(b"multipart/form-data; boundary=" + boundary, PART)


def test_a_length_of_many_digits_is_too_large() -> None:
    with pytest.raises(TooLargeError):
        read(TYPE, PART, content_length=b"9" * 5_000)
