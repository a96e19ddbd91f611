"""`pipelines.evaluation.agreement`: which faces of two detectors match."""

from __future__ import annotations

from dataclasses import replace

from pipelines.evaluation.agreement import Agreement, LargestFound
from service.detector import Face

FACE = Face(100, 100, 50, 50, 0.99)


def test_faces_match_if_boxes_and_confidences_are_close() -> None:
    near = replace(FACE, x=101, confidence=0.98)
    assert Agreement.of([near], [FACE]) == Agreement(1, faces=1, matched=1, extra=0, confidence_difference=0.01)
    for other in (replace(FACE, x=110), replace(FACE, confidence=0.9)):
        assert Agreement.of([other], [FACE]) == Agreement(1, faces=1, matched=0, extra=1)


def test_a_face_matches_only_one_face_of_the_other_detector() -> None:
    assert Agreement.of([FACE], [FACE, replace(FACE, x=101)]) == Agreement(1, faces=2, matched=1, extra=0)


def test_agreements_of_several_images_add_up_and_the_largest_difference_stays() -> None:
    parts = [Agreement.of([replace(FACE, confidence=0.98)], [FACE]), Agreement.of([], [FACE]), Agreement.of([FACE], [])]
    assert sum(parts, Agreement()) == Agreement(3, faces=2, matched=1, extra=1, confidence_difference=0.01)


def test_small_faces_are_not_counted() -> None:
    assert LargestFound.of([], [FACE], shorter_side=1080) == LargestFound()
    assert LargestFound.of([FACE], [], shorter_side=480) == LargestFound()


def test_the_largest_face_must_be_the_largest_of_the_other_detector_too() -> None:
    bigger = Face(300, 0, 90, 90, 0.99)
    cases = [([FACE], [FACE]), ([FACE, bigger], [FACE]), ([bigger], [FACE])]
    found = [LargestFound.of(ours, theirs, shorter_side=480) for ours, theirs in cases]
    assert found == [LargestFound(1, 1, 0), LargestFound(1, 0, 1), LargestFound(1, 0, 0)]
    assert sum(found, LargestFound()) == LargestFound(3, 1, 1)
