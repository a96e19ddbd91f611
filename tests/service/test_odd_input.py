"""Any input gets the status and code of the contract, and never a 500."""

from __future__ import annotations

import base64
import gzip
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest

from service.problems import Problem
from service.schema import MoodResponse
from tests.support.pictures import (
    Pixels,
    animation,
    damaged_png,
    encode,
    multi_picture,
    oriented,
    png_header,
    png_with_text_bomb,
    sixteen_bit,
    with_exif,
)
from tests.support.server import UPLOAD, Server

HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(64)
AVIF = b"\x00\x00\x00\x1cftypavif\x00\x00\x00\x00avifmif1" + bytes(64)
GREY = np.full((300, 400, 3), 128, np.uint8)
NOISE = np.random.default_rng(20).integers(0, 256, (240, 320, 3), dtype=np.uint8)
BOUNDARY = b"multipart/form-data; boundary=x"
IMAGE = b'name="image"; filename="a"'
FILE = b'name="file"; filename="a"'
TEXT = b'name="image"'
STRANGE = b'name="\xff\xfe"; filename="a"'


@dataclass(frozen=True)
class Case:
    """A request that a client may send.

    Attributes:
        name: Description of the request.
        status: Expected status.
        code: Expected problem code; empty if the request succeeds.
        request: Function from the astronaut's pixels to the arguments of `httpx.Client.request`.
    """

    name: str
    status: int
    code: str
    request: Callable[[Pixels], dict[str, Any]]


def image(name: str, status: int, code: str, make: Callable[[Pixels], bytes]) -> Case:
    """An image file in the multipart field `image`."""
    return Case(name, status, code, lambda pixels: {"files": {"image": make(pixels)}})


def body(name: str, status: int, code: str, content_type: str | bytes | None, make: Callable[[Pixels], Any]) -> Case:
    """A body that is sent unchanged."""
    headers = {} if content_type is None else {"content-type": content_type}
    return Case(name, status, code, lambda pixels: {"content": make(pixels), "headers": headers})


def compressed(name: str, coding: str) -> Case:
    """A body that is declared to be compressed."""
    headers = {"content-type": "image/jpeg", "content-encoding": coding}
    return Case(name, 415, "unsupported_encoding", lambda p: {"content": gzip.compress(encode(p)), "headers": headers})


def bare(name: str, status: int, code: str, **request: Any) -> Case:
    """A request that needs no image."""
    return Case(name, status, code, lambda _: request)


def in_chunks(data: bytes) -> Iterator[bytes]:
    """A body without a content length: httpx sends an iterator with chunked transfer encoding."""
    for start in range(0, len(data), 50_000):
        yield data[start : start + 50_000]


def fields(*named: tuple[str, bytes]) -> dict[str, Any]:
    """A multipart body with several file fields."""
    return {"files": [(name, (f"{name}.jpg", data)) for name, data in named]}


def _part(disposition: bytes, content: bytes = b"something") -> bytes:
    return _parts((disposition, content))


def _parts(*parts: tuple[bytes, bytes]) -> bytes:
    opened = [b"--x\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % part for part in parts]
    return b"".join(opened) + b"--x--\r\n"


CASES = [
    # Kinds of JPEG, PNG and WebP
    image("a JPEG", 200, "", encode),
    image("a progressive JPEG", 200, "", lambda p: encode(p, progressive=True)),
    image("a grey JPEG", 200, "", lambda p: encode(p, mode="L")),
    image("a CMYK JPEG", 200, "", lambda p: encode(p, mode="CMYK")),
    image("a JPEG with bytes after its end", 200, "", lambda p: encode(p) + b"<script>" * 99),
    image("a multi-picture JPEG of a phone", 200, "", multi_picture),
    image("a PNG", 200, "", lambda p: encode(p, "PNG")),
    image("a grey PNG", 200, "", lambda p: encode(p, "PNG", "L")),
    image("a grey PNG with transparency", 200, "", lambda p: encode(p, "PNG", "LA")),
    image("an RGBA PNG", 200, "", lambda p: encode(p, "PNG", "RGBA")),
    image("a PNG with a palette", 200, "", lambda p: encode(p, "PNG", "P")),
    image("a PNG with a palette and a transparent colour", 200, "", lambda p: encode(p, "PNG", "P", transparency=0)),
    image("a 16-bit grey PNG", 200, "", lambda p: sixteen_bit(p, 1)),
    image("a 16-bit RGB PNG", 200, "", lambda p: sixteen_bit(p, 3)),
    image("a 16-bit RGBA PNG", 200, "", lambda p: sixteen_bit(p, 4)),
    image("a PNG damaged in its pixels, but whole", 200, "", lambda p: damaged_png(p, at=0.5)),
    image("an animated PNG: its first frame counts", 200, "", lambda p: animation(p, "PNG")),
    image("a WebP", 200, "", lambda p: encode(p, "WEBP", quality=90)),
    image("a WebP with transparency", 200, "", lambda p: encode(p, "WEBP", "RGBA", lossless=True)),
    image("an animated WebP: its first frame counts", 200, "", lambda p: animation(p, "WEBP")),
    image("an EXIF block of 60 kB", 200, "", lambda p: with_exif(p, b"II*\x00\x08\x00\x00\x00" + bytes(60_000))),
    image("an EXIF block that is rubbish", 200, "", lambda p: with_exif(p, b"MM\x00*\xff\xff\xff\xff rubbish")),
    image("an EXIF block cut off in an entry", 200, "", lambda p: with_exif(p, b"II*\x00\x08\x00\x00\x00\x05\x00\x12")),
    image("an EXIF orientation that does not exist", 200, "", lambda p: _orientation_nine(p)),
    image("a colour profile that is rubbish", 200, "", lambda p: encode(p, icc_profile=b"rubbish" * 9)),
    image("a PNG whose text inflates to 100 MB: nobody reads it", 200, "", png_with_text_bomb),
    # Ways of sending an image
    Case("the field file", 200, "", lambda p: fields(("file", encode(p)))),
    Case("two fields image: the last counts", 200, "", lambda p: fields(("image", b"x"), ("image", encode(p)))),
    Case("image and file: image counts", 200, "", lambda p: fields(("file", b"x"), ("image", encode(p)))),
    Case("other fields beside image", 200, "", lambda p: {**fields(("image", encode(p))), "data": {"who": "me"}}),
    Case("a field that claims to be text", 200, "", lambda p: {"files": {"image": ("a.txt", encode(p), "text/plain")}}),
    body("a field without a type", 200, "", BOUNDARY, lambda p: _part(b'name="image"; filename="a"', encode(p))),
    *(
        body(f"charset {name}", 200, "", BOUNDARY + b"; charset=" + name.encode(), lambda p: _part(IMAGE, encode(p)))
        for name in ("undefined", "punycode", "idna", "utf-16", "zlib", "hex", "nobody-knows", "x" * 5_000)
    ),
    body("a boundary in quotes", 200, "", b'multipart/form-data; boundary="x"', lambda p: _part(IMAGE, encode(p))),
    body("empty text before the image", 200, "", BOUNDARY, lambda p: _parts((TEXT, b""), (IMAGE, encode(p)))),
    body("empty text after the image", 200, "", BOUNDARY, lambda p: _parts((IMAGE, encode(p)), (TEXT, b""))),
    body("text as image, the image as file", 200, "", BOUNDARY, lambda p: _parts((TEXT, b"x"), (FILE, encode(p)))),
    body("the image as the body", 200, "", "image/jpeg", encode),
    body("the image as the body, the wrong image type", 200, "", "image/png", encode),
    body("the image as the body, no type", 200, "", None, encode),
    body("the image as the body, type of unknown bytes", 200, "", "application/octet-stream", encode),
    body("the image as the body, type that curl claims", 200, "", "application/x-www-form-urlencoded", encode),
    body("the image in chunks, no length", 200, "", "image/jpeg", lambda p: in_chunks(encode(p))),
    # Not images, or not whole
    image("an empty file", 400, "invalid_image", lambda _: b""),
    image("text", 400, "invalid_image", lambda _: b"I am an image"),
    image("zeros", 400, "invalid_image", lambda _: bytes(1_000_000)),
    image("an image in base64", 400, "invalid_image", lambda p: base64.b64encode(encode(p))),
    image("a JPEG cut in half", 400, "invalid_image", lambda p: encode(p)[: len(encode(p)) // 2]),
    image("the first bytes of a JPEG", 400, "invalid_image", lambda p: encode(p)[:20]),
    image("a PNG cut in half", 400, "invalid_image", lambda p: encode(p, "PNG")[:100_000]),
    image("a PNG damaged in its header", 400, "invalid_image", lambda p: damaged_png(p, at=0.00002)),
    image("a PNG without pixels", 400, "invalid_image", lambda _: png_header(64, 64)),
    image("a PNG of no size", 400, "invalid_image", lambda _: png_header(0, 0)),
    image("a WebP cut in half", 400, "invalid_image", lambda p: encode(p, "WEBP")[:9_000]),
    # No image where one is expected
    bare("no body", 400, "missing_image"),
    bare("an empty body", 400, "missing_image", content=b"", headers={"content-type": "image/jpeg"}),
    body("another field name", 400, "missing_image", BOUNDARY, lambda _: _part(b'name="photo"; filename="a.jpg"')),
    body("a text field", 400, "missing_image", BOUNDARY, lambda _: _part(b'name="image"')),
    body("a name in no charset", 400, "missing_image", BOUNDARY + b"; charset=punycode", lambda _: _part(STRANGE)),
    body("a part without a name", 400, "missing_image", BOUNDARY, lambda _: _part(b'filename="a.jpg"')),
    body("multipart without a boundary", 400, "missing_image", "multipart/form-data", lambda _: _part(b'name="image"')),
    body("multipart with another boundary", 400, "missing_image", BOUNDARY, lambda p: b"--y\r\n" + encode(p)),
    body("multipart cut off", 400, "missing_image", BOUNDARY, lambda _: _part(b'name="image"; filename="a"')[:-9]),
    body("multipart with nothing in it", 400, "missing_image", BOUNDARY, lambda _: b"--x--\r\n"),
    Case("three hundred parts", 400, "missing_image", lambda p: fields(*[("image", b"x")] * 300)),
    # Too large
    image("more bytes than accepted", 413, "too_large", lambda p: encode(p) + bytes(10_000_000)),
    body("more bytes than accepted, in chunks", 413, "too_large", "image/jpeg", lambda _: in_chunks(bytes(10_500_000))),
    image("20,000 x 20,000 pixels in some kB", 413, "too_large", lambda _: png_header(20_000, 20_000, bytes(20_000))),
    image("2,000,000,000 pixels in a row", 413, "too_large", lambda _: png_header(2_000_000_000, 1)),
    # Other types
    image("a GIF", 415, "unsupported_type", lambda p: encode(p, "GIF")),
    image("a BMP", 415, "unsupported_type", lambda p: encode(p, "BMP")),
    image("a TIFF", 415, "unsupported_type", lambda p: encode(p, "TIFF")),
    image("a HEIC", 415, "unsupported_type", lambda _: HEIC),
    image("an AVIF", 415, "unsupported_type", lambda _: AVIF),
    image("an SVG", 415, "unsupported_type", lambda _: b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    image("a PDF", 415, "unsupported_type", lambda _: b"%PDF-1.7\n"),
    body("JSON", 415, "unsupported_type", "application/json", lambda _: b'{"image": "..."}'),
    body("a text body", 415, "unsupported_type", "text/plain", encode),
    compressed("a body with gzip", "gzip"),
    compressed("a body with two codings", "identity, br"),
    body("a type that is no type", 415, "unsupported_type", b"\xff\xfe;;;=", encode),
    # No face
    image("1 x 1 pixel", 422, "no_face", lambda p: encode(p[:1, :1])),
    image("1 x 10,000 pixels", 422, "no_face", lambda p: encode(np.resize(p, (10_000, 1, 3)))),
    image("10,000 x 1 pixels", 422, "no_face", lambda p: encode(np.resize(p, (1, 10_000, 3)))),
    image("an image of nothing", 422, "no_face", lambda _: encode(GREY)),
    image("noise", 422, "no_face", lambda _: encode(NOISE)),
    image("a transparent image", 422, "no_face", lambda p: encode(np.dstack([p, np.zeros_like(p[:, :, :1])]), "PNG")),
    # Other requests
    bare("another method", 405, "method_not_allowed", method="GET"),
    bare("a method of other places", 405, "method_not_allowed", method="DELETE"),
    bare("an unknown address", 404, "not_found", url="/upload-meaa-images"),
    bare("an address with dots", 404, "not_found", url="/static_content/../../service.py"),
]  # fmt: skip


def _orientation_nine(pixels: Pixels) -> bytes:
    return oriented(pixels, 1).replace(b"\x12\x01\x03\x00\x01\x00\x00\x00\x01", b"\x12\x01\x03\x00\x01\x00\x00\x00\x09")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_response_is_what_the_contract_says(case: Case, server: Server, astronaut: Pixels) -> None:
    request = {"method": "POST", "url": UPLOAD, **case.request(astronaut)}
    response = server.client.request(**request)
    assert response.status_code == case.status, response.text
    if case.status == 200:
        MoodResponse.model_validate(response.json())
    else:
        assert_problem(response, case.status, case.code)


def assert_problem(response: httpx.Response, status: int, code: str) -> None:
    """Assert that the response is a problem document with this status and code."""
    assert response.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate(response.json())
    assert (problem.status, problem.code) == (status, code)
    assert problem.title
    assert problem.detail


def test_a_415_names_the_codings_only_if_they_are_the_reason(server: Server, photo: bytes) -> None:
    headers = {"content-type": "image/jpeg", "content-encoding": "gzip"}
    response = server.client.post(UPLOAD, content=gzip.compress(photo), headers=headers)
    assert response.headers["accept-encoding"] == "identity"
    assert "accept-encoding" not in server.client.post(UPLOAD, json={}).headers


def test_thirty_kinds_of_odd_input_are_tried() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 30


def test_a_sender_that_stalls_gets_408(server: Server) -> None:
    status, answer = server.exchange(_head(length=999) + b"\xff\xd8")
    assert status == 408
    assert b'"code":"request_timeout"' in answer


def test_a_declared_length_over_the_limit_is_refused_before_the_body_is_sent(server: Server) -> None:
    status, answer = server.exchange(_head(length=99_999_999))
    assert status == 413
    assert b'"code":"too_large"' in answer


def test_clients_that_hang_up_cost_the_others_nothing(server: Server, photo: bytes) -> None:
    for _ in range(40):  # more than the service admits at once
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(_head(length=999) + b"\xff\xd8")
    assert server.upload(photo).status_code == 200


def _head(length: int) -> bytes:
    """The head of an upload with a declared length."""
    return f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n".encode()


def test_none_of_this_was_an_error_of_the_service(server: Server, photo: bytes) -> None:
    """Runs last in this file: the server that got all requests above logged no fault and counted no 500."""
    server.upload(photo)
    log = server.log.read_text()
    assert "Traceback" not in log
    assert "A request failed" not in log
    assert 'meaa_requests_total{code="internal_server_error",status="500"} 0.0' in server.client.get("/metrics").text
