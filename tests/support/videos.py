"""Video files, made from pixels."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from tests.support.pictures import Pixels, encode

_MILLISECONDS: Final = 1_000
_UPRIGHT: Final = (1, 0, 0, 1)
# ISO/IEC 14496-12, section 8.3.2: the matrix that turns a picture clockwise.
_TURNS: Final = {0: _UPRIGHT, 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}


def quicktime(frames: Sequence[Pixels], times: Sequence[float], *, turn: int = 0) -> bytes:
    """A QuickTime file of JPEG images, each shown from its own time on.

    Args:
        frames: RGB pixels of one size, uint8 (height, width, 3), as they are stored.
        times: Times in seconds from 0, rising; the last frame is shown as long as the one before.
        turn: Angle by which a player turns the frames clockwise: 0, 90, 180 or 270 degrees.
    """
    samples = [encode(frame) for frame in frames]
    height, width = frames[0].shape[:2]
    ticks = [round(time * _MILLISECONDS) for time in times]
    durations = [later - earlier for earlier, later in pairwise(ticks)]
    durations.append(durations[-1] if durations else 500)
    head = _box(b"ftyp", b"qt  \0\0\0\0qt  ")
    table = _table(samples, durations, len(head) + 8, width, height)
    media = _box(b"mdia", _media_header(sum(durations)), _handler(), _box(b"minf", _video_header(), _data(), table))
    track = _box(b"trak", _track_header(sum(durations), width, height, turn), media)
    return head + _box(b"mdat", *samples) + _box(b"moov", _movie_header(sum(durations)), track)


def _box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I", 8 + len(body)) + kind + body


def _matrix(a: int, b: int, c: int, d: int, width: int, height: int) -> bytes:
    right = width if a < 0 else height if c < 0 else 0
    down = height if d < 0 else width if b < 0 else 0
    one = 1 << 16
    return struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, right * one, down * one, 1 << 30)


def _movie_header(duration: int) -> bytes:
    times = struct.pack(">5I", 0, 0, 0, _MILLISECONDS, duration)
    speed_and_volume = struct.pack(">IH10x", 1 << 16, 1 << 8)
    return _box(b"mvhd", times, speed_and_volume, _matrix(*_UPRIGHT, 0, 0), bytes(24), b"\0\0\0\2")


def _track_header(duration: int, width: int, height: int, turn: int) -> bytes:
    times = struct.pack(">6I", 7, 0, 0, 1, 0, duration)
    matrix = _matrix(*_TURNS[turn], width, height)
    return _box(b"tkhd", times, bytes(16), matrix, struct.pack(">II", width << 16, height << 16))


def _media_header(duration: int) -> bytes:
    return _box(b"mdhd", struct.pack(">5IHH", 0, 0, 0, _MILLISECONDS, duration, 0, 0))


def _handler() -> bytes:
    return _box(b"hdlr", bytes(4), b"mhlrvide", bytes(13))


def _video_header() -> bytes:
    return _box(b"vmhd", struct.pack(">I8x", 1))


def _data() -> bytes:
    return _box(b"dinf", _box(b"dref", struct.pack(">II", 0, 1), _box(b"url ", b"\0\0\0\1")))


def _table(samples: Sequence[bytes], durations: Sequence[int], offset: int, width: int, height: int) -> bytes:
    count = len(samples)
    picture = struct.pack(">16xHHIIIH32xHh", width, height, 72 << 16, 72 << 16, 0, 1, 24, -1)
    description = _box(b"jpeg", struct.pack(">6xH", 1), picture)
    offsets = [offset + sum(map(len, samples[:place])) for place in range(count)]
    return _box(
        b"stbl",
        _box(b"stsd", struct.pack(">II", 0, 1), description),
        _box(b"stts", struct.pack(">II", 0, count), *(struct.pack(">II", 1, duration) for duration in durations)),
        _box(b"stsc", struct.pack(">5I", 0, 1, 1, 1, 1)),
        _box(b"stsz", struct.pack(">III", 0, 0, count), *(struct.pack(">I", len(sample)) for sample in samples)),
        _box(b"stco", struct.pack(">II", 0, count), *(struct.pack(">I", place) for place in offsets)),
    )
