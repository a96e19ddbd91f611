"""`pipelines.evaluation.corruptions`: what becomes of faces, the same every time."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.evaluation import corruptions
from pipelines.evaluation.corruptions import CORRUPTIONS, MASK, SUNGLASSES

SIZE = 48


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    """Twenty faces of nobody: a bright oval on a shaded ground, with some texture."""
    rows, columns = np.mgrid[:SIZE, :SIZE] / SIZE
    oval = 90 * (((rows - 0.5) / 0.45) ** 2 + ((columns - 0.5) / 0.35) ** 2 < 1)
    texture = np.random.default_rng(0).integers(0, 40, (20, SIZE, SIZE))
    return (60 + 30 * columns + oval + texture).astype(np.uint8)


def changes(name: str, pixels: NDArray[np.uint8], seed: int = 1) -> NDArray[np.float64]:
    return corruptions.apply(name, pixels, seed).astype(float) - pixels


def test_the_corruptions_are_the_eleven_that_are_asked_for() -> None:
    assert list(CORRUPTIONS) == [
        "dark",
        "bright",
        "low_contrast",
        "motion_blur",
        "jpeg_20",
        "half_resolution",
        "rotated",
        "loose_crop",
        "eyes_covered",
        "mouth_covered",
        "salt_noise",
    ]
    assert len({one.title for one in CORRUPTIONS.values()}) == len(CORRUPTIONS)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_changes_every_face_but_not_its_shape_nor_the_original(
    name: str, pixels: NDArray[np.uint8]
) -> None:
    before = pixels.copy()
    result = corruptions.apply(name, pixels, seed=1)
    assert (result.shape, result.dtype) == (pixels.shape, np.uint8)
    assert (result != pixels).any(axis=(1, 2)).all()
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_seed_gives_the_same_pictures_whatever_came_before_and_follows(
    name: str, pixels: NDArray[np.uint8]
) -> None:
    first = corruptions.apply(name, pixels, seed=1)
    for other in reversed(CORRUPTIONS):
        corruptions.apply(other, pixels[:2], seed=1)
    np.testing.assert_array_equal(corruptions.apply(name, pixels, seed=1), first)
    np.testing.assert_array_equal(corruptions.apply(name, pixels[:7], seed=1), first[:7])


@pytest.mark.parametrize("name", ["motion_blur", "rotated", "loose_crop", "salt_noise"])
def test_what_chance_decides_differs_by_face_and_by_seed(name: str, pixels: NDArray[np.uint8]) -> None:
    alike = np.repeat(pixels[:1], 12, axis=0)
    result = corruptions.apply(name, alike, seed=1)
    assert len(np.unique(result, axis=0)) > 1
    assert not np.array_equal(corruptions.apply(name, alike, seed=2), result)


def test_dark_and_bright_and_low_contrast_do_what_they_are_called(pixels: NDArray[np.uint8]) -> None:
    assert changes("dark", pixels).mean() < -20
    assert changes("bright", pixels).mean() > 20
    spread = corruptions.apply("low_contrast", pixels, 1).std(axis=(1, 2)) / pixels.std(axis=(1, 2))
    np.testing.assert_allclose(spread, 0.4, atol=0.02)


def test_faces_are_rotated_to_both_sides(pixels: NDArray[np.uint8]) -> None:
    alike = np.repeat(pixels[:1], 40, axis=0)
    _, counts = np.unique(corruptions.apply("rotated", alike, 1), axis=0, return_counts=True)
    assert len(counts) == 2
    assert counts.min() >= 10


def test_sunglasses_hide_the_eyes_and_leave_the_mouth(pixels: NDArray[np.uint8]) -> None:
    covered = corruptions.apply("eyes_covered", pixels, 1)
    assert (covered[:, 12:20, 6:42] == SUNGLASSES).all()
    np.testing.assert_array_equal(covered[:, 24:], pixels[:, 24:])


def test_a_mask_hides_the_mouth_and_leaves_the_eyes(pixels: NDArray[np.uint8]) -> None:
    covered = corruptions.apply("mouth_covered", pixels, 1)
    assert (covered[:, 30:, 6:42] == MASK).all()
    np.testing.assert_array_equal(covered[:, :24], pixels[:, :24])


def test_salt_turns_a_twentieth_of_the_pixels_white(pixels: NDArray[np.uint8]) -> None:
    salted = corruptions.apply("salt_noise", pixels, 1)
    assert (salted == 255).mean() == pytest.approx(0.05, abs=0.005)
    np.testing.assert_array_equal(salted[salted != 255], pixels[salted != 255])


def test_an_unknown_corruption_is_an_error(pixels: NDArray[np.uint8]) -> None:
    with pytest.raises(KeyError, match="foggy"):
        corruptions.apply("foggy", pixels, seed=1)
