"""Image files: seeds, their mutation, and the decoder that they are fed to."""

from __future__ import annotations

import io
import random
import zlib
from functools import cache
from typing import Final

import numpy as np
from PIL import Image

from benchmarks.robustness.fuzzing import exif, jpeg, png, webp
from benchmarks.robustness.fuzzing.mutation import damage
from benchmarks.server import ROOT
from service import images
from service.decoder import DecoderProcess, needs_process
from service.errors import MeaaError
from service.estimator import MoodEstimator
from service.settings import Settings

MAX_BYTES: Final = 200_000
"""Length beyond which an input is not mutated further."""

CPU_SECONDS: Final = 1.0
"""Most CPU time of a decoding outside of a process of its own, in seconds."""

_SMALL: Final = 100_000  # pixels

_XMP: Final = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'

_DETECTED: Final = 10
"""One in so many files is searched for faces."""

_MAX_PIXELS: Final = Settings.model_fields["max_pixels"].default


@cache
def seeds() -> tuple[bytes, ...]:
    """Small files of every format that the decoder reads, and two that it refuses."""
    row, column = np.ogrid[0:48, 0:64]
    pixels = np.stack(np.broadcast_arrays(row * 5, column * 4, (row * column) % 256), axis=-1).astype(np.uint8)
    picture = Image.fromarray(pixels)
    transparent = picture.copy()
    transparent.putalpha(Image.fromarray(pixels[:, :, 1]))
    block = Image.Exif()
    block[0x0112] = 6
    block[0x010E] = "a description"
    frames = {"save_all": True, "append_images": [picture.rotate(90), picture.rotate(180)]}
    profile = exif.profile(random.Random(1))
    return (
        encode(picture, "JPEG", quality=90),
        encode(picture, "JPEG", progressive=True, exif=block, icc_profile=profile),
        encode(picture, "JPEG", exif=block, subsampling=0, restart_marker_blocks=2),
        encode(picture.convert("L"), "JPEG"),
        encode(picture.convert("L"), "JPEG", progressive=True, optimize=True, comment=b"a comment"),
        encode(picture.convert("CMYK"), "JPEG"),
        encode(picture, "JPEG", xmp=_XMP),
        encode(picture, "MPO", save_all=True, append_images=[picture.resize((16, 16))]),
        *(encode(picture.convert(mode), "PNG") for mode in ("1", "L", "P", "RGB")),
        *(encode(transparent.convert(mode), "PNG") for mode in ("LA", "RGBA")),
        encode(Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257), "PNG"),
        encode(picture.convert("P"), "PNG", transparency=3, exif=block, dpi=(72, 72)),
        encode(picture, "PNG", icc_profile=profile, exif=block),
        encode(picture, "PNG", **frames),
        encode(Image.new("L", (1_400, 800)), "PNG"),
        encode(picture, "WEBP", quality=80),
        encode(picture, "WEBP", quality=80, icc_profile=profile, exif=block.tobytes(), xmp=_XMP),
        encode(transparent, "WEBP", quality=40),
        encode(transparent, "WEBP", lossless=True, exif=block.tobytes()),
        encode(picture, "WEBP", **frames),
        encode(picture, "GIF"),
        encode(picture, "TIFF"),
    )


def encode(picture: Image.Image, format: str, **options: object) -> bytes:
    """An image file in one of Pillow's formats."""
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def mutate(data: bytes, chance: random.Random) -> bytes:
    """A file that differs from another in some segments or chunks, in some bytes, or in both."""
    if not data or chance.random() < 0.01:
        return chance.choice(seeds())
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3, 6))):
        if len(data) < MAX_BYTES:
            data = _mutate_structure(data, chance)
    if chance.random() < 0.35:
        changed = bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 5))):
            damage(changed, chance, seeds())
        # A wrong checksum ends the decoding of a PNG early: most get right ones.
        data = _mend_checksums(changed) if chance.random() < 0.8 else bytes(changed)
    return data


def _mutate_structure(data: bytes, chance: random.Random) -> bytes:
    for format in (jpeg, png, webp):
        if data.startswith(format.SIGNATURE):
            return format.mutate(data, chance)
    return data


def _mend_checksums(data: bytearray) -> bytes:
    if not data.startswith(png.SIGNATURE):
        return bytes(data)
    chunks = png.parse(bytes(data))
    whole = png.SIGNATURE + b"".join(chunk.to_bytes() for chunk in chunks)
    return whole + bytes(data[len(whole) :])


@cache
def _estimator() -> MoodEstimator:
    return MoodEstimator.load(ROOT / "bundle")


@cache
def _process() -> DecoderProcess:
    return DecoderProcess(Settings.model_fields["decode_seconds"].default)


def run(data: bytes) -> list[str]:
    """Decode a file as the service does, and look for a face in some.

    Returns:
        The outcome: `decoded`, and whether it took a process of its own; or the code of a typed error.

    Raises:
        AssertionError: The frame is not as it must be.
    """
    choice = zlib.crc32(data)
    side = chosen if (chosen := choice % 40) > 8 else None  # small, so that small images are reduced, too
    try:
        header = images.read_header(data, max_pixels=_MAX_PIXELS)
        # What is small is decoded here, too, where its branches are seen.
        own_process = needs_process(header, side) and (header.pixels > _SMALL or choice % 3 == 0)
        frame = _process().load(header, side) if own_process else images.load(header, side)
        pixels = frame.pixels
        assert pixels.dtype == np.uint8, "no bytes"
        assert pixels.ndim == 3, "no rows, columns and channels"
        assert pixels.shape[2] == 3, "no RGB"
        assert pixels.flags.c_contiguous, "not contiguous"
        assert 0 < pixels.size // 3 <= frame.width * frame.height <= _MAX_PIXELS, "more pixels than are accepted"
        if choice % _DETECTED == 0:
            _estimator().estimate_frame(frame)
    except MeaaError as error:
        return [error.code]
    return ["decoded in a process" if own_process else "decoded"]
