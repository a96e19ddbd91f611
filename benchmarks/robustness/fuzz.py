"""Thousands of damaged image files, decoded in a process of its own.

    python -m benchmarks.robustness.fuzz --count 20000

Coverage-guided fuzzers for Python such as Atheris do not see into C, where Pillow's codecs are. Therefore seed files of
every format that the decoder reads are mutated at random, reproducibly by a seed.
"""

from __future__ import annotations

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
from typing import Annotated, Final

import numpy as np
import typer
from PIL import Image

from service import images
from service.errors import MeaaError
from service.settings import Settings

HANG_SECONDS: Final = 30.0
"""Seconds in one decoding after which the process ends with a traceback."""

_PNG_SIGNATURE: Final = 8
_INTERESTING: Final = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@dataclass(frozen=True)
class Result:
    """Outcome of decoding many files.

    Attributes:
        count: Number of files.
        outcomes: Number of files by outcome: `decoded`, or the code of a typed error.
        untyped: Exceptions outside the contract, each with the number of the first file that raised it.
        slowest_seconds: Longest decoding in seconds of CPU time, which other processes do not affect.
        over_two_seconds: Number of decodings that took longer than two seconds.
        resident_mb: Peak resident memory of the process, in millions of bytes.
    """

    count: int
    outcomes: dict[str, int]
    untyped: dict[str, int]
    slowest_seconds: float
    over_two_seconds: int
    resident_mb: float


def seeds() -> list[bytes]:
    """Small files of every format that the decoder reads, and two that it refuses."""
    row, column = np.ogrid[0:48, 0:64]
    pixels = np.stack(np.broadcast_arrays(row * 5, column * 4, (row * column) % 256), axis=-1).astype(np.uint8)
    picture = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    frames = {"save_all": True, "append_images": [picture.rotate(90), picture.rotate(180)]}
    return [
        encode(picture, "JPEG", quality=90),
        encode(picture, "JPEG", progressive=True, exif=exif, icc_profile=bytes(200)),
        encode(picture, "JPEG", exif=exif, subsampling=0, restart_marker_blocks=2),
        encode(picture.convert("L"), "JPEG"),
        encode(picture.convert("CMYK"), "JPEG"),
        encode(picture, "MPO", save_all=True, append_images=[picture.resize((16, 16))]),
        *(encode(picture.convert(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
        encode(Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257), "PNG"),
        encode(picture.convert("P"), "PNG", transparency=3, exif=exif, dpi=(72, 72)),
        encode(picture, "PNG", **frames),
        encode(picture, "WEBP", quality=80),
        encode(picture.convert("RGBA"), "WEBP", lossless=True, exif=exif.tobytes()),
        encode(picture, "WEBP", **frames),
        encode(picture, "GIF"),
        encode(picture, "TIFF"),
    ]


def encode(picture: Image.Image, format: str, **options: object) -> bytes:
    """An image file in one of Pillow's formats."""
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def mutants(count: int, seed: int) -> Iterator[bytes]:
    """Mutated files, reproducible by the seed."""
    chance, originals = random.Random(seed), seeds()
    for _ in range(count):
        original = chance.choice(originals)
        data = bytearray(original)
        for _ in range(chance.choice((1, 1, 1, 2, 3, 5, 9))):
            _mutate(data, chance, originals)
        # A wrong checksum ends the decoding of a PNG early: most mutants get right ones.
        yield _mend_checksums(data) if original.startswith(b"\x89PNG") and chance.random() < 0.8 else bytes(data)


def _mutate(data: bytearray, chance: random.Random, originals: list[bytes]) -> None:
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
            size = chance.choice((1, 2, 4))
            order = chance.choice(("big", "little"))
            data[at : at + size] = (chance.choice(_INTERESTING) & (256**size - 1)).to_bytes(size, order)
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
    max_pixels = Settings.model_fields["max_pixels"].default
    for number, data in enumerate(mutants(count, seed)):
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        started = time.process_time()
        try:
            images.decode(data, max_pixels=max_pixels)
            outcomes["decoded"] += 1
        except MeaaError as error:
            outcomes[error.code] += 1
        except Exception as error:  # a bug
            outcomes["untyped"] += 1
            untyped.setdefault(f"{type(error).__name__}: {error}"[:200], number)
        seconds = time.process_time() - started
        slowest, slow = max(slowest, seconds), slow + (seconds > 2)
    faulthandler.cancel_dump_traceback_later()
    return Result(count, dict(outcomes), untyped, round(slowest, 3), slow, round(peak_megabytes("self"), 1))


def peak_megabytes(process: int | str) -> float:
    """Peak resident memory of a process (its number, or `self`) in millions of bytes, as Linux records it."""
    status = Path(f"/proc/{process}/status").read_text()  # `getrusage` would include the parent's peak
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024 / 1e6


def main(
    count: Annotated[int, typer.Option(min=1, help="Number of files.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Seed of the mutations.")] = 20,
) -> None:
    """Decode mutated image files and print the result as JSON."""
    print(json.dumps(asdict(decode_all(count, seed))))


if __name__ == "__main__":
    typer.run(main)
