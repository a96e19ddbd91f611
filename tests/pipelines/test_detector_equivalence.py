"""`pipelines.detector_equivalence`: the cascade against the `mtcnn` package, on a sample of what the stage compares."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.detector_equivalence import MAX_EXTRA, compare, compose_frames, page
from pipelines.evaluation.agreement import MIN_MATCHED, mtcnn_package, sample_photos
from service.detector import DetectorSettings, FaceDetector
from tests.conftest import ROOT

NETS = ROOT / "bundle" / "detector"
PHOTOS, FRAMES = 32, 3
REPORT = ROOT / "reports" / "detector_equivalence"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_on_photos_and_frames_it_finds_what_the_package_finds_and_as_served_the_largest_face(photos: Path) -> None:
    sample = sample_photos(photos, PHOTOS)
    pictures = [*sample, *compose_frames(sample, 640, 480, FRAMES)]
    exact, served = FaceDetector(NETS, DetectorSettings()), FaceDetector(NETS)
    agreement, largest, same = compare(mtcnn_package(), pictures, exact, served)
    assert agreement.faces >= PHOTOS
    assert agreement.matched >= MIN_MATCHED * agreement.faces
    assert agreement.extra <= MAX_EXTRA * agreement.faces
    assert largest.images >= PHOTOS
    assert same.images >= PHOTOS
    assert same.images - same.same <= 1
    assert largest.images - largest.found <= 1  # of some thirty: the report has the share on a thousand and more


def test_the_report_in_git_holds_its_bounds_on_a_thousand_photos() -> None:
    content = json.loads((REPORT / "equivalence.json").read_text())
    assert content["package_settings"]["photos"]["images"] >= 1000
    assert all(content["bounds_hold"].values())
    assert (REPORT / "equivalence.md").read_text() == page(content)


def test_frames_are_the_same_at_every_call() -> None:
    pictures = [np.full((60, 60, 3), grey, np.uint8) for grey in (40, 80, 120)]
    first, second = (list(compose_frames(pictures, 160, 120, 4)) for _ in range(2))
    assert [frame.shape for frame in first] == [(120, 160, 3)] * 4
    np.testing.assert_array_equal(first, second)
