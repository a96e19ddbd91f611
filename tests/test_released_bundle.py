"""The bundle that git holds: what it says of itself is what one measures with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines import metrics
from pipelines.champion import Champion
from pipelines.evaluate import predict_tests
from pipelines.params import read_evaluate, read_input, read_prepare
from pipelines.prepare import load_fer2013
from service.classifier import METADATA_FILE
from service.estimator import MoodEstimator
from tests.conftest import ROOT

BUNDLE = ROOT / "bundle"


@pytest.fixture(scope="module")
def champion() -> Champion:
    found = Champion.read(ROOT / "models" / "champion")
    assert found is not None
    return found


def test_the_bundle_is_the_champion_that_the_gate_chose(champion: Champion) -> None:
    metadata = json.loads((BUNDLE / "classifier" / METADATA_FILE).read_text())
    assert (metadata["name"], metadata["version"]) == (champion.record.architecture, champion.record.version)
    assert metadata["temperature"] == champion.record.temperature


def test_the_champion_is_good_enough_to_be_released_and_small_enough_for_a_phone(champion: Champion) -> None:
    assert champion.record.metrics["test"]["ferplus"]["weighted_f1"] >= 0.78
    assert champion.record.metrics["size_bytes"] < 1_000_000


def test_recomputing_the_test_metrics_from_the_bundle_gives_the_committed_figures(
    champion: Champion, photos: Path
) -> None:
    faces, splits = load_fer2013(photos.with_name("fer2013.parquet"), read_prepare(), read_input())
    estimator = MoodEstimator.load(BUNDLE)
    tests, coverage = predict_tests(estimator, faces.select(splits == "test"), photos, read_prepare())

    committed = champion.record.metrics["test"]
    assert (
        len(tests["ferplus"]) == len(tests["original"]) == 3572
    )  # FER2013's official test split, less one image without a vote
    for name, predictions in tests.items():
        summary = metrics.summarise(predictions, read_evaluate().calibration_bins)
        # Another processor may round a probability, and so a face on the brink, otherwise: one in a thousand.
        assert summary == pytest.approx({key: committed[name][key] for key in summary}, abs=1e-3), name
    assert coverage == pytest.approx(committed["photos"]["coverage"], abs=1e-3)
