"""`pipelines.evaluation.corruptions`: what becomes of faces, the same every time."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from pipelines.evaluation import corruptions
from pipelines.evaluation.corruptions import CORRUPTIONS, MASK, SUNGLASSES
from tests.conftest import ROOT

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


def test_the_corruptions_are_those_by_which_the_champion_was_measured() -> None:
    evaluation = ROOT / "models" / "champion" / "evaluation"
    assert set(pd.read_csv(evaluation / "slices.csv")["slice"]) == set(CORRUPTIONS)
    assert set(json.loads((evaluation / "metrics.json").read_text())["test"]["slices"]) == set(CORRUPTIONS)


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


def spot(radius: int) -> NDArray[np.uint8]:
    """Forty black images with a white disc in the middle."""
    rows, columns = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    return np.repeat(np.where(rows**2 + columns**2 <= radius**2, 255, 0).astype(np.uint8)[None], 40, axis=0)


def test_motion_blurs_a_point_to_a_line_of_a_tenth_of_the_side() -> None:
    for blurred in corruptions.apply("motion_blur", spot(0), 1):
        rows, columns = np.nonzero(blurred)
        extents = np.ptp(rows), np.ptp(columns)
        assert 2 <= max(extents) <= 4  # five pixels, fewer on a diagonal
        assert int(blurred.sum()) == pytest.approx(255, abs=12)


def test_half_the_resolution_keeps_coarse_patterns_and_loses_fine_ones() -> None:
    rows, columns = np.mgrid[:SIZE, :SIZE]
    fine, coarse = (((rows // side + columns // side) % 2 * 255).astype(np.uint8) for side in (1, 8))
    halved = corruptions.apply("half_resolution", np.stack([fine, coarse]), 1)
    assert halved[0].std() < 2
    assert halved[1].std() > 0.8 * coarse.std()


def test_a_loose_crop_moves_a_face_by_at_most_a_tenth_and_shrinks_it_by_at_most_15_percent() -> None:
    discs = corruptions.apply("loose_crop", spot(10), 1).astype(float) / 255
    places = (np.arange(SIZE) - SIZE // 2) / SIZE
    across, down = ((discs.sum(axis=axis) * places).sum(axis=1) / discs.sum(axis=(1, 2)) for axis in (1, 2))
    sizes = np.sqrt(discs.sum(axis=(1, 2)) / (spot(10)[0] / 255).sum())
    for shifts in (across, down):
        assert np.abs(shifts).max() <= 0.11
        assert np.ptp(shifts) > 0.1
    assert 0.83 <= sizes.min() < 0.9 < 0.95 < sizes.max() <= 1.02


def test_compression_leaves_the_brightness_and_adds_blocks(pixels: NDArray[np.uint8]) -> None:
    compressed = corruptions.apply("jpeg_20", pixels, 1).astype(float)
    np.testing.assert_allclose(compressed.mean(axis=(1, 2)), pixels.mean(axis=(1, 2)), atol=3)
    steps = np.abs(np.diff(compressed, axis=2)).mean(axis=(0, 1))
    borders = steps[7::8]
    assert borders.mean() > 1.3 * np.delete(steps, slice(7, None, 8)).mean()
