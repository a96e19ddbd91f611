"""`service.markers`: what a file says about itself, and what it may not say."""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from benchmarks.robustness import hostile_images as hostile
from benchmarks.robustness.crafted_files import SOF0, chunk, jpeg, png, riff, scan, segment
from service import images, markers
from service.errors import InvalidImageError, TooLargeError
from tests.support.pictures import TO_STORED, Pixels, encode, multi_picture, oriented

RAMP: Pixels = np.stack(np.broadcast_arrays(*np.ogrid[0:40:1, 0:60:1], 128), axis=-1).astype(np.uint8) * 4
STORED = np.ascontiguousarray(TO_STORED[6](RAMP))  # what a file with the orientation 6 holds


def header(file: bytes) -> markers.Header:
    read = markers.read(file)
    assert read is not None
    return read


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (encode(RAMP), ("JPEG", 60, 40)),
        (encode(RAMP, mode="L"), ("JPEG", 60, 40)),
        (multi_picture(RAMP), ("JPEG", 60, 40)),
        (encode(RAMP, "PNG"), ("PNG", 60, 40)),
        (encode(RAMP, "WEBP"), ("WEBP", 60, 40)),
        (encode(RAMP, "WEBP", lossless=True), ("WEBP", 60, 40)),
        (encode(RAMP, "WEBP", "RGBA", exif=b"Exif\x00\x00II*\x00"), ("WEBP", 60, 40)),
        (encode(RAMP[:1, :1], "WEBP", lossless=True), ("WEBP", 1, 1)),
    ],
)
def test_the_header_has_format_and_size(file: bytes, expected: tuple[str, int, int]) -> None:
    read = header(file)
    assert (read.format, read.width, read.height) == expected


def test_the_scans_of_a_jpeg_are_counted_as_its_encoder_wrote_them() -> None:
    assert (header(encode(RAMP)).scans, header(encode(RAMP)).reducible) == (1, True)
    progressive = header(encode(RAMP, progressive=True))
    assert (progressive.scans, progressive.reducible, progressive.uncommon) == (10, False, False)
    noise = np.random.default_rng(1).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    assert header(encode(noise, progressive=True)).scans == 10  # whatever bytes are in the pixels
    assert header(encode(RAMP, "JPEG", "CMYK", progressive=True)).scans == 18


@pytest.mark.parametrize(
    "make",
    [
        hostile.spectral_scans,
        hostile.refinement_scans,
        hostile.empty_scans,
        hostile.hidden_scans,
        hostile.sequential_scans,
        hostile.arithmetic_scans,
        lambda count: hostile.arithmetic_scans(count, progressive=True),
    ],
)
def test_a_jpeg_may_have_a_hundred_scans_and_no_more(make: Callable[[int], bytes]) -> None:
    assert header(make(100)).scans == 100
    with pytest.raises(InvalidImageError, match="100 scans"):
        markers.read(make(101))


def test_scans_among_so_many_markers_that_counting_takes_time_count_as_the_most() -> None:
    restarts = b"\xff\xd0" * 200_000
    read = header(jpeg([scan([1, 2, 3], 0, 0, data=restarts), *[scan([1], 1, 63)] * 5]))
    assert read.scans == 100
    assert read.uncommon


@pytest.mark.parametrize(
    "file",
    [
        hostile.jpeg_segments(1_000),
        hostile.jpeg_exif_segments(1_000),
        hostile.png_chunks(b"teSt", 2_000),
        hostile.png_chunks(b"IDAT", 2_000, place="between"),
        hostile.png_chunks(b"tEXt", 2_000, place="after"),
        hostile.webp_chunks(2_000),
        hostile.webp_frames(2_000, side=64),
    ],
)
def test_more_segments_or_chunks_than_an_honest_file_has_are_refused(file: bytes) -> None:
    with pytest.raises(InvalidImageError, match=r"segments|chunks"):
        markers.read(file)


def test_an_honest_file_may_have_long_metadata_and_short_chunks() -> None:
    profile = [segment(0xE2, b"ICC_PROFILE\x00" + bytes([number, 255]) + bytes(9_000)) for number in range(1, 256)]
    assert header(jpeg([scan([1, 2, 3], 0, 63)], frame=SOF0, width=64, height=64, before=b"".join(profile))).pixels
    pixels = zlib.compress(np.random.default_rng(1).bytes((640 * 3 + 1) * 480), 0)
    parts = b"".join(chunk(b"IDAT", pixels[start : start + 1_024]) for start in range(0, len(pixels), 1_024))
    ihdr = chunk(b"IHDR", struct.pack(">IIBBBBB", 640, 480, 8, 2, 0, 0, 0))
    assert header(b"\x89PNG\r\n\x1a\n" + ihdr + parts + chunk(b"IEND")).pixels == 640 * 480


@pytest.mark.parametrize(
    ("file", "uncommon"),
    [
        (encode(RAMP), False),
        (encode(RAMP, progressive=True), False),
        (encode(RAMP, "PNG", "RGBA"), False),
        (encode(RAMP, "WEBP"), False),
        (encode(RAMP, "WEBP", exif=b"Exif\x00\x00II*\x00"), False),
        (encode(RAMP, "WEBP", lossless=True), True),
        (encode(np.dstack([RAMP, RAMP[:, :, 0]]), "WEBP"), True),
        (hostile.webp_frames(1, side=64), True),
        (hostile.arithmetic_scans(1), True),
        (hostile.sequential_scans(3), True),
    ],
)
def test_what_cameras_and_browsers_do_not_use_is_uncommon(file: bytes, uncommon: bool) -> None:
    assert header(file).uncommon is uncommon


@pytest.mark.parametrize(
    "file",
    [
        b"\xff\xd8\xff",
        b"\xff\xd8" + b"\xff" * 1_000,
        b"\xff\xd8\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00",  # pixels without a frame
        jpeg([], before=segment(SOF0, struct.pack(">BHHB", 8, 8, 8, 3))),  # two frames
        jpeg([scan([1, 2, 3], 0, 63)], frame=SOF0, height=0),
        b"\x89PNG\r\n\x1a\n",
        png(before=chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0))),  # two headers
        b"RIFF\x00\x00\x00\x00WEBPVP8 ",
        riff((b"VP8L", b"")),
    ],
)
def test_a_file_without_an_unambiguous_size_is_damaged(file: bytes) -> None:
    with pytest.raises(InvalidImageError):
        markers.read(file)


def test_a_side_may_be_as_long_as_jpeg_allows_and_no_longer() -> None:
    assert images.read_header(png(65_535, 1)).width == 65_535
    for width, height in ((65_536, 1), (1, 65_536), (25_000_000, 1)):
        with pytest.raises(TooLargeError, match="65,535"):
            images.read_header(png(width, height, colour=0))


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_metadata_does_not_reach_the_libraries_and_the_pixels_do(format: str) -> None:
    options = {"exif": b"Exif\x00\x00II*\x00" + b"secret" * 9, "icc_profile": b"secret" * 99}
    plain, file = encode(RAMP, format), encode(RAMP, format, **options)
    assert b"secret" not in header(file).content
    assert len(header(file).content) <= len(plain)
    np.testing.assert_array_equal(images.decode(file), images.decode(plain))


def test_a_jpeg_keeps_what_says_which_colours_it_has() -> None:
    file = encode(RAMP, mode="CMYK")
    with Image.open(io.BytesIO(file)) as image:
        assert image.info["adobe_transform"] == 0
    np.testing.assert_allclose(images.decode(file), RAMP, atol=8)


def png_with(*chunks: bytes) -> bytes:
    file = encode(STORED, "PNG")
    return file[:33] + b"".join(chunks) + file[33:]


def exif(order: str = "<", kind: int = 3, value: int = 6) -> bytes:
    mark = b"II*\x00" if order == "<" else b"MM\x00*"
    number = struct.pack(order + ("H2x" if kind == 3 else "I"), value)
    return mark + struct.pack(order + "IHHHI", 8, 1, 0x0112, kind, 1) + number + bytes(4)


XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
RAW_PROFILE = b"\nexif\n      26\n" + exif().hex().encode()


@pytest.mark.parametrize(
    "file",
    [
        oriented(RAMP, 6),
        encode(STORED, exif=b"Exif\x00\x00" + exif(">")),
        encode(STORED, exif=b"Exif\x00\x00" + exif(kind=4)),
        encode(STORED, xmp=XMP),
        encode(STORED, xmp=XMP.replace(b'="6"/>', b">6</tiff:Orientation>")),
        encode(STORED, xmp=XMP.replace(b"6", b"3"), exif=b"Exif\x00\x00" + exif()),
        png_with(chunk(b"eXIf", exif())),
        png_with(chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x00\x00\x00\x00" + XMP)),
        png_with(chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x01\x00\x00\x00" + zlib.compress(XMP))),
        png_with(chunk(b"tEXt", b"Raw profile type exif\x00" + RAW_PROFILE)),
        png_with(chunk(b"zTXt", b"Raw profile type exif\x00\x00" + zlib.compress(RAW_PROFILE))),
        encode(STORED, "WEBP", exif=exif()),
        encode(STORED, "WEBP", exif=b"Exif\x00\x00" + exif(">")),
        encode(STORED, "WEBP", xmp=XMP),
    ],
)
def test_the_orientation_is_found_wherever_programs_write_it(file: bytes) -> None:
    assert header(file).orientation == 6
    np.testing.assert_allclose(images.decode(file), RAMP, atol=20)


@pytest.mark.parametrize("block", [exif(value=9), exif(value=0), exif()[:19], exif(">")[:9], b"", b"II*\x00\xff" * 9])
def test_an_orientation_that_is_none_leaves_the_image_as_it_is(block: bytes) -> None:
    assert header(encode(RAMP, exif=b"Exif\x00\x00" + block)).orientation == 1


@pytest.mark.parametrize(
    "file",
    [
        hostile.png_profiles(5_000),
        hostile.png_texts(5_000),
        hostile.jpeg_resources(150),
        hostile.jpeg_fill(9_000_000),
        hostile.jpeg_junk(9_000_000),
        png(before=chunk(b"zTXt", b"Raw profile type exif\x00\x00" + zlib.compress(bytes(1 << 24), 9)) * 400),
        png(before=chunk(b"eXIf", b"II*\x00" + struct.pack("<IH", 8, 65_535) + bytes(786_000)) * 12),
        encode(RAMP, progressive=True) + b"\xff\x00" * 4_000_000,
        jpeg([scan([1, 2, 3], 0, 0, data=b"\xff\x00" * 4_000_000)], width=64, height=64),
    ],
    ids=["profiles", "texts", "resources", "fill", "junk", "raw profiles", "directories", "trailer", "stuffing"],
)
def test_reading_a_header_takes_no_time_whatever_the_metadata(file: bytes) -> None:
    started = time.process_time()
    header(file)
    assert time.process_time() - started < 0.25
