"""Mutations of bytes, of numbers and of lists, for any format."""

from __future__ import annotations

import random
from collections.abc import MutableSequence, Sequence
from typing import Final, TypeVar

T = TypeVar("T")

_INTERESTING: Final = (0, 1, 2, 3, 4, 7, 8, 16, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000)
_EXTREME: Final = (0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)

MANY: Final = (1, 1, 1, 1, 1, 1, 2, 2, 3, 3, 10, 10, 100, 100, 1_200)
"""How many times something is repeated."""


def number(chance: random.Random, size: int) -> int:
    """A number of `size` bytes, more often than not one at a limit."""
    if chance.random() < 0.3:
        return chance.randrange(256**size)
    return chance.choice(_INTERESTING + (_EXTREME if size >= 4 else ())) & (256**size - 1)


def overwrite(data: bytes, chance: random.Random, *, at: int | None = None, size: int | None = None) -> bytes:
    """Bytes with another number in them, by default at any place and of any size."""
    if not data:
        return data
    place = chance.randrange(len(data)) if at is None else at
    length = size or chance.choice((1, 2, 4))
    value = number(chance, length).to_bytes(length, chance.choice(("big", "little")))
    return (data[:place] + value[: len(data) - place] + data[place + length :])[: len(data)]


def resize(data: bytes, chance: random.Random) -> bytes:
    """Bytes with some more at their end, or some fewer."""
    length = chance.choice((1, 2, 3, 8, 64, 1000))
    return data[:-length] if chance.random() < 0.5 else data + chance.randbytes(length)


def rearrange(items: MutableSequence[T], chance: random.Random, *, most: int = 2_000) -> None:
    """Repeat, drop, move or exchange items of a list, of which there are `most` in the end."""
    if not items:
        return
    first, second = (chance.randrange(len(items)) for _ in range(2))
    match chance.randrange(4):
        case 0:
            items[second:second] = [items[first]] * min(chance.choice(MANY), most - len(items))
        case 1:
            del items[first]
        case 2:
            items.insert(second, items.pop(first))
        case 3:
            items[first], items[second] = items[second], items[first]


def damage(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    """Change bytes anywhere.

    Args:
        data: Bytes to change.
        chance: Source of randomness.
        others: Bytes of which pieces may be copied.
    """
    if not data:
        return
    # Headers matter most: half of the mutations are in the first 300 bytes.
    at = chance.randrange(min(len(data), 300) if chance.random() < 0.5 else len(data))
    length = chance.choice((1, 2, 4, 8, 32, 200))
    match chance.randrange(9):
        case 0:
            data[at] ^= 1 << chance.randrange(8)
        case 1:
            data[at] = chance.randrange(256)
        case 2:
            data[:] = overwrite(bytes(data), chance, at=at)
        case 3:
            data[at : at + length] = chance.randbytes(length)
        case 4:
            del data[at : at + length]
        case 5:
            data[at:at] = chance.randbytes(length)
        case 6:
            data[at:at] = data[at : at + length] * chance.choice((1, 2, 20))
        case 7:
            other = chance.choice(others)
            start = chance.randrange(len(other) + 1)
            data[at : at + length] = other[start : start + chance.choice((4, 40, 400))]
        case 8:
            del data[at:]
