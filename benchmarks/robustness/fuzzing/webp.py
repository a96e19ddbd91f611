"""Mutations of WebP files, chunk by chunk (RFC 9649, section 2)."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.robustness.fuzzing import exif
from benchmarks.robustness.fuzzing.mutation import MANY, number, overwrite, rearrange, resize

SIGNATURE: Final = b"RIFF"

_HEADER: Final = 12  # bytes before the first chunk
_FRAME_HEADER: Final = 16  # bytes before the chunks of a frame
_KINDS: Final = (b"VP8X", b"VP8 ", b"VP8L", b"ANIM", b"ANMF", b"ALPH", b"ICCP", b"EXIF", b"XMP ", b"abcd", bytes(4))


@dataclass(frozen=True)
class Chunk:
    """A chunk.

    Attributes:
        kind: FourCC.
        data: Content.
        declared: Length that it declares, if it is not the true one.
    """

    kind: bytes
    data: bytes = b""
    declared: int | None = None

    def to_bytes(self) -> bytes:
        """The chunk as it is written, filled up to an even length."""
        declared = len(self.data) if self.declared is None else self.declared
        return self.kind + struct.pack("<I", declared & 0xFFFFFFFF) + self.data + b"\x00" * (len(self.data) % 2)


def parse(data: bytes) -> list[Chunk]:
    """The chunks in a file without its header, or in a frame; the last may lack its end."""
    chunks, at = [], 0
    while at + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        chunks.append(Chunk(data[at : at + 4], data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return chunks


def mutate(file: bytes, chance: random.Random) -> bytes:
    """A file with one of its chunks, or of a frame's chunks, changed, moved, repeated or dropped."""
    chunks = _mutate(parse(file[_HEADER:]), chance)
    body = b"WEBP" + b"".join(chunk.to_bytes() for chunk in chunks)
    size = len(body) if chance.random() < 0.9 else number(chance, 4)
    return SIGNATURE + struct.pack("<I", size) + body


def _mutate(chunks: list[Chunk], chance: random.Random) -> list[Chunk]:
    if not chunks:
        return chunks
    at = chance.randrange(len(chunks))
    match chance.randrange(7):
        case 0 | 1:
            rearrange(chunks, chance)
        case 2:
            chunks[at:at] = [_new(chance)] * chance.choice(MANY)
        case 3:
            chunks[at] = _change_shape(chunks[at], chance)
        case 4:
            chunks[at] = replace(chunks[at], data=overwrite(chunks[at].data, chance))
        case 5:  # the header of a bit stream, or of the image: sizes and flags
            place = chance.randrange(min(12, len(chunks[at].data) or 1))
            chunks[at] = replace(chunks[at], data=overwrite(chunks[at].data, chance, at=place))
        case 6:
            frames = [place for place, chunk in enumerate(chunks) if chunk.kind == b"ANMF"]
            if frames:
                at = chance.choice(frames)
                data = chunks[at].data
                inner = b"".join(chunk.to_bytes() for chunk in _mutate(parse(data[_FRAME_HEADER:]), chance))
                chunks[at] = replace(chunks[at], data=data[:_FRAME_HEADER] + inner)
    return chunks


def _new(chance: random.Random) -> Chunk:
    sides = (number(chance, 3)).to_bytes(3, "little") + (number(chance, 3)).to_bytes(3, "little")
    return chance.choice(
        [
            Chunk(b"VP8X", struct.pack("<I", chance.randrange(256)) + sides),
            Chunk(b"ANIM", chance.randbytes(6)),
            Chunk(b"ANMF", chance.randbytes(6) + sides + chance.randbytes(chance.choice((4, 40)))),
            Chunk(b"ALPH", chance.randbytes(chance.choice((0, 1, 100)))),
            Chunk(b"ICCP", exif.profile(chance)),
            Chunk(b"EXIF", chance.choice((b"", b"Exif\x00\x00")) + exif.block(chance)),
            Chunk(chance.choice(_KINDS), chance.randbytes(chance.choice((0, 1, 10, 300)))),
        ]
    )


def _change_shape(chunk: Chunk, chance: random.Random) -> Chunk:
    match chance.randrange(3):
        case 0:
            return replace(chunk, kind=chance.choice(_KINDS))
        case 1:
            return replace(chunk, declared=number(chance, 4))
        case _:
            return replace(chunk, data=resize(chunk.data, chance))
