"""`service.images.decode`: bytes in, upright RGB out, or a typed error."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from service import images
from service.detector import Face
from service.errors import InvalidImageError, MeaaError, TooLargeError, UnsupportedTypeError
from tests.support.pictures import TO_STORED, Pixels, encode, oriented, png_header, sixteen_bit, with_exif

RAMP: Pixels = np.stack(np.broadcast_arrays(*np.ogrid[0:40:1, 0:60:1], 128), axis=-1).astype(np.uint8) * 4


@pytest.mark.parametrize("file", [encode(RAMP, "PNG"), encode(RAMP, "WEBP", lossless=True), sixteen_bit(RAMP, 3)])
def test_lossless_files_are_decoded_exactly(file: bytes) -> None:
    decoded = images.decode(file)
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, RAMP)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_of_png_becomes_rgb(mode: str) -> None:
    assert images.decode(encode(RAMP, "PNG", mode)).shape == RAMP.shape


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_an_image_that_is_converted_strip_by_strip_is_the_same(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = encode(RAMP, "PNG", mode)
    if mode in ("LA", "RGBA"):
        shades = RAMP[:, :, :1] if mode == "LA" else RAMP
        buffer = io.BytesIO()
        Image.fromarray(np.dstack([shades, RAMP[:, :, 0]]), mode).save(buffer, "PNG")
        file = buffer.getvalue()
    whole = images.decode(file)
    monkeypatch.setattr(images, "_STRIP_PIXELS", 7 * RAMP.shape[1])  # strips of 7 rows, the last of 5
    np.testing.assert_array_equal(images.decode(file), whole)


def test_sixteen_bit_grey_keeps_its_range() -> None:
    decoded = images.decode(sixteen_bit(RAMP, 1))
    assert np.ptp(decoded) > 100
    np.testing.assert_allclose(decoded[:, :, 0], images.decode(encode(RAMP, "PNG", "L"))[:, :, 0], atol=1)


def test_transparent_areas_show_white() -> None:
    transparent = np.dstack([RAMP, np.zeros((40, 60), np.uint8)])
    assert (images.decode(encode(transparent, "PNG")) == 255).all()


@pytest.mark.parametrize("orientation", TO_STORED)
def test_the_exif_orientation_is_applied(orientation: int) -> None:
    np.testing.assert_allclose(images.decode(oriented(RAMP, orientation)), RAMP, atol=8)


def test_an_exif_block_that_can_be_read_and_cannot_be_written_again_turns_the_image() -> None:
    """The block has a fraction instead of a whole number, beside a valid orientation."""
    entries = [(0x0100, 5, 1, 38), (0x0112, 3, 1, 6)]  # ImageWidth as 1/3, Orientation 6; little-endian
    block = b"II*\x00" + struct.pack("<IH", 8, len(entries))
    block += b"".join(struct.pack("<HHII", *entry) for entry in entries) + struct.pack("<III", 0, 1, 3)
    stored = np.rot90(RAMP)  # as `TO_STORED` has it for 6
    np.testing.assert_allclose(images.decode(with_exif(stored, block)), RAMP, atol=8)


def test_the_pixel_limit_holds_before_anything_is_decoded() -> None:
    with pytest.raises(TooLargeError, match="100000 x 100000"):
        images.decode(png_header(100_000, 100_000))
    with pytest.raises(TooLargeError):
        images.decode(encode(RAMP), max_pixels=40 * 60 - 1)
    assert images.decode(encode(RAMP), max_pixels=40 * 60).shape == RAMP.shape


def test_other_formats_are_named() -> None:
    with pytest.raises(UnsupportedTypeError, match="GIF"):
        images.decode(encode(RAMP, "GIF"))


def test_damaged_metadata_is_not_even_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert images.decode(with_exif(RAMP, b"MM\x00*\x00\x00\x00\x08\xff\xff")).shape == RAMP.shape


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_the_typed_errors(data: bytes) -> None:
    with pytest.raises((InvalidImageError, UnsupportedTypeError)):
        images.decode(data)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@given(data=st.data())
def test_damaged_files_raise_nothing_but_the_typed_errors(format: str, data: st.DataObject) -> None:
    file = bytearray(oriented(RAMP, 6) if format == "JPEG" else encode(RAMP, format))
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = images.decode(bytes(file[: data.draw(st.integers(1, len(file)))]), max_pixels=1_000_000)
    except MeaaError:
        return
    assert decoded.ndim == 3
    assert decoded.shape[2] == 3


@pytest.mark.parametrize(("side", "reduced"), [(959, 959), (960, 480), (1900, 950), (1920, 480)])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_frame_is_reduced_by_two_or_four_down_to_the_working_side_and_knows_its_size(
    format: str, side: int, reduced: int
) -> None:
    file = encode(np.full((side, side + 300, 3), 90, np.uint8), format)
    frame = images.decode_frame(file, working_side=480)
    assert frame.pixels.shape[0] == pytest.approx(reduced, abs=1)
    assert (frame.width, frame.height) == (side + 300, side)
    assert images.decode_frame(file).pixels.shape == (side, side + 300, 3)


@pytest.mark.parametrize("orientation", TO_STORED)
def test_a_reduced_frame_is_upright_and_so_is_its_size(orientation: int) -> None:
    large = RAMP.repeat(8, axis=0).repeat(8, axis=1)
    frame = images.decode_frame(oriented(large, orientation), working_side=80)
    assert (frame.width, frame.height) == (480, 320)
    np.testing.assert_allclose(frame.pixels, RAMP.repeat(2, axis=0).repeat(2, axis=1), atol=12)


def test_a_face_is_converted_between_a_reduced_frame_and_the_image_as_it_was_sent() -> None:
    frame = images.Frame(np.zeros((480, 640, 3), np.uint8), width=1280, height=960)
    small, large = Face(10, 20, 30, 40, 0.9), Face(20, 40, 60, 80, 0.9)
    assert frame.in_image(small) == large
    assert frame.in_pixels(large) == small
    assert frame.in_pixels(Face(7, 7, 1, 1, 0.9)) == Face(4, 4, 1, 1, 0.9)  # no side vanishes


def test_the_pixel_limit_is_that_of_the_image_as_it_was_sent() -> None:
    with pytest.raises(TooLargeError):
        images.decode_frame(encode(np.zeros((1000, 1000, 3), np.uint8)), max_pixels=999_999, working_side=100)
