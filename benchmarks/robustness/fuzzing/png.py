"""Mutations of PNG files, chunk by chunk (PNG, third edition, sections 5 and 11)."""

from __future__ import annotations

import contextlib
import random
import struct
import zlib
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.robustness.fuzzing import exif
from benchmarks.robustness.fuzzing.mutation import MANY, number, overwrite, rearrange, resize

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"

_KINDS: Final = (
    b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"tEXt", b"zTXt",
    b"iTXt", b"bKGD", b"hIST", b"pHYs", b"sPLT", b"eXIf", b"tIME", b"acTL", b"fcTL", b"fdAT", b"cICP", b"mDCV",
    b"CgBI", b"aBcD", b"ABCD", b"\x00\x00\x00\x00",
)  # fmt: skip


@dataclass(frozen=True)
class Chunk:
    """A chunk.

    Attributes:
        kind: Type.
        data: Content.
        declared: Length that it declares, if it is not the true one.
        checked: Whether its checksum is right.
    """

    kind: bytes
    data: bytes = b""
    declared: int | None = None
    checked: bool = True

    def to_bytes(self) -> bytes:
        """The chunk as it is written."""
        declared = len(self.data) if self.declared is None else self.declared
        checksum = zlib.crc32(self.kind + self.data) ^ (not self.checked)
        return struct.pack(">I", declared & 0xFFFFFFFF) + self.kind + self.data + struct.pack(">I", checksum)


def parse(file: bytes) -> list[Chunk]:
    """The chunks of a file, as far as they are whole."""
    chunks, at = [], len(SIGNATURE)
    while at + 12 <= len(file):
        (length,) = struct.unpack_from(">I", file, at)
        if at + 12 + length > len(file):
            break
        chunks.append(Chunk(file[at + 4 : at + 8], file[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def mutate(file: bytes, chance: random.Random) -> bytes:
    """A file with one of its chunks changed, moved, repeated or dropped, and right checksums in most cases."""
    chunks = parse(file)
    if not chunks:
        return file
    at = chance.randrange(len(chunks))
    match chance.randrange(8):
        case 0 | 1:
            rearrange(chunks, chance)
        case 2 | 3:
            new = [_new(chance)] * chance.choice(MANY)
            chunks[at:at] = new
        case 4:
            chunks[at] = _change_shape(chunks[at], chance)
        case 5:
            _change_header(chunks, chance)
        case 6:
            _change_pixels(chunks, chance)
        case 7:
            chunks[at] = replace(chunks[at], data=overwrite(chunks[at].data, chance))
    return SIGNATURE + b"".join(chunk.to_bytes() for chunk in chunks)


def _new(chance: random.Random) -> Chunk:
    """A chunk that a decoder may look into."""
    inflated = bytes(chance.choice((0, 10, 5_000, 2_000_000)))
    packed = zlib.compress(inflated)
    if chance.random() < 0.2:
        packed = overwrite(packed, chance)
    texts = chance.choice((b"", b"a", b"Raw profile type exif", b"XML:com.adobe.xmp", b"\xff" * 90))
    dimensions = struct.pack(">II", number(chance, 4), number(chance, 4))
    frame = number(chance, 4).to_bytes(4, "big") + dimensions + chance.randbytes(14)
    return chance.choice(
        [
            Chunk(b"iCCP", texts + b"\x00\x00" + chance.choice((packed, zlib.compress(exif.profile(chance))))),
            Chunk(b"zTXt", texts + b"\x00" + bytes([chance.choice((0, 0, 1))]) + packed),
            Chunk(
                b"iTXt", texts + b"\x00" + bytes([chance.randrange(3), chance.randrange(2)]) + b"en\x00\x00" + packed
            ),
            Chunk(b"tEXt", texts + b"\x00" + inflated[:5_000]),
            Chunk(b"eXIf", chance.choice((b"", b"Exif\x00\x00")) + exif.block(chance)),
            Chunk(b"acTL", number(chance, 4).to_bytes(4, "big") + number(chance, 4).to_bytes(4, "big")),
            Chunk(b"fcTL", frame),
            Chunk(b"fdAT", number(chance, 4).to_bytes(4, "big") + packed),
            Chunk(b"PLTE", chance.randbytes(chance.choice((0, 3, 4, 768, 900)))),
            Chunk(b"tRNS", chance.randbytes(chance.choice((0, 1, 2, 6, 256, 300)))),
            Chunk(chance.choice(_KINDS), chance.randbytes(chance.choice((0, 1, 4, 13, 26, 300)))),
        ]
    )


def _change_shape(chunk: Chunk, chance: random.Random) -> Chunk:
    match chance.randrange(4):
        case 0:
            return replace(chunk, kind=chance.choice(_KINDS))
        case 1:
            return replace(chunk, declared=number(chance, 4))
        case 2:
            return replace(chunk, data=resize(chunk.data, chance))
        case _:
            return replace(chunk, checked=False)


def _change_header(chunks: list[Chunk], chance: random.Random) -> None:
    """Change the size, the depth, the colour type or the interlacing of the image."""
    places = [at for at, chunk in enumerate(chunks) if chunk.kind == b"IHDR" and len(chunk.data) >= 13]
    if not places:
        return
    at = chance.choice(places)
    fields = list(struct.unpack_from(">IIBBBBB", chunks[at].data))
    which = chance.randrange(len(fields))
    choices = {2: (0, 1, 2, 4, 8, 16, 32), 3: (0, 2, 3, 4, 6, 7), 6: (0, 1, 2)}
    fields[which] = chance.choice(choices[which]) if which in choices else number(chance, 4 if which < 2 else 1)
    chunks[at] = replace(chunks[at], data=struct.pack(">IIBBBBB", *fields))


def _change_pixels(chunks: list[Chunk], chance: random.Random) -> None:
    """Change the pixels before their compression, or how the compressed ones are divided among chunks."""
    places = [at for at, chunk in enumerate(chunks) if chunk.kind == b"IDAT"]
    if not places:
        return
    data = b"".join(chunks[at].data for at in places)
    if chance.random() < 0.6:
        pixels = b""
        with contextlib.suppress(zlib.error):
            pixels = zlib.decompressobj().decompress(data, 1_000_000)
        for _ in range(chance.choice((1, 5, 20))):
            pixels = overwrite(pixels, chance)
        if chance.random() < 0.3:
            pixels = chance.choice((resize(pixels, chance), pixels * 5, pixels[: len(pixels) // 2]))
        data = zlib.compress(pixels, chance.choice((0, 1, 9)))
    size = chance.choice((1, 2, 50, len(data))) or 1
    pieces = [Chunk(b"IDAT", data[start : start + size]) for start in range(0, min(len(data), 500 * size), size)]
    chunks[places[0] : places[-1] + 1] = pieces
