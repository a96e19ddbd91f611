"""`service.faces`: which face counts, and how it is cropped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import faces
from service.detector import Face

WHITE = np.full((100, 200, 3), 255, np.uint8)


def test_the_largest_face_counts() -> None:
    near, far = Face(0, 0, 40, 50, 0.9), Face(60, 0, 30, 30, 0.99)
    assert faces.largest([far, near]) == near


def test_of_equally_large_faces_the_surer_counts() -> None:
    sure, unsure = Face(0, 0, 30, 40, 0.99), Face(60, 0, 40, 30, 0.9)
    assert faces.largest([unsure, sure]) == sure


def test_no_face_has_no_largest() -> None:
    with pytest.raises(ValueError, match="empty"):
        faces.largest([])


def test_the_overlap_of_two_boxes_is_a_share_of_their_union() -> None:
    face = Face(100, 100, 50, 50, 0.99)
    assert faces.overlap(face, face) == 1
    assert faces.overlap(face, replace(face, x=125)) == pytest.approx(1 / 3)
    assert faces.overlap(face, replace(face, x=125, y=125)) == pytest.approx(1 / 7)
    assert faces.overlap(face, replace(face, x=150)) == 0
    assert faces.overlap(face, replace(face, x=300, y=300)) == 0


def test_a_square_crop_of_its_own_size_is_the_pixels() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (100, 200), dtype=np.uint8)
    image = grey[:, :, None].repeat(3, axis=2)
    np.testing.assert_array_equal(faces.crop(image, Face(20, 10, 48, 48, 1.0), size=48, margin=0.0), grey[10:58, 20:68])


def test_the_crop_is_centred_on_the_box_and_as_wide_as_its_longer_side() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    image[30:70, 90:110] = 255  # 20 wide, 40 high
    cut = faces.crop(image, Face(90, 30, 20, 40, 1.0), size=40, margin=0.0)
    assert (cut[:, 10:30] == 255).all()
    assert (cut[:, :10] == 0).all()
    assert (cut[:, 30:] == 0).all()


def test_a_margin_widens_the_crop() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    image[30:70, 80:120] = 255
    cut = faces.crop(image, Face(80, 30, 40, 40, 1.0), size=80, margin=1.0)
    assert (cut[20:60, 20:60] == 255).all()
    assert cut.sum() == 40 * 40 * 255


@given(
    x=st.integers(0, 199), y=st.integers(0, 99), width=st.integers(1, 200), height=st.integers(1, 100),
    margin=st.floats(0, 1), size=st.sampled_from([1, 48, 64]),
)  # fmt: skip
def test_a_crop_over_the_edge_repeats_the_edge(
    x: int, y: int, width: int, height: int, margin: float, size: int
) -> None:
    cut = faces.crop(WHITE, Face(x, y, width, height, 1.0), size=size, margin=margin)
    assert cut.shape == (size, size)
    assert cut.dtype == np.uint8
    assert (cut == 255).all()
