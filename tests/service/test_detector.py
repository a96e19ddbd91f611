"""`service.detector`: the MTCNN cascade, compared with the `mtcnn` package and with plain arithmetic."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
from PIL import Image

from benchmarks.robustness import hostile_images
from benchmarks.scenes import scene
from service import images, memory
from service.detector import (
    DetectorSettings,
    Face,
    FaceDetector,
    _is_certain,
    crop_and_resize,
    crop_and_resize_fast,
    non_maximum_suppression,
    pyramid_scales,
)
from service.estimator import MoodEstimator
from tests.conftest import ROOT
from tests.support.pictures import Pixels

PHOTOS_COMPARED = 40


@pytest.fixture(scope="module")
def at_package_settings() -> FaceDetector:
    """Our cascade at the settings of the `mtcnn` package."""
    return FaceDetector(ROOT / "bundle" / "detector", DetectorSettings())


@pytest.fixture(scope="module")
def package() -> Callable[[Pixels], list[dict[str, Any]]]:
    """`mtcnn.MTCNN().detect_faces`; importing it brings TensorFlow and takes seconds."""
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    mtcnn = pytest.importorskip("mtcnn", reason="needs the mtcnn package: the development environment has it")
    detect: Callable[[Pixels], list[dict[str, Any]]] = mtcnn.MTCNN().detect_faces
    return detect


def assert_same_faces(ours: list[Face], theirs: list[dict[str, Any]]) -> None:
    """Assert that each of their faces has one of ours with an IoU of at least 0.9 and a confidence within 0.02."""
    assert len(ours) == len(theirs)
    for face in theirs:
        best = max(ours, key=lambda our: overlap(our, face["box"]))
        assert overlap(best, face["box"]) >= 0.9
        assert best.confidence == pytest.approx(face["confidence"], abs=0.02)


def overlap(face: Face, box: list[int]) -> float:
    """Intersection over union of a face and a box (x, y, width, height)."""
    x, y, width, height = box
    across = max(0, min(face.x + face.width, x + width) - max(face.x, x))
    down = max(0, min(face.y + face.height, y + height) - max(face.y, y))
    return across * down / (face.width * face.height + width * height - across * down)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_finds_what_the_mtcnn_package_finds_in_the_astronaut(
    at_package_settings: FaceDetector, package: Callable[[Pixels], list[dict[str, Any]]], astronaut: Pixels
) -> None:
    theirs = package(astronaut)
    assert theirs
    assert_same_faces(at_package_settings.detect(astronaut), theirs)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_finds_what_the_mtcnn_package_finds_in_press_photos(
    at_package_settings: FaceDetector, package: Callable[[Pixels], list[dict[str, Any]]], photos: Path
) -> None:
    table = pytest.importorskip("pyarrow.parquet").ParquetFile(photos)
    batch = next(table.iter_batches(PHOTOS_COMPARED, columns=["image"]))
    differing = []
    for row in batch.column("image").to_pylist():
        pixels = np.asarray(Image.open(io.BytesIO(row["bytes"])).convert("RGB"))
        try:
            assert_same_faces(at_package_settings.detect(pixels), package(pixels))
        except AssertionError:
            differing.append(row["path"])
    assert len(differing) <= PHOTOS_COMPARED // 40, differing


def test_faces_come_most_confident_first_and_inside_the_image(estimator: MoodEstimator, astronaut: Pixels) -> None:
    head = astronaut[20:220, 120:320]
    found = estimator.detector.detect(np.hstack([head, head[::2, ::2].repeat(2, axis=0), head]))
    assert len(found) >= 2
    assert [face.confidence for face in found] == sorted((face.confidence for face in found), reverse=True)
    for face in found:
        assert face.x >= 0
        assert face.y >= 0
        assert face.x + face.width <= 500
        assert face.y + face.height <= 200


@pytest.mark.parametrize("shape", [(1, 1), (5, 400), (400, 5), (11, 11), (19, 20), (20, 20), (37, 61)])
def test_images_too_small_for_a_face_have_none(estimator: MoodEstimator, shape: tuple[int, int]) -> None:
    assert estimator.detector.detect(np.zeros((*shape, 3), np.uint8)) == []


def test_the_pyramid_goes_from_the_smallest_face_to_the_whole_image() -> None:
    scales = pyramid_scales(640, 480, DetectorSettings(min_face_pixels=24, scale_factor=0.5))
    assert scales == pytest.approx([0.5, 0.25, 0.125, 0.0625, 0.03125])
    assert pyramid_scales(640, 480, DetectorSettings(min_face_share=0.5, scale_factor=0.5)) == [0.05, 0.025]
    assert pyramid_scales(640, 10, DetectorSettings()) == []


def test_suppression_keeps_the_better_of_two_that_overlap() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [1, 1, 11, 11], [50, 50, 60, 60]])
    kept = non_maximum_suppression(boxes, np.array([0.8, 0.9, 0.7]), 0.5)
    assert kept.tolist() == [1, 2]


def test_suppression_by_the_smaller_box_removes_a_face_within_a_face() -> None:
    boxes = np.array([[0.0, 0, 100, 100], [40, 40, 60, 60]])
    scores = np.array([0.9, 0.8])
    assert non_maximum_suppression(boxes, scores, 0.7).tolist() == [0, 1]
    assert non_maximum_suppression(boxes, scores, 0.7, metric="IoS").tolist() == [0]


def test_patches_outside_the_image_are_mid_grey() -> None:
    image = np.zeros((50, 50, 3), np.uint8)
    patches = crop_and_resize(image, np.array([[-100.0, -100, -50, -50], [10, 10, 30, 30]]), 24)
    assert patches.shape == (2, 24, 24, 3)
    assert (patches[0] == 127.5).all()
    assert (patches[1] == 0).all()


def test_patches_by_opencv_are_those_of_exact_arithmetic_but_for_rounding(astronaut: Pixels) -> None:
    boxes = np.array([[120.3, 30.7, 300.2, 210.6], [-40, 400, 90, 530], [10, 10, 22, 22]])
    exact, fast = crop_and_resize(astronaut, boxes, 48), crop_and_resize_fast(astronaut, boxes, 48)
    assert fast.dtype == np.uint8
    inside = (exact != 127.5).all(axis=3)
    assert np.abs(exact - fast)[inside].mean() < 1
    assert np.abs(exact - fast)[~inside].max() <= 1


def test_suppression_among_many_is_that_of_every_pair() -> None:
    random = np.random.default_rng(0)
    corners = random.uniform(0, 300, (700, 2))
    boxes, scores = np.hstack([corners, corners + random.uniform(20, 60, (700, 2))]), random.permutation(700) / 700
    kept = set(non_maximum_suppression(boxes, scores, 0.5).tolist())
    for index, box in enumerate(boxes):
        better = boxes[scores > scores[index]]
        sides = np.minimum(box[2:], better[:, 2:]) - np.maximum(box[:2], better[:, :2])
        shared = np.maximum(sides, 0).prod(axis=1)
        union = (box[2:] - box[:2]).prod() + (better[:, 2:] - better[:, :2]).prod(axis=1) - shared
        assert (index in kept) == (not (shared > 0.5 * union).any())


def test_as_released_it_finds_the_face_that_exact_arithmetic_finds(
    estimator: MoodEstimator, at_package_settings: FaceDetector, astronaut: Pixels
) -> None:
    exact, fast = at_package_settings.detect(astronaut)[0], estimator.detector.detect(astronaut)[0]
    assert overlap(fast, [exact.x, exact.y, exact.width, exact.height]) > 0.85
    assert fast.confidence == pytest.approx(exact.confidence, abs=0.02)


def test_a_face_in_a_strip_too_long_for_opencv_is_found(estimator: MoodEstimator, astronaut: Pixels) -> None:
    strip = np.zeros((512, 33_000, 3), np.uint8)
    strip[:, 32_000:32_512] = astronaut
    (face,) = estimator.detector.detect(strip)
    assert 32_150 < face.x < 32_350


def test_the_largest_level_of_the_pyramid_is_bounded_however_long_the_image() -> None:
    (scale, *_) = pyramid_scales(100_000, 500, DetectorSettings(min_face_share=0.08, exact=False))
    assert 100_000 * 500 * scale**2 <= 500_001
    assert pyramid_scales(100_000, 500, DetectorSettings(min_face_share=0.08))[0] == 12 / 40


@pytest.mark.parametrize(
    "wrong", [{"min_face_pixels": 8}, {"scale_factor": 1.0}, {"scale_factor": 0.0}, {"thresholds": (0.6, 0.7)}]
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DetectorSettings(**wrong)


def test_settings_survive_being_written_and_read(tmp_path: Path) -> None:
    settings = DetectorSettings(min_face_share=0.1, thresholds=(0.5, 0.6, 0.7), exact=False, working_side=480)
    settings.write(tmp_path / "detector.json")
    assert DetectorSettings.read(tmp_path / "detector.json") == settings


@pytest.mark.parametrize("name", [name for name in hostile_images.FILES if name.startswith("mosaic")])
def test_an_image_made_of_faces_costs_a_bounded_number_of_looks(
    name: str, estimator: MoodEstimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    look_at = FaceDetector._look_at

    def counted(detector: FaceDetector, net: Any, image: Pixels, boxes: Any) -> Any:
        looks.append(len(boxes))
        return look_at(detector, net, image, boxes)

    monkeypatch.setattr(FaceDetector, "_look_at", counted)
    frame = images.decode_frame(hostile_images.FILES[name](), working_side=estimator.detector.settings.working_side)
    started = time.process_time()
    faces = estimator.detector.detect(frame.pixels)
    assert looks[0] <= 640
    assert looks[1] <= 128
    assert 0 < len(faces) <= 128
    assert time.process_time() - started < 2  # some 0.5 s; 7 s without the bounds


@pytest.mark.parametrize("name", [name for name in hostile_images.FILES if name.startswith("mosaic")])
def test_the_search_for_the_largest_face_alone_is_bounded_too(name: str, estimator: MoodEstimator) -> None:
    frame = images.decode_frame(hostile_images.FILES[name](), working_side=estimator.detector.settings.working_side)
    started = time.process_time()
    faces = estimator.detector.detect(frame.pixels, all_faces=False)
    assert 0 < len(faces) <= 128
    assert time.process_time() - started < 2


@pytest.fixture
def searched(estimator: MoodEstimator, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The scales of the pyramid's levels that P-Net has seen, in their order."""
    scales: list[float] = []
    propose = FaceDetector._propose

    def counted(detector: FaceDetector, level: tuple[float, Any]) -> Any:
        scales.append(level[0])
        return propose(detector, level)

    monkeypatch.setattr(FaceDetector, "_propose", counted)
    monkeypatch.setattr(estimator.detector, "_pool", None)
    return scales


def test_the_search_for_the_largest_face_ends_before_the_small_ones(
    estimator: MoodEstimator, searched: list[float]
) -> None:
    frame = scene(640, 480, 1).pixels
    whole = estimator.detector.detect(frame)
    levels = len(searched)
    searched.clear()
    assert estimator.detector.detect(frame, all_faces=False) == whole
    assert len(searched) == levels - 3
    assert max(searched) < 0.2  # cells of 76 pixels and more: the face has a third of the frame


def test_a_small_face_is_found_whatever_the_search_is_for(estimator: MoodEstimator, astronaut: Pixels) -> None:
    frame = np.full((480, 640, 3), 100, np.uint8)
    frame[200:300, 300:400] = cv2.resize(astronaut[0:240, 104:344], (100, 100), interpolation=cv2.INTER_AREA)
    whole = estimator.detector.detect(frame)
    assert len(whole) == 1
    assert max(whole[0].width, whole[0].height) < 76
    assert estimator.detector.detect(frame, all_faces=False) == whole


@pytest.mark.parametrize("people", [0, 5])
def test_a_search_that_comes_to_its_end_finds_what_the_whole_cascade_finds(
    people: int, estimator: MoodEstimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = scene(640, 480, people).pixels
    whole = estimator.detector.detect(frame)
    monkeypatch.setattr("service.detector._is_certain", lambda faces, cell: False)
    assert estimator.detector.detect(frame, all_faces=False) == whole


def test_no_level_is_searched_twice_and_no_patch_is_looked_at_twice(
    estimator: MoodEstimator, searched: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[tuple[float, ...]] = []
    look_at = FaceDetector._look_at

    def noted(detector: FaceDetector, net: Any, image: Pixels, boxes: Any) -> Any:
        looks.extend((id(net), *box) for box in boxes.tolist())
        return look_at(detector, net, image, boxes)

    monkeypatch.setattr(FaceDetector, "_look_at", noted)
    monkeypatch.setattr("service.detector._is_certain", lambda faces, cell: False)
    estimator.detector.detect(scene(640, 480, 5).pixels, all_faces=False)
    assert len(searched) == len(set(searched)) > 3
    assert len(looks) == len(set(looks)) > 3


def test_a_large_face_ends_the_search_only_if_it_is_certain_and_large(estimator: MoodEstimator) -> None:
    (face,) = estimator.detector.detect(scene(640, 480, 1).pixels)
    size = (face.width * face.height) ** 0.5
    assert _is_certain([face], size / 1.6)
    assert not _is_certain([face], size / 1.4)
    assert not _is_certain([replace(face, confidence=0.85)], size / 1.6)
    assert _is_certain([replace(face, width=20, confidence=0.85), face], size / 1.6)
    assert not _is_certain([], 20.0)


def test_in_exact_arithmetic_every_level_is_searched(at_package_settings: FaceDetector) -> None:
    frame = scene(320, 240, 1).pixels
    assert at_package_settings.detect(frame, all_faces=False) == at_package_settings.detect(frame)


@pytest.mark.parametrize("people", [0, 1, 5])
def test_the_bounds_leave_the_faces_of_an_ordinary_frame_as_they_are(
    people: int, estimator: MoodEstimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = scene(1280, 720, people).pixels
    bounded = estimator.detector.detect(frame)
    monkeypatch.setattr(estimator.detector, "_most", (10**9,) * 3)
    assert estimator.detector.detect(frame) == bounded


def test_a_very_long_image_leaves_no_memory_behind(estimator: MoodEstimator) -> None:
    """The C library has given back what it had; the rest would be ONNX Runtime's."""
    frame = np.tile(scene(640, 480, 0).pixels, (1, 20, 1))
    process = psutil.Process()
    estimator.detector.detect(frame[:, :2_000])
    memory.give_back()
    before = process.memory_info().rss
    estimator.detector.detect(frame)
    memory.give_back()
    assert process.memory_info().rss - before < 25_000_000
