"""`pipelines.detector_equivalence`: the cascade against the `mtcnn` package, on a sample of what the stage compares."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.detector_equivalence import (
    MAX_EXTRA,
    MIN_MATCHED,
    Agreement,
    LargestFound,
    compare,
    compose_frames,
    package,
    sample_photos,
)
from service.detector import DetectorSettings, Face, FaceDetector
from tests.conftest import ROOT

NETS = ROOT / "bundle" / "detector"
PHOTOS, FRAMES = 32, 3

FACE = Face(100, 100, 50, 50, 0.99)


@pytest.mark.timeout(600)
def test_on_photos_and_frames_it_finds_what_the_package_finds_and_as_served_the_largest_face(photos: Path) -> None:
    sample = sample_photos(photos, PHOTOS)
    pictures = [*sample, *compose_frames(sample, 640, 480, FRAMES)]
    detect = package()
    exact, served = FaceDetector(NETS, DetectorSettings()), FaceDetector(NETS)
    agreement, largest = compare(map(detect, pictures), pictures, exact, served)
    assert agreement.faces >= PHOTOS
    assert agreement.matched >= MIN_MATCHED * agreement.faces
    assert agreement.extra <= MAX_EXTRA * agreement.faces
    assert largest.images >= PHOTOS
    assert largest.images - largest.found <= 1  # of some thirty: the report has the share on a thousand and more


def test_the_report_in_git_holds_its_bounds_on_a_thousand_photos() -> None:
    figures = json.loads((ROOT / "reports" / "detector_equivalence" / "equivalence.json").read_text())
    assert figures["package_settings"]["photos"]["images"] >= 1000
    assert all(figures["bounds_hold"].values())


def test_a_face_matches_where_place_and_confidence_do() -> None:
    agreement = Agreement()
    agreement.add([Face(101, 100, 50, 50, 0.98)], [FACE])
    assert (agreement.faces, agreement.matched, agreement.extra) == (1, 1, 0)
    for other in (Face(110, 100, 50, 50, 0.99), Face(100, 100, 50, 50, 0.9)):
        agreement.add([other], [FACE])
    assert (agreement.faces, agreement.matched, agreement.extra) == (3, 1, 2)


def test_only_large_faces_must_be_found_and_only_the_largest_counts() -> None:
    largest, bigger = LargestFound(), Face(300, 0, 90, 90, 0.99)
    largest.add([], [FACE], shorter_side=1080)
    assert largest.images == 0
    largest.add([FACE], [FACE], shorter_side=480)
    largest.add([FACE, bigger], [FACE], shorter_side=480)
    largest.add([bigger], [FACE], shorter_side=480)
    assert (largest.images, largest.found, largest.elsewhere) == (3, 1, 1)


def test_frames_are_the_same_at_every_call() -> None:
    pictures = [np.full((60, 60, 3), grey, np.uint8) for grey in (40, 80, 120)]
    first, second = (list(compose_frames(pictures, 160, 120, 4)) for _ in range(2))
    assert [frame.shape for frame in first] == [(120, 160, 3)] * 4
    np.testing.assert_array_equal(first, second)
