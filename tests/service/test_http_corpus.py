"""A corpus of HTTP requests, well-formed and not, in the manner of conformance and request-smuggling suites.

Each case says what is sent on a connection of its own, which responses come, and whether the connection goes on. After
each, another request follows on the same connection: it is answered if the connection goes on, and nothing answers it
otherwise; so no case is answered twice, and no part of one is taken for a request of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.support.raw_http import SENTINEL, exchange
from tests.support.server import UPLOAD, Server

MARK = b"meaa-corpus-4be19c"
"""Stands in what is refused; no line of the log may have it."""

HOST = b"Host: x\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
ABC = b"3\r\nabc\r\n0\r\n\r\n"
"""The body `abc`, in chunks."""

UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
)
READ = "400 invalid_image"
"""The answer to an upload of `abc`: its body was read."""


@dataclass(frozen=True)
class Case:
    """What is sent, and what comes back.

    Attributes:
        name: Description of what is sent.
        sent: Bytes.
        answers: Status and problem code of each response.
        goes_on: Whether the connection may be used for another request.
        bodiless: Whether the response has no body.
        in_pieces: Whether it is also sent byte by byte.
        early: Whether the response does not depend on the body. If it comes before the body's end, the connection ends.
    """

    name: str
    sent: bytes
    answers: tuple[str, ...]
    goes_on: bool = True
    bodiless: bool = False
    in_pieces: bool = True
    early: bool = False


def get(
    fields: bytes = HOST, *, target: bytes = b"/livez", method: bytes = b"GET", version: bytes = b"HTTP/1.1"
) -> bytes:
    """A request without a body."""
    return method + b" " + target + b" " + version + b"\r\n" + fields + b"\r\n"


def post(fields: bytes, body: bytes = b"", *, version: bytes = b"HTTP/1.1", target: str = UPLOAD) -> bytes:
    """A request with a body, whose framing is up to the fields."""
    line = b"POST " + target.encode() + b" " + version + b"\r\n"
    return line + HOST + b"Content-Type: image/jpeg\r\n" + fields + b"\r\n" + body


def length(count: bytes, name: bytes = b"Content-Length") -> bytes:
    """A header field for the length of a body."""
    return name + b": " + count + b"\r\n"


def coded(coding: bytes) -> bytes:
    """A body in chunks, under a transfer coding."""
    return post(b"Transfer-Encoding: " + coding + b"\r\n", ABC)


def chunks(body: bytes) -> bytes:
    """A body with chunked framing as given."""
    return post(CHUNKED, body)


def fine(name: str, sent: bytes, *answers: str) -> Case:
    """A request that is answered; the connection goes on."""
    return Case(name, sent, answers or ("200",))


def early(name: str, sent: bytes, *answers: str) -> Case:
    """A request that is answered whatever its body is."""
    return Case(name, sent, answers or ("200",), early=True)


def last(name: str, sent: bytes, *answers: str) -> Case:
    """A request that is answered; the connection ends."""
    return Case(name, sent, answers, goes_on=False)


def at_once(name: str, sent: bytes, *answers: str) -> Case:
    """A request, and what is none before that is answered; the connection ends."""
    return Case(name, sent, answers, goes_on=False, in_pieces=False)


def refused(name: str, sent: bytes) -> Case:
    """What is no request: the connection ends."""
    return last(name, sent, "400 bad_request")


def too_long(name: str, sent: bytes) -> Case:
    """A head, or a framing, that is too long: the connection ends."""
    return last(name, sent, "431 request_header_fields_too_large")


CASES = [
    # Request line
    fine("a request", get()),
    fine("empty lines before a request", b"\r\n\r\n" + get()),
    fine("a query", get(target=b"/livez?a=b&c=%20")),
    refused("a space before a request", b" " + get()),
    refused("a tab in place of a space", b"GET\t/livez HTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("a space after the version", b"GET /livez HTTP/1.1 \r\n" + HOST + b"\r\n"),
    refused("a space in the target", get(target=b"/a b")),
    refused("no target", b"GET HTTP/1.1\r\n" + HOST + b"\r\n"),
    refused("a method in lower case", get(method=b"get")),
    refused("a method that nobody knows", get(method=MARK)),
    refused("no version (HTTP/0.9)", b"GET /livez\r\n\r\n"),
    refused("version 0.9", get(version=b"HTTP/0.9")),
    refused("version 1.2", get(version=b"HTTP/1.2")),
    refused("version 2.0", get(version=b"HTTP/2.0")),
    refused("a version in lower case", get(version=b"http/1.1")),
    refused("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    refused("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)),
    refused("lines that end without a carriage return", b"GET /livez HTTP/1.1\nHost: x\n\n"),
    refused("a head that ends without one", b"GET /livez HTTP/1.1\r\nHost: x\r\n\n"),
    refused("bytes beyond ASCII in the target", get(target=b"/\xff" + MARK)),
    # Targets
    fine("absolute form", get(target=b"http://x/livez")),
    fine("absolute form with another host", get(target=b"http://other:8000/livez")),
    refused("absolute form without a Host", get(b"", target=b"http://x/livez")),
    refused("authority form", get(target=b"x:80")),
    refused("CONNECT", get(target=b"x:80", method=b"CONNECT")),
    refused("CONNECT with a path", get(method=b"CONNECT")),
    refused("no slash", get(target=b"livez")),
    fine("asterisk form", get(target=b"*", method=b"OPTIONS"), "404 not_found"),
    fine("two slashes", get(target=b"//livez"), "404 not_found"),
    fine("dots", get(target=b"/static_content/../livez"), "404 not_found"),
    fine("encoded dots", get(target=b"/%2e%2e/livez"), "404 not_found"),
    fine("an encoded zero", get(target=b"/livez%00"), "404 not_found"),
    fine("an encoding that is none", get(target=b"/%zz"), "404 not_found"),
    fine("an encoded line break", get(target=b"/livez%0d%0aX:%20y"), "404 not_found"),
    # Methods
    Case("HEAD", get(method=b"HEAD"), ("200",), bodiless=True),
    Case("HEAD where only POST is allowed", get(target=UPLOAD.encode(), method=b"HEAD"), ("405",), bodiless=True),
    fine("TRACE", get(method=b"TRACE", target=UPLOAD.encode()), "405 method_not_allowed"),
    early("GET with a body", get(HOST + length(b"3")) + b"abc"),
    early("GET with a body in chunks", get(HOST + CHUNKED) + ABC),
    # Host
    refused("no Host", get(b"")),
    refused("two Hosts", get(HOST + HOST)),
    refused("two Hosts that differ", get(HOST + b"Host: y\r\n")),
    refused("a Host with a space", get(b"Host: a b\r\n")),
    refused("a list of Hosts", get(b"Host: a, b\r\n")),
    refused("a Host with a user", get(b"Host: me@x\r\n")),
    refused("a Host with a path", get(b"Host: x/y\r\n")),
    refused("a Host with a port that is no number", get(b"Host: x:y\r\n")),
    refused("a Host beyond ASCII", get(b"Host: \xc3\xa9\r\n")),
    fine("an empty Host", get(b"Host:\r\n")),
    fine("a Host with a port", get(b"Host: service.example:8000\r\n")),
    fine("an IPv6 address as Host", get(b"Host: [::1]:8000\r\n")),
    last("no Host in HTTP/1.0", get(b"", version=b"HTTP/1.0"), "200"),
    refused("two Hosts in HTTP/1.0", get(HOST + HOST, version=b"HTTP/1.0")),
    # Header fields
    fine("bytes beyond ASCII in a value", get(HOST + b"X: \xff\xfe\r\n")),
    fine("an empty value", get(HOST + b"X:\r\n")),
    fine("a hundred fields", get(HOST + b"X: y\r\n" * 99)),
    refused("a space before the colon", get(HOST + b"X : " + MARK + b"\r\n")),
    refused("a folded line", get(HOST + b"X: a\r\n " + MARK + b"\r\n")),
    refused("a folded first line", b"GET /livez HTTP/1.1\r\n Host: x\r\n\r\n"),
    refused("no colon", get(HOST + MARK + b"\r\n")),
    refused("no name", get(HOST + b": y\r\n")),
    refused("a zero in a value", get(HOST + b"X: a\0b\r\n")),
    refused("a zero in a name", get(HOST + b"X\0: y\r\n")),
    refused("a carriage return in a value", get(HOST + b"X: a\rb\r\n")),
    refused("a line feed in a value", get(HOST + b"X: a\nHost: y\r\n")),
    refused("bytes beyond ASCII in a name", get(HOST + b"\xc3\xa9: y\r\n")),
    # Content-Length
    fine("a length", post(length(b"3"), b"abc"), READ),
    fine("length zero", post(length(b"0")), "400 missing_image"),
    fine("no length, no body", post(b""), "400 missing_image"),
    fine("zeros before a length", post(length(b"0003"), b"abc"), READ),
    fine("an underscore in its name", post(length(b"3", b"Content_Length")), "400 missing_image"),
    refused("a length that is signed", post(length(b"+3"), b"abc")),
    refused("a negative length", post(length(b"-3"), b"abc")),
    refused("a hexadecimal length", post(length(b"0x3"), b"abc")),
    refused("a decimal fraction as length", post(length(b"3.0"), b"abc")),
    refused("an empty length", post(length(b""), b"abc")),
    refused("a length with a space", post(length(b"1 1"), b"abc")),
    refused("a length of 5,000 zeros and a digit", post(length(b"0" * 5_000 + b"3"), b"abc")),
    refused("a length beyond 64 bits", post(length(b"18446744073709551616"), b"abc")),
    refused("other digits than ASCII's", post(length("٣".encode()), b"abc")),
    refused("a list of lengths", post(length(b"3, 3"), b"abc")),
    refused("the same length twice", post(length(b"3") + length(b"3"), b"abc")),
    refused("two lengths", post(length(b"3") + length(b"4"), b"abc")),
    refused("a space after the name of a length", post(length(b"3", b"Content-Length "), b"abc")),
    last("a length beyond the limit", post(length(b"99999999"), b"abc"), "413 too_large"),
    # Transfer-Encoding
    fine("chunks", coded(b"chunked"), READ),
    fine("chunks, in capitals", coded(b"CHUNKED"), READ),
    fine("chunks, after a tab", coded(b"\tchunked"), READ),
    refused("chunks and a length", post(CHUNKED + length(b"3"), ABC)),
    refused("a length and chunks", post(length(b"3") + CHUNKED, ABC)),
    refused("chunks in HTTP/1.0", post(CHUNKED, ABC, version=b"HTTP/1.0")),
    refused("chunks of chunks", coded(b"chunked, chunked")),
    refused("chunks, in two fields", post(CHUNKED + CHUNKED, ABC)),
    refused("chunks, in a field of another coding", post(b"Transfer-Encoding: identity\r\n" + CHUNKED, ABC)),
    refused("gzip in chunks", coded(b"gzip, chunked")),
    refused("chunks in gzip", coded(b"chunked, gzip")),
    refused("gzip", coded(b"gzip")),
    refused("identity", coded(b"identity")),
    refused("a coding that nobody knows", coded(b"x" + MARK)),
    refused("no coding", coded(b"")),
    refused("a comma before the coding", coded(b",chunked")),
    refused("a parameter of the coding", coded(b"chunked;q=1")),
    refused("a quoted coding", coded(b'"chunked"')),
    refused("a vertical tab before the coding", coded(b"\x0bchunked")),
    refused("a folded coding", coded(b"\r\n chunked")),
    refused("a space after the name of the coding", post(b"Transfer-Encoding : chunked\r\n", ABC)),
    # Chunks
    fine("capital digits", chunks(b"A\r\nabcdefghij\r\n0\r\n\r\n"), READ),
    fine("zeros before a size", chunks(b"0003\r\nabc\r\n000\r\n\r\n"), READ),
    fine("an extension", chunks(b'3;a=b;c="d;e"\r\nabc\r\n0;f\r\n\r\n'), READ),
    refused("a size with a prefix", chunks(b"0x3\r\nabc\r\n0\r\n\r\n")),
    refused("a signed size", chunks(b"+3\r\nabc\r\n0\r\n\r\n")),
    refused("a negative size", chunks(b"-3\r\nabc\r\n0\r\n\r\n")),
    refused("an underscore in a size", chunks(b"1_0\r\nabc\r\n0\r\n\r\n")),
    refused("a space before a size", chunks(b" 3\r\nabc\r\n0\r\n\r\n")),
    refused("a space after a size", chunks(b"3 \r\nabc\r\n0\r\n\r\n")),
    refused("no size", chunks(b"\r\nabc\r\n0\r\n\r\n")),
    refused("a size beyond 64 bits", chunks(b"10000000000000003\r\nabc\r\n0\r\n\r\n")),
    refused("a size that is too small", chunks(b"2\r\nabc\r\n0\r\n\r\n")),
    refused("a size that is too large", chunks(b"4\r\nabc\r\n0\r\n\r\n")),
    refused("a size that is no number", chunks(MARK + b"\r\nabc\r\n0\r\n\r\n")),
    refused("line feeds only", chunks(b"3\nabc\n0\n\n")),
    refused("an extension that ends in a line feed", chunks(b"3;a\nabc\r\n0\r\n\r\n")),
    refused("a carriage return in an extension", chunks(b"3;a\rb\r\nabc\r\n0\r\n\r\n")),
    # Trailers
    fine("a trailer", chunks(b"3\r\nabc\r\n0\r\nX: y\r\n\r\n"), READ),
    fine("a Host as trailer", chunks(b"3\r\nabc\r\n0\r\nHost: y\r\n\r\n"), READ),
    fine("a content coding as trailer", chunks(b"3\r\nabc\r\n0\r\nContent-Encoding: gzip\r\n\r\n"), READ),
    refused("a length as trailer", chunks(b"3\r\nabc\r\n0\r\nContent-Length: 3\r\n\r\n")),
    refused("a coding as trailer", chunks(b"3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n")),
    refused("a folded trailer", chunks(b"3\r\nabc\r\n0\r\nX: y\r\n " + MARK + b"\r\n\r\n")),
    # Upgrade
    fine("an upgrade to HTTP/2", get(HOST + UPGRADE)),
    fine("an upload with an upgrade", post(UPGRADE + length(b"3"), b"abc"), READ),
    fine("an upload in chunks with an upgrade", post(UPGRADE + CHUNKED, ABC), READ),
    fine("an upgrade whose body is a request", post(UPGRADE + length(b"%d" % len(get())), get()), READ),
    fine("an upgrade to what nobody knows", post(b"Connection: Upgrade\r\nUpgrade: foo/1\r\n" + CHUNKED, ABC), READ),
    fine("an upgrade that Connection does not name", post(b"Upgrade: h2c\r\n" + length(b"3"), b"abc"), READ),
    fine("an upgrade that names no protocol", post(b"Connection: Upgrade\r\n" + length(b"3"), b"abc"), READ),
    fine("several upgrades", get(HOST + UPGRADE) * 8, *["200"] * 8),
    fine("a WebSocket where there is none", get(HOST + WEBSOCKET)),
    fine("a WebSocket where there is a POST", get(HOST + WEBSOCKET, target=UPLOAD.encode()), "405 method_not_allowed"),
    fine("a WebSocket with a body", post(WEBSOCKET + length(b"3"), b"abc"), READ),
    refused("an upgrade without a Host", get(UPGRADE)),
    refused("an upgrade with a bad chunk", post(UPGRADE + CHUNKED, b"ZZ\r\nabc\r\n0\r\n\r\n")),
    # Expect, content codings
    fine("an expectation", post(b"Expect: 100-continue\r\n" + length(b"3"), b"abc"), "100", READ),
    fine("another expectation", post(b"Expect: the worst\r\n" + length(b"3"), b"abc"), READ),
    last("an expectation that is not met", post(b"Expect: 100-continue\r\n" + length(b"99999999")), "413 too_large"),
    early("a compressed body", post(b"Content-Encoding: gzip\r\n" + length(b"3"), b"abc"), "415 unsupported_encoding"),
    early("two codings", post(b"Content-Encoding: identity, br\r\n" + CHUNKED, ABC), "415 unsupported_encoding"),
    fine("identity as content coding", post(b"Content-Encoding: identity\r\n" + length(b"3"), b"abc"), READ),
    # Connections
    fine("three requests at once", get() * 3, "200", "200", "200"),
    fine("eight requests at once", get() * 8, *["200"] * 8),
    fine("uploads at once", post(length(b"3"), b"abc") + chunks(ABC) + get(), READ, READ, "200"),
    fine("a large upload, and a request", post(length(b"200000"), bytes(200_000)) + get(), READ, "200"),
    last("HTTP/1.0", get(version=b"HTTP/1.0"), "200"),
    last("a request to close", get(HOST + b"Connection: close\r\n"), "200"),
    last("a request to close, and another", get(HOST + b"Connection: close\r\n") + get(), "200"),
    at_once("a request, then none", get() + MARK + b"\r\n\r\n", "200"),
    at_once("an upload, then none", post(length(b"3"), b"abc") + b"\0", READ),
    # Length
    too_long("an address of 100,000 bytes", get(target=b"/" + b"x" * 100_000)),
    too_long("a name of 100,000 bytes", get(HOST + b"x" * 100_000 + b": y\r\n")),
    too_long("a value of 100,000 bytes", get(HOST + b"X: " + b"y" * 100_000 + b"\r\n")),
    too_long("a hundred and one fields", get(HOST + b"X: y\r\n" * 100)),
    too_long("25,000 fields", get(HOST + b"a:\r\n" * 25_000)),
    too_long("25,000 trailers", chunks(b"3\r\nabc\r\n0\r\n" + b"a:\r\n" * 25_000 + b"\r\n")),
    too_long("a trailer of 100,000 bytes", chunks(b"3\r\nabc\r\n0\r\nX: " + b"y" * 100_000 + b"\r\n\r\n")),
    too_long("an extension of a megabyte", chunks(b"3;" + b"x" * 1_000_000 + b"\r\nabc\r\n0\r\n\r\n")),
    too_long("a size of a million zeros", chunks(b"0" * 1_000_000 + b"\r\n\r\n")),
    too_long("300,000 chunks of a byte", chunks(b"1\r\nx\r\n" * 300_000 + b"0\r\n\r\n")),
    fine("3,000 chunks of a byte", chunks(b"1\r\nx\r\n" * 3_000 + b"0\r\n\r\n"), READ),
    last("an upload without an end", chunks(b"ffffffffffffffff\r\n" + b"x" * 11_000_000), "413 too_large"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_request_gets_its_answer_and_no_other(case: Case, server: Server) -> None:
    expected = [*case.answers, "200"] if case.goes_on else list(case.answers)
    sent = case.sent + SENTINEL
    ways = [[sent]]
    if case.in_pieces and len(sent) < 1_000:
        ways.append([sent[at : at + 1] for at in range(len(sent))])
    for pieces in ways:
        answers = exchange(server.port, *pieces, bodiless=case.bodiless)
        if case.early and len(answers) < len(expected):
            assert answers[-1].fields["connection"] == "close"
            expected = expected[:-1]
        assert [str(answer) for answer in answers] == expected
        for answer in answers:
            assert answer.status < 500
            if answer.status > 100:
                assert answer.fields["x-content-type-options"] == "nosniff"
                assert answer.fields["x-request-id"]
        if not case.goes_on:
            assert answers[-1].fields["connection"] == "close"


def test_the_cases_have_names_of_their_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES) > 150


def test_none_of_this_is_an_error_of_the_service_or_a_line_in_its_log(server: Server) -> None:
    """Runs last in this file."""
    log = server.log.read_bytes()
    assert MARK not in log
    assert b"Traceback" not in log
    assert log.count(b"\n") < 20
    metrics = server.client.get("/metrics").text
    assert 'meaa_requests_total{code="internal_server_error",status="500"} 0.0' in metrics
    assert 'meaa_refusals_total{status="400"} 0.0' not in metrics
