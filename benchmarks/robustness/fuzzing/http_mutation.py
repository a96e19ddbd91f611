"""Mutations of requests, line by line and chunk by chunk (RFC 9112), and what such requests are made of."""

from __future__ import annotations

import random
import re
import struct
import zlib
from functools import cache
from typing import Final

from benchmarks.robustness.fuzzing import multipart_mutation, png
from benchmarks.robustness.fuzzing.mutation import MANY, damage, rearrange
from service.schema import FRAMES_PATH, METRICS_PATH, OPENAPI_PATH, PAGE_PATH, SESSION_PATH, UPLOAD_PATH

TOKEN: Final = "fuzz"
"""The token that the service expects."""

MAX_BYTES: Final = 20_000
"""Length beyond which an input is cut."""

IMAGE: Final = png.SIGNATURE + b"".join(
    chunk.to_bytes()
    for chunk in (
        png.Chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)),
        png.Chunk(b"IDAT", zlib.compress(b"\x00\x00")),
        png.Chunk(b"IEND"),
    )
)
"""The smallest image: the response to it is that it shows no face."""

_UPLOAD: Final = UPLOAD_PATH.encode()
_FRAMES: Final = FRAMES_PATH.encode()
_METHODS: Final = (
    b"POST", b"POST", b"POST", b"GET", b"HEAD", b"PUT", b"OPTIONS", b"DELETE", b"TRACE", b"CONNECT", b"PRI", b"post",
    b"PATCH", b"PROPFIND", b"M-SEARCH", b"SOURCE", b"FOO", b"", b"POST\t", b"QUERY",
)  # fmt: skip
_TARGETS: Final = (
    _UPLOAD, _UPLOAD, _UPLOAD + b"?faces=all", _UPLOAD + b"?box=1,2,3,4", _FRAMES, SESSION_PATH.encode(),
    PAGE_PATH.encode(), OPENAPI_PATH.encode(), METRICS_PATH.encode(),
    b"/readyz", b"/healthz", b"*", b"", b"http://a/upload-meaa-image", b"http://a@b:80/", b"//" + _UPLOAD,
    _UPLOAD + b"/", b"/./" + _UPLOAD[1:], b"/%2e%2e/", _UPLOAD + b"%00", b"/%ff%fe", b"/%", b"/%zz", _UPLOAD + b"#a",
    b"/a b", b"/\xc3\xa4", b"/\x80", b"/" + b"a" * 9_000, b"a:1", b"/schema.json", b"/static_content/../..",
    b"http://[::1", b"http://a:99999/", _UPLOAD + b"?" + b"&a=b" * 500, b"/?\x00", b"/;a",
)  # fmt: skip
_VERSIONS: Final = (
    b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1",
    b"HTTP/1.1 ", b"HTTP/1,1", b"", b"HTTP/11", b"ICE/1.0", b"RTSP/1.0", b"HTTP/1.", b"HTTP/1.10",
)  # fmt: skip
_FIELDS: Final = (
    b"Host: a", b"Host: a:8000", b"Host: ", b"Host: a, b", b"Host: a/b", b"Host: [::1]:80", b"Host: \xff",
    b"Host: a b", b"Host:\ta", b"Authorization: Bearer fuzz", b"Authorization: Bearer wrong",
    b"Authorization: bearer  fuzz ", b"Authorization: Bearer \xff\xfe", b"Authorization: Basic ZnV6eg==",
    b"Authorization:", b"Content-Length: 0", b"Content-Length: 4", b"Content-Length: 5", b"Content-Length: +4",
    b"Content-Length: -1", b"Content-Length: 4, 4", b"Content-Length: 0x4", b"Content-Length: 04",
    b"Content-Length: 4 ", b"Content-Length: 99999999", b"Content-Length: ", b"Content-Length: 18446744073709551616",
    b"Content-Length: 18446744073709551620", b"Content-Length: 4;a", b"Content-Length: \xb2", b"Content-Length: 1e1",
    b"Content-Length: 4\x00", b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: xchunked", b"Transfer-Encoding:",
    b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding: chunked;q=1", b"Transfer-Encoding : chunked",
    b"Transfer-Encoding:\tchunked", b"Transfer_Encoding: chunked", b'Transfer-Encoding: "chunked"',
    b"Transfer-Encoding: chunked,", b" Transfer-Encoding: chunked", b"Connection: close", b"Connection: keep-alive",
    b"Connection: Upgrade, HTTP2-Settings", b"Connection: Upgrade", b"Connection: close, x",
    b"Connection: upgrade, close", b"Connection: host", b"Proxy-Connection: keep-alive", b"Keep-Alive: timeout=9999",
    b"Upgrade: h2c", b"Upgrade: websocket", b"Upgrade: foo/2, bar", b"Upgrade: WebSocket", b"Upgrade:",
    b"HTTP2-Settings: AAMAAABk", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Protocol: meaa.v1, bearer.fuzz", b"Expect: 100-continue", b"Expect: 100-Continue", b"Expect: foo",
    b"Expect: 100-continue, 100-continue", b"Content-Encoding: gzip", b"Content-Encoding: identity",
    b"Content-Encoding: gzip, br", b"TE: trailers", b"Trailer: Host", b"Content-Type: image/jpeg", b"Content-Type: ",
    b"Content-Type: multipart/form-data", b"Content-Type: \xff", b"X-Request-Id: abc", b"X-Request-Id: \xff",
    b"Origin: null", b"Origin: https://a.example", b"Access-Control-Request-Method: POST", b"Accept: application/json",
    b"Accept-Encoding: gzip", b"Range: bytes=0-1", b"If-None-Match: *", b"Cookie: a=" + b"b" * 4_000,
    b"X: " + b"y" * 9_000, b"X" * 9_000 + b": y", b"X:\x00", b"X: a\rb", b"X: \x7f", b"X : y", b": y", b"X",
    b"X\x00: y", b"\xff: y", b" folded", b"\tfolded: x", b"X(y): z", b"x-forwarded-for: 1.2.3.4",
    b"X-Forwarded-Proto: https", b"Forwarded: for=a", b"Content-Disposition: form-data",
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"baggage: \xff=1,a",
    b"X-HTTP-Method-Override: PUT", b"Date: yesterday", b"Max-Forwards: 0", b"Via: 1.1 a",
)  # fmt: skip
_SIZES: Final = (
    b"0", b"00", b"-1", b"+4", b"0x4", b"4 ", b" 4", b"", b"g", b"4;a=b", b'4;a="\r\n"', b"4;" + b"a" * 5_000,
    b"000000000000000000004", b"ffffffffffffffff", b"10000000000000004", b"7fffffff", b"4\t;a", b"4\x00", b"4;\x00",
    b"4;a\nb", b"4,", b"4h", b"99999999",
)  # fmt: skip
_ENDS: Final = (b"\r\n",) * 3 + (b"\n", b"\r", b"", b"\r\r\n", b"\n\r", b"\r\n\r\n", b" \r\n", b"\x00\r\n")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[^\r\n]*\r\n")

_CHUNKED: Final = b"Transfer-Encoding: chunked"


@cache
def contents() -> tuple[bytes, ...]:
    """Contents of the parts of a body, and of bodies."""
    form = multipart_mutation.body([b'Content-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + IMAGE])
    return IMAGE, b"", b"text", form, b"\r\n--meaa\r\n", bytes(300), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def _frame_parts() -> list[bytes]:
    """The parts of a body with two frames and their times."""
    disposition = b"Content-Disposition: form-data; name="
    image = disposition + b'"image"; filename="a"\r\n\r\n' + IMAGE
    return [image, image, disposition + b'"times"\r\n\r\n0,1']


@cache
def seeds() -> tuple[bytes, ...]:
    """Connections with one request or several, all of them proper."""
    authorized, form = b"Authorization: Bearer fuzz", contents()[3]
    kind = b"Content-Type: multipart/form-data; boundary=meaa"
    upload = request(b"POST", _UPLOAD, [authorized, kind], form)
    plain = request(b"POST", _UPLOAD, [authorized, b"Content-Type: image/jpeg"], IMAGE)
    page = request(b"GET", PAGE_PATH.encode(), [], None)
    return (
        upload,
        plain,
        page,
        request(
            b"POST", _UPLOAD, [authorized, kind], chunked([form[:30], form[30:]], [b"X-Trailer: 1"]), is_chunked=True
        ),
        request(b"POST", _UPLOAD, [authorized], chunked([IMAGE] * 5, []), is_chunked=True),
        request(b"POST", _UPLOAD, [b"Expect: 100-continue", authorized], IMAGE),
        request(b"POST", _UPLOAD, [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", authorized], IMAGE),
        request(b"GET", b"/metrics", [b"Connection: close"], None),
        request(b"HEAD", PAGE_PATH.encode(), [], None),
        request(b"POST", _UPLOAD, [], IMAGE),
        request(b"POST", _FRAMES, [authorized, kind], multipart_mutation.body(_frame_parts())),
        page + upload + plain,
        plain * 3 + page,
    )


def request(
    method: bytes, target: bytes, fields: list[bytes], body: bytes | None, *, is_chunked: bool = False
) -> bytes:
    """A proper request."""
    framing = [] if body is None else [_CHUNKED if is_chunked else b"Content-Length: %d" % len(body)]
    head = [b"%b %b HTTP/1.1" % (method, target), b"Host: a", *fields, *framing]
    return b"\r\n".join(head) + b"\r\n\r\n" + (body or b"")


def chunked(chunks: list[bytes], trailers: list[bytes]) -> bytes:
    """A body in chunks, with trailers."""
    parts = [b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks if chunk]
    return b"".join([*parts, b"0\r\n", *(trailer + b"\r\n" for trailer in trailers), b"\r\n"])


def mutate(data: bytes, chance: random.Random) -> bytes:
    """A connection whose requests differ from another's in lines, chunks, parts or bytes."""
    if not data or chance.random() < 0.02:
        data = chance.choice(seeds())
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        data = _mutate_once(data, chance)
    return data[:MAX_BYTES]


def _mutate_once(data: bytes, chance: random.Random) -> bytes:
    before, head, body = _choose_request(data, chance)
    match chance.randrange(12):
        case 0 | 1:
            head = _change_line(head, chance)
        case 2:
            lines = head.split(b"\r\n")
            fields = lines[1:]
            rearrange(fields, chance, most=150)
            head = b"\r\n".join([lines[0], *fields])
        case 3 | 4:
            lines = head.split(b"\r\n")
            lines[1:1] = [chance.choice(_FIELDS)] * chance.choice(MANY)
            head = b"\r\n".join(lines)
        case 5:
            head = _change_start(head, chance)
        case 6:
            body = _change_chunks(body, chance)
        case 7:
            head, body = _reframe(head, body, chance)
        case 8:
            body = multipart_mutation.mutate(body, chance, contents())
            if chance.random() < 0.8:
                head, body = _frame(head, body)
        case 9:
            value = b"Content-Type: " + multipart_mutation.content_type(chance)
            head = b"\r\n".join(
                [*(line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-type")), value]
            )
        case 10:
            body += chance.choice(seeds()) * chance.choice((1, 1, 3, 110))
        case 11:
            changed = bytearray(before + head + b"\r\n\r\n" + body)
            damage(changed, chance, seeds())
            return bytes(changed)
    return before + head + b"\r\n\r\n" + body


def _choose_request(data: bytes, chance: random.Random) -> tuple[bytes, bytes, bytes]:
    """What comes before one of the requests, its head without the empty line, and all that follows."""
    starts = [0, *(found.start() for found in re.finditer(rb"(?<=\n)[A-Z]{3,8} \S+ HTTP/1\.[01]\r\n", data))]
    start = chance.choice(starts)
    head, _, body = data[start:].partition(b"\r\n\r\n")
    return data[:start], head, body


def _change_line(head: bytes, chance: random.Random) -> bytes:
    lines = head.split(b"\r\n")
    at = chance.randrange(len(lines))
    ends = [b"\r\n"] * (len(lines) - 1) + [b""]
    match chance.randrange(5):
        case 0:
            lines[at] = chance.choice(_FIELDS)
        case 1:
            ends[at] = chance.choice(_ENDS)
        case 2:
            lines[at] = chance.choice(
                (lines[at].swapcase(), lines[at].replace(b": ", chance.choice((b":", b" : ", b":\t", b":  "))))
            )
        case 3:
            place = chance.randrange(len(lines[at]) + 1)
            lines[at] = (
                lines[at][:place]
                + bytes([chance.choice((0, 9, 10, 11, 13, 32, 34, 44, 58, 59, 127, 128, 255))])
                + lines[at][place:]
            )
        case 4:
            lines[at] += chance.choice((b" ", b"\t", b", x", b"\r\n folded", b"\n folded", b";a=b", b"\x00"))
    return b"".join(line + end for line, end in zip(lines, ends, strict=True))


def _change_start(head: bytes, chance: random.Random) -> bytes:
    """A head with another method, target or version."""
    start, end, rest = head.partition(b"\r\n")
    words = [*start.split(b" ", 2), b"", b""][:3]
    which = chance.randrange(3)
    words[which] = chance.choice((_METHODS, _TARGETS, _VERSIONS)[which])
    separator = b" " if chance.random() < 0.9 else chance.choice((b"  ", b"\t", b"", b"\x0b"))
    prefix = (
        b""
        if chance.random() < 0.9
        else chance.choice((b"\r\n", b"\n", b"\r\n\r\n", b" ", b"\x16\x03\x01", b"PROXY TCP4 a b 1 2\r\n"))
    )
    return prefix + separator.join(words) + end + rest


def _change_chunks(body: bytes, chance: random.Random) -> bytes:
    """A body whose chunks have other sizes, extensions, ends or trailers."""
    pieces = _split_chunks(body)
    if not pieces:
        return body
    at = chance.randrange(len(pieces))
    size, content, end = pieces[at]
    match chance.randrange(6):
        case 0:
            pieces[at] = (chance.choice(_SIZES), content, end)
        case 1:
            pieces[at] = (size, content, chance.choice(_ENDS))
        case 2:
            pieces[at] = (size.upper().rjust(chance.choice((1, 2, 16, 17, 400)), b"0"), content, end)
        case 3:
            rearrange(pieces, chance, most=2_000)
        case 4:
            pieces[at] = (size + b";" + chance.choice((b"a", b'a="b"', b"a=b;c=d", b"a" * 300)), content, end)
        case 5:
            trailers = [chance.choice(_FIELDS) for _ in range(chance.choice(MANY))]
            pieces[-1] = (pieces[-1][0], pieces[-1][1], b"\r\n".join([*trailers, b""]) + pieces[-1][2])
    return b"".join(size + b"\r\n" + content + end for size, content, end in pieces)


def _split_chunks(body: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Size, content and end of each chunk; the end of the last is all that follows."""
    pieces: list[tuple[bytes, bytes, bytes]] = []
    at = 0
    while found := _CHUNK.match(body, at):
        size = int(found[1], 16)
        start, end = found.end(), found.end() + size
        if not size or end > len(body):
            pieces.append((found[0][:-2], b"", body[start:]))
            break
        pieces.append((found[0][:-2], body[start:end], body[end : end + 2]))
        at = end + 2
    return pieces


def _reframe(head: bytes, body: bytes, chance: random.Random) -> tuple[bytes, bytes]:
    """A request whose body is in chunks instead of as it was, or in a form that contradicts its head."""
    lines = [
        line for line in head.split(b"\r\n") if not line.lower().startswith((b"content-length", b"transfer-encoding"))
    ]
    content = chance.choice(contents()) if chance.random() < 0.5 else body[:2_000]
    pieces = [content[start : start + 7] for start in range(0, len(content), 7)]
    trailers = [chance.choice(_FIELDS) for _ in range(chance.choice((0, 0, 1, 3, 100)))]
    framings = [
        [_CHUNKED],
        [b"Content-Length: %d" % len(content)],
        [_CHUNKED, b"Content-Length: %d" % len(content)],
        [chance.choice(_FIELDS)],
    ]
    written = chunked(pieces, trailers) if chance.random() < 0.6 else content
    return b"\r\n".join([*lines, *chance.choice(framings)]), written


def _frame(head: bytes, body: bytes) -> tuple[bytes, bytes]:
    """A request whose length is right."""
    lines = [
        line for line in head.split(b"\r\n") if not line.lower().startswith((b"content-length", b"transfer-encoding"))
    ]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body)]), body
