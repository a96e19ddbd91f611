"""Bodies with several frames: what `service.upload` makes of them, and of the times and the session beside them.

An input is the value of Content-Type, a line feed, and the body; see `benchmarks.robustness.fuzzing.multipart_target`.
"""

from __future__ import annotations

import itertools
import random
from typing import Final

from benchmarks.robustness.fuzzing import multipart_mutation, multipart_target
from benchmarks.robustness.fuzzing.http_mutation import contents
from service.errors import InvalidParameterError
from service.parameters import MAX_IMAGES, read_times
from service.session.state import State
from service.upload import Frames, read_frames

MAX_BYTES: Final = multipart_target.MAX_BYTES
CPU_SECONDS: Final = 0.5

_KIND: Final = b"multipart/form-data; boundary=" + multipart_mutation.BOUNDARY + b"\n"
_TEXTS: Final = (
    b"0", b"0,1", b"0,0.5,1", b"1,0", b"", b",", b"0,1,", b"1e5,2e5", b"-1,0", b"nan", b"inf", b" 0 , 1 ", b"0,00,1",
    b"9999999999,99999999999", b"1." + b"0" * 5_000, b"1," * 5_000, b"\xff", b"\xd9\xa1,\xd9\xa2", b"0\x00,1",
    b"x" * 5_000,
)  # fmt: skip


def _part(name: bytes, content: bytes, file: bytes = b"") -> bytes:
    return b'Content-Disposition: form-data; name="' + name + b'"' + file + b"\r\n\r\n" + content


def _frames(count: int) -> list[bytes]:
    return [_part(b"image", contents()[0], b'; filename="a.jpg"')] * count


def seeds() -> tuple[bytes, ...]:
    """Bodies with frames, times and sessions."""
    session = State(session="0" * 32).encode().encode()
    times = [_part(b"times", b"0,0.5,1")]
    bodies = [
        _frames(3),
        _frames(3) + times,
        times + _frames(3),
        [*_frames(1), _part(b"session", session)],
        _frames(MAX_IMAGES),
        _frames(MAX_IMAGES + 1),
        [_part(b"image", b"", b'; filename=""'), *_frames(1)],
        [_part(b"times", b"0", b'; filename="t"'), *_frames(1)],
    ]
    return tuple(_KIND + multipart_mutation.body(parts) for parts in bodies)


def mutate(data: bytes, chance: random.Random) -> bytes:
    """A body that differs from another in its parts, in its texts, or in bytes."""
    if not data or chance.random() < 0.05:
        data = chance.choice(seeds())
    if chance.random() < 0.4:
        kind, _, body = data.partition(b"\n")
        pieces = body.split(b"--" + multipart_mutation.BOUNDARY)
        text = _part(chance.choice((b"times", b"times", b"session")), chance.choice((*_TEXTS, b"A" * 5_000)))
        pieces.insert(chance.randrange(len(pieces)), b"\r\n" + text + b"\r\n")
        data = kind + b"\n" + (b"--" + multipart_mutation.BOUNDARY).join(pieces)
    if chance.random() < 0.7:
        data = multipart_target.mutate(data, chance)
    return data[:MAX_BYTES]


_reader: multipart_target.Reader[Frames] | None = None


def run(data: bytes) -> list[str]:
    """Read a body all at once and in pieces, then its times and its session.

    Returns:
        The outcome: `read`, or the code of an error.

    Raises:
        AssertionError: Something is not as it must be.
    """
    global _reader
    _reader = _reader or multipart_target.Reader(read_frames)
    kind, _, body = data.partition(b"\n")
    if any(byte in kind for byte in b"\r\x00"):
        return ["no header"]
    outcome, sent = _reader.read_both_ways(kind, body)
    if sent is None:
        return [outcome]
    assert 1 <= len(sent.images) <= MAX_IMAGES, "no frame, or too many"
    assert all(image in body for image in sent.images), "a frame that was not sent"
    try:
        state = State.decode(sent.session) if sent.session else None
        times = read_times(sent.times, len(sent.images), None if state is None else state.summary.last)
    except InvalidParameterError as error:
        return [error.code if len(str(error)) < 200 else "a detail as long as what was sent"]
    assert len(times) == len(sent.images), "not a time for each frame"
    assert all(earlier < later for earlier, later in itertools.pairwise(times)), "times that do not rise"
    return [outcome]
