"""Live sessions as bytes on a connection: the handshake, and the frames of a client (RFC 6455).

Each input is served all at once and in pieces, which must make no difference to the replies, as far as they go: what
breaks the framing ends the session at once, whatever waits. Some are served again, to a client that does not read, or
that leaves.
"""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any, Final

from benchmarks.robustness.fuzzing import http_mutation
from benchmarks.robustness.fuzzing.mutation import damage, number, rearrange
from benchmarks.robustness.fuzzing.simulated_worker import STATUSES, SimulatedWorker
from service.moods import MOODS
from service.schema import SESSION_PATH, SUBPROTOCOL
from service.session.state import State

MAX_BYTES: Final = 30_000
CPU_SECONDS: Final = 2.0

_PROBLEMS: Final = frozenset({"invalid_image", "unsupported_type", "too_large", "no_face", "overloaded"})
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_SINGLE: Final = 200
"""How many bytes arrive one by one, if they do."""

_END: Final = json.dumps({"type": "end"}).encode()
_TEXTS: Final = (
    _END, b"{}", b"", b"[" * 2_000, b'{"type": "end", "type": "end"}', b'{"type": "resume"}', b'{"type": NaN}', b"null",
    b'{"type": "resume", "session": "x"}', b'{"type": "end"' + b" " * 6_000 + b"}", b"\xff", b"\xc3", b'"\\ud800"',
    b"1" * 5_000, b'{"type": "end"}{', b"\xef\xbb\xbf" + _END,
)  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """A frame of a client, proper or not.

    Attributes:
        start: First byte: the bit for the last piece, the reserved bits, and the opcode.
        payload: Payload before it is masked.
        mask: Masking key; None for a frame that is not masked.
        length: Length that the header tells; None for the true one.
        form: Bytes of the length in the header: 0, 2 or 8; None for the shortest form.
    """

    start: int
    payload: bytes = b""
    mask: bytes | None = b"\x01\x02\x03\x04"
    length: int | None = None
    form: int | None = None

    def to_bytes(self) -> bytes:
        """The frame as it is sent."""
        length = len(self.payload) if self.length is None else self.length
        form = (0 if length < 126 else 2 if length < 65_536 else 8) if self.form is None else self.form
        short = length & 0x7F if form == 0 else 126 if form == 2 else 127
        extended = {0: b"", 2: struct.pack("!H", length & 0xFFFF), 8: struct.pack("!Q", length)}[form]
        masked = 0 if self.mask is None else 0x80
        payload = self.payload
        if self.mask is not None:
            payload = bytes(byte ^ self.mask[at % 4] for at, byte in enumerate(payload))
        return bytes([self.start, masked | short]) + extended + (self.mask or b"") + payload


def _message(payload: bytes, opcode: int = _BINARY) -> Frame:
    return Frame(0x80 | opcode, payload)


def _handshake(*fields: bytes, line: bytes = b"GET %b HTTP/1.1" % SESSION_PATH.encode()) -> bytes:
    names = [
        line,
        b"Host: a",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
        b"Sec-WebSocket-Protocol: %b, bearer.%b" % (SUBPROTOCOL.encode(), http_mutation.TOKEN.encode()),
        *fields,
    ]
    return b"\r\n".join([*names, b"", b""])


def parse(data: bytes) -> tuple[bytes, list[Frame]]:
    """The head of an input, and its frames as far as they are proper; what follows is one frame that is not."""
    head, end, rest = data.partition(b"\r\n\r\n")
    frames: list[Frame] = []
    while len(rest) >= 2:
        start, short, at = rest[0], rest[1] & 0x7F, 2
        form = {126: 2, 127: 8}.get(short, 0)
        length = int.from_bytes(rest[2 : 2 + form], "big") if form else short
        mask = rest[2 + form : 6 + form] if rest[1] & 0x80 else None
        at = 2 + form + (4 if mask is not None else 0)
        if at + length > len(rest) or (mask is not None and len(mask) < 4):
            break
        payload = rest[at : at + length]
        if mask is not None:
            payload = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
        frames.append(Frame(start, payload, mask, None, form))
        rest = rest[at + length :]
    return head + end, frames


def _written(head: bytes, frames: Sequence[Frame]) -> bytes:
    return head + b"".join(frame.to_bytes() for frame in frames)


@cache
def _images() -> tuple[bytes, ...]:
    return (http_mutation.IMAGE, b"", b"no image", http_mutation.IMAGE[:40], bytes(300), b"GIF89a", b"\xff\xd8\xff")


@cache
def seeds() -> tuple[bytes, ...]:
    """Sessions of proper clients."""
    state = State(session="0" * 32).encode()
    resume = json.dumps({"type": "resume", "session": state}).encode()
    images = [_message(data) for data in _images()]
    image = http_mutation.IMAGE
    pieces = [Frame(_BINARY, image[:20]), Frame(_CONTINUATION, image[20:50]), Frame(0x80, image[50:])]
    head = _handshake()
    return (
        _written(head, [*images, _message(_END, _TEXT)]),
        _written(head, [_message(resume, _TEXT), *images[:1], _message(_END, _TEXT)]),
        _written(head, [*pieces, _message(b"?", _PING), *pieces[:1], _message(b"!", _PONG), *pieces[1:]]),
        _written(head, [*images[:1], _message(b"\x03\xe8bye", _CLOSE)]),
        _written(head, images * 9),
        _written(_handshake(b"Authorization: Bearer fuzz"), images[:2]),
        _written(_handshake(b"Origin: https://a"), images[:1]),
        _written(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n" + head, images[:1]),
    )


def mutate(data: bytes, chance: random.Random) -> bytes:
    """A session that differs from another in its head, in frames, or in bytes."""
    if not data or chance.random() < 0.02:
        data = chance.choice(seeds())
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        data = _mutate_once(data, chance)
    return data[:MAX_BYTES]


def _mutate_once(data: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.1:
        changed = bytearray(data)
        damage(changed, chance, seeds())
        return bytes(changed)
    head, frames = parse(data)
    if chance.random() < 0.12:
        head, _, _ = http_mutation.mutate(head, chance).partition(b"\r\n\r\n")
        head += b"\r\n\r\n"
    if not frames:
        _, frames = parse(chance.choice(seeds()))
    at = chance.randrange(len(frames) or 1)
    match chance.randrange(9):
        case 0 | 1:
            rearrange(frames, chance, most=300)
        case 2 if frames:
            frames[at] = _other_header(frames[at], chance)
        case 3:
            frames.insert(at, _message(chance.choice(_images())))
        case 4:
            frames.insert(at, _message(chance.choice(_TEXTS), _TEXT))
        case 5:
            frames.insert(at, _message(chance.randbytes(chance.choice((0, 1, 2, 125))), chance.choice((8, 9, 10))))
        case 6 if frames:
            whole = frames[at]
            cut = chance.randrange(len(whole.payload) + 1)
            first = replace(whole, start=whole.start & 0x7F, payload=whole.payload[:cut], form=None)
            rest = replace(whole, start=whole.start & 0x80, payload=whole.payload[cut:], form=None)
            frames[at : at + 1] = [first, rest]
        case 7:
            code = chance.choice((999, 1000, 1001, 1004, 1005, 1006, 1012, 1015, 2999, 3000, 4999, 5000, 65_535))
            frames.insert(at, _message(struct.pack("!H", code) + chance.choice((b"", b"bye", b"\xff")), _CLOSE))
        case 8 if frames:
            payload = bytearray(frames[at].payload)
            damage(payload, chance, _images())
            frames[at] = replace(frames[at], payload=bytes(payload), form=None)
    return _written(head, frames)


def _other_header(frame: Frame, chance: random.Random) -> Frame:
    match chance.randrange(4):
        case 0:
            return replace(frame, start=chance.randrange(256))
        case 1:
            return replace(frame, start=frame.start ^ chance.choice((0x80, 0x40, 0x20, 0x10)))
        case 2:
            return replace(frame, mask=None if frame.mask else b"mask")
        case _:
            size = chance.choice((1, 2, 8))
            return replace(frame, length=number(chance, size), form=chance.choice((0, 2, 8)))


_worker: Final = SimulatedWorker()


@dataclass
class _Served:
    """What a client got.

    Attributes:
        status: Status of the last HTTP response; 101 if there is a session. None if there is no response.
        replies: What each text message was: the number of a frame and its outcome, or `summary`.
        code: Code of the close; None if there was none.
    """

    status: int | None
    replies: list[str]
    code: int | None = None


def run(data: bytes) -> list[str]:
    """Serve a session.

    Returns:
        The status, the outcomes of frames, and the code of the close.

    Raises:
        AssertionError: Something is not as it must be.
    """
    chance = random.Random(zlib.crc32(data))
    whole = _serve([data])
    if chance.random() < 0.2:
        pieces = [*(data[at : at + 1] for at in range(min(len(data), _SINGLE))), data[_SINGLE:]]
    else:
        cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.choice((1, 2, 8))))
        pieces = [data[start:end] for start, end in pairwise((0, *cuts, len(data)))]
    parts = _serve(pieces)
    if whole.status == parts.status == 101 and data.count(b"\r\n\r\n", 0, data.find(b"\r\n\r\n") + 4) == 1:
        for one, other in zip(whole.replies, parts.replies, strict=False):
            assert one == other, f"another reply in pieces: {one} {other}"
    if chance.random() < 0.3:
        _serve(pieces, reads=chance.random() < 0.5, ends=chance.random() < 0.5)
    outcomes = [reply.partition(" ")[2] or reply for reply in whole.replies]
    return [str(whole.status), *outcomes, *([] if whole.code is None else [f"closed with {whole.code}"])]


def _serve(pieces: list[bytes], *, reads: bool = True, ends: bool = False) -> _Served:
    """Serve a connection to its end; see `benchmarks.robustness.fuzzing.http_target`."""
    received = _worker.converse(pieces, reads=reads, ends=ends)
    if not reads or ends:
        return _Served(None, [])
    return _read(received, [request.method for request in _worker.seen])


def _read(data: bytes, methods: list[bytes]) -> _Served:
    """What a client got, checked for its form.

    Args:
        data: Bytes that it has received.
        methods: Methods of the requests that reached the application.
    """
    status, answered = None, 0
    while data and status != 101:
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, "half a response"
        assert head.startswith(b"HTTP/1.1 "), f"no response: {head[:40]!r}"
        status = int(head.split(b" ", 2)[1])
        assert status in STATUSES | {101, 403, 426}, f"a status that must not be: {status}"
        if status != 101:
            bodiless = methods[answered : answered + 1] == [b"HEAD"]
            lengths = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            data = data[int(lengths[0]) if lengths and not bodiless else 0 :]
            answered += status != 100
    served = _Served(status, [])
    while data and status == 101:
        assert served.code is None, "something after the close"
        start, length, at = data[0], data[1], 2
        assert length < 128, "a server masks nothing"
        if length >= 126:
            at += 2 if length == 126 else 8
            length = int.from_bytes(data[2:at], "big")
        payload, data = data[at : at + length], data[at + length :]
        assert len(payload) == length, "half a frame"
        if start == 0x80 | _CLOSE:
            served.code = int.from_bytes(payload[:2], "big") if payload else 1005
            assert payload[2:] != b"the service failed", "a fault of the service"
        elif start == 0x80 | _TEXT:
            served.replies.append(_outcome(json.loads(payload), len(served.replies)))
        else:
            assert start in (0x80 | _PING, 0x80 | _PONG), f"a frame that must not be: {start:#x}"
    return served


def _outcome(reply: dict[str, Any], position: int) -> str:
    """What a reply says, checked for its form."""
    if "summary" in reply:
        assert set(reply) == {"summary", "session"}, "more than a summary"
        State.decode(reply["session"])
        return "summary"
    assert reply["frame"] == position, "a reply out of order"
    if "problem" in reply:
        assert reply["problem"]["code"] in _PROBLEMS, f"a problem that must not be: {reply['problem']['code']}"
        return f"{position} {reply['problem']['code']}"
    assert reply["mood"] in MOODS, "no mood"
    return f"{position} answered"
