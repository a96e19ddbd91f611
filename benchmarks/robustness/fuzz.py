"""Damaged image files by the thousand, decoded in a process of its own: `python -m benchmarks.robustness.fuzz --count 20000`.

Atheris guides its mutations by the coverage of Python code, and what is fed here is C: Pillow's codecs and the
libraries below. So seeds of every kind that the decoder reads are mutated at random, the same for the same seed.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import json
import random
import struct
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from service import images
from service.errors import MeaaError
from service.settings import Settings

HANG_SECONDS: Final = 30.0
"""After so long in one decoding the process gives up, with a traceback."""

_PNG_SIGNATURE: Final = 8
_INTERESTING: Final = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@dataclass(frozen=True)
class Result:
    """What became of the files.

    Attributes:
        count: how many were decoded.
        outcomes: how often each outcome came: `decoded`, or the code of a typed error.
        untyped: exceptions outside the contract, by name, with the number of the first file that caused each.
        slowest_seconds: the longest decoding, in seconds of the processor: what else runs there counts for nothing.
        over_two_seconds: how many took longer than that.
        resident_mb: the largest resident memory of the process, in millions of bytes.
    """

    count: int
    outcomes: dict[str, int]
    untyped: dict[str, int]
    slowest_seconds: float
    over_two_seconds: int
    resident_mb: float


def seeds() -> list[bytes]:
    """Small files of every kind that the decoder reads, and a few that it refuses."""
    row, column = np.ogrid[0:48, 0:64]
    pixels = np.stack(np.broadcast_arrays(row * 5, column * 4, (row * column) % 256), axis=-1).astype(np.uint8)
    picture = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    frames = {"save_all": True, "append_images": [picture.rotate(90), picture.rotate(180)]}
    return [
        _file(picture, "JPEG", quality=90),
        _file(picture, "JPEG", progressive=True, exif=exif, icc_profile=bytes(200)),
        _file(picture, "JPEG", exif=exif, subsampling=0, restart_marker_blocks=2),
        _file(picture.convert("L"), "JPEG"),
        _file(picture.convert("CMYK"), "JPEG"),
        _file(picture, "MPO", save_all=True, append_images=[picture.resize((16, 16))]),
        *(_file(picture.convert(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
        _file(Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257), "PNG"),
        _file(picture.convert("P"), "PNG", transparency=3, exif=exif, dpi=(72, 72)),
        _file(picture, "PNG", **frames),
        _file(picture, "WEBP", quality=80),
        _file(picture.convert("RGBA"), "WEBP", lossless=True, exif=exif.tobytes()),
        _file(picture, "WEBP", **frames),
        _file(picture, "GIF"),
        _file(picture, "TIFF"),
    ]


def _file(picture: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def mutants(count: int, seed: int) -> Iterator[bytes]:
    """Mutated files; the same ones for the same seed."""
    chance, originals = random.Random(seed), seeds()
    for _ in range(count):
        original = chance.choice(originals)
        data = bytearray(original)
        for _ in range(chance.choice((1, 1, 1, 2, 3, 5, 9))):
            _mutate(data, chance, originals)
        # A PNG's chunks have checksums, without which little of what is behind them would be reached.
        yield _mend_checksums(data) if original.startswith(b"\x89PNG") and chance.random() < 0.8 else bytes(data)


def _mutate(data: bytearray, chance: random.Random, originals: list[bytes]) -> None:
    if not data:
        return
    # Headers decide most: half of the changes are made in the first 300 bytes.
    at = chance.randrange(min(len(data), 300) if chance.random() < 0.5 else len(data))
    length = chance.choice((1, 2, 4, 8, 32, 200))
    match chance.randrange(9):
        case 0:
            data[at] ^= 1 << chance.randrange(8)
        case 1:
            data[at] = chance.randrange(256)
        case 2:
            size = chance.choice((1, 2, 4))
            order = chance.choice(("big", "little"))
            data[at : at + size] = (chance.choice(_INTERESTING) & (256**size - 1)).to_bytes(size, order)  # type: ignore[arg-type]
        case 3:
            data[at : at + length] = chance.randbytes(length)
        case 4:
            del data[at : at + length]
        case 5:
            data[at:at] = chance.randbytes(length)
        case 6:
            data[at:at] = data[at : at + length] * chance.choice((1, 2, 20))
        case 7:
            other = chance.choice(originals)
            start = chance.randrange(len(other))
            data[at : at + length] = other[start : start + chance.choice((4, 40, 400))]
        case 8:
            del data[at:]


def _mend_checksums(data: bytearray) -> bytes:
    at = _PNG_SIGNATURE
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            break
        struct.pack_into(">I", data, end, zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(data)


def decode_all(count: int, seed: int) -> Result:
    """Decode mutated files with the service's decoder and limits."""
    outcomes: Counter[str] = Counter()
    untyped: dict[str, int] = {}
    slowest, slow = 0.0, 0
    max_pixels = Settings().max_pixels
    for number, data in enumerate(mutants(count, seed)):
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        started = time.process_time()
        try:
            images.decode(data, max_pixels=max_pixels)
            outcomes["decoded"] += 1
        except MeaaError as error:
            outcomes[error.code] += 1
        except Exception as error:  # what is looked for
            outcomes["untyped"] += 1
            untyped.setdefault(f"{type(error).__name__}: {error}"[:200], number)
        seconds = time.process_time() - started
        slowest, slow = max(slowest, seconds), slow + (seconds > 2)
    faulthandler.cancel_dump_traceback_later()
    status = Path("/proc/self/status").read_text()  # `getrusage` begins with what the parent had
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024 / 1e6
    return Result(count, dict(outcomes), untyped, round(slowest, 3), slow, round(resident, 1))


def main() -> None:
    """Decode, and print the result as JSON."""
    parser = argparse.ArgumentParser(description="Decode mutated image files.")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=20)
    arguments = parser.parse_args()
    print(json.dumps(asdict(decode_all(arguments.count, arguments.seed))))


if __name__ == "__main__":
    main()
