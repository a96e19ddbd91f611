"""EXIF blocks that are built to be odd (EXIF 2.32, section 4.6; TIFF 6.0, section 2), and colour profiles."""

from __future__ import annotations

import random
import struct
from typing import Final

from benchmarks.robustness.fuzzing.mutation import number

_TAGS: Final = (0x0100, 0x0101, 0x010E, 0x0112, 0x0112, 0x0112, 0x011A, 0x0131, 0x0201, 0x0202, 0x8769, 0x8825, 0xA005)
_POINTERS: Final = (0x8769, 0x8825, 0xA005)  # directories of their own
_TYPES: Final = tuple(range(14))


def block(chance: random.Random) -> bytes:
    """A TIFF structure with some entries; its pointers may lead anywhere, also back to where they are."""
    order = chance.choice("<>")
    signature = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}H", chance.choice((42, 42, 42, 43, 0)))
    entries = []
    for _ in range(chance.choice((0, 1, 2, 5, 40))):
        tag, kind = chance.choice(_TAGS), chance.choice(_TYPES)
        value = chance.choice((0, 6, 8, 20, 200)) if tag in _POINTERS else number(chance, 4)
        if tag == 0x0112 and chance.random() < 0.7:
            kind, value = 3, chance.randrange(10)
            entries.append(struct.pack(f"{order}HHIHH", tag, kind, 1, value, 0))
        else:
            entries.append(struct.pack(f"{order}HHII", tag, kind, chance.choice((1, 1, 2, number(chance, 4))), value))
    count = len(entries) if chance.random() < 0.8 else number(chance, 2)
    following = chance.choice((0, 0, 8, number(chance, 4)))
    offset = 8 if chance.random() < 0.9 else number(chance, 4)
    rest = chance.randbytes(chance.choice((0, 8, 300)))
    head = signature + struct.pack(f"{order}IH", offset, count)
    return head + b"".join(entries) + struct.pack(f"{order}I", following) + rest


def profile(chance: random.Random) -> bytes:
    """A colour profile: a header that declares a size, and random bytes (ICC.1, section 7.2)."""
    size = chance.choice((128, 200, 3_000))
    declared = size if chance.random() < 0.5 else number(chance, 4)
    return struct.pack(">I", declared) + chance.randbytes(32) + b"acsp" + chance.randbytes(size - 40)
