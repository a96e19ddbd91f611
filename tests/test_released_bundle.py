"""The released bundle: its metadata and metrics are those that it is measured to have."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from pipelines.data.face_sets import FaceSet
from pipelines.evaluation import metrics
from pipelines.evaluation.predictions import predict_tests
from pipelines.export import to_litert
from pipelines.export.to_litert import LiteRTClassifier
from pipelines.params import Params
from pipelines.prepare import load_fer2013
from pipelines.registry.champion import Champion
from pipelines.releases.ledger import Ledger, require_consistent
from service.classifier import GRAPH_FILE, METADATA_FILE, MoodClassifier
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
    assert champion.metadata.model_dump(mode="json") == metadata
    assert (BUNDLE / "classifier" / GRAPH_FILE).read_bytes() == (champion.candidate.model / GRAPH_FILE).read_bytes()


def test_the_ledger_says_that_the_champion_is_the_latest_release(champion: Champion) -> None:
    ledger = Ledger.read(ROOT / "models" / "releases.json")
    require_consistent(ledger, champion)
    assert {1, 2, 4} <= {entry.number for entry in ledger.entries}  # 3 was never released


def test_the_champion_is_good_enough_to_be_released_and_small_enough_for_a_phone(champion: Champion) -> None:
    assert champion.record.metrics["test"]["ferplus"]["weighted_f1"] >= 0.78
    assert champion.record.metrics["size_bytes"] < 1_000_000


@pytest.mark.slow
def test_recomputing_the_test_metrics_from_the_bundle_gives_the_committed_ones(
    champion: Champion, photos: Path
) -> None:
    faces, splits = load_fer2013(photos.with_name("fer2013.parquet"), Params.read().prepare, Params.read().input)
    estimator = MoodEstimator.load(BUNDLE)
    tests, coverage = predict_tests(estimator, faces.select(splits == "test"), photos, Params.read().prepare)

    committed = champion.record.metrics["test"]
    assert (
        len(tests["ferplus"]) == len(tests["original"]) == 3572
    )  # FER2013's official test split, less one image without a vote
    for name, predictions in tests.items():
        summary = metrics.summarise(predictions, Params.read().evaluate.calibration_bins)
        # Another processor may round a probability, and so a face on the brink, otherwise: one in a thousand.
        assert summary == pytest.approx({key: committed[name][key] for key in summary}, abs=1e-3), name
    assert coverage == pytest.approx(committed["photos"]["coverage"], abs=1e-3)


@pytest.fixture(scope="module")
def fer2013_test(photos: Path) -> FaceSet:
    """FER2013's test faces, cut anew."""
    faces, splits = load_fer2013(photos.with_name("fer2013.parquet"), Params.read().prepare, Params.read().input)
    return faces.select(splits == "test")


def test_the_files_for_phones_are_small_and_name_the_moods_as_the_service_does() -> None:
    classifier = BUNDLE / "classifier"
    assert (classifier / to_litert.FLOAT_FILE).stat().st_size < 1_000_000
    assert (classifier / to_litert.INT8_FILE).stat().st_size < 320_000
    moods = json.loads((classifier / METADATA_FILE).read_text())["moods"]
    assert (classifier / to_litert.LABELS_FILE).read_text().splitlines() == moods


@pytest.mark.slow
def test_a_phone_gives_the_services_probabilities_for_a_thousand_faces(fer2013_test: FaceSet) -> None:
    service = MoodClassifier(BUNDLE / "classifier")
    phone = LiteRTClassifier(BUNDLE / "classifier" / to_litert.FLOAT_FILE, service.metadata.input)
    pixels = fer2013_test.pixels[:1000]
    assert len(pixels) == 1000
    assert np.abs(phone.predict(pixels) - service.predict(pixels)).max() <= 1e-4


@pytest.mark.slow
def test_in_int8_a_phone_loses_at_most_half_a_point_on_the_test(fer2013_test: FaceSet) -> None:
    service = MoodClassifier(BUNDLE / "classifier")
    phone = LiteRTClassifier(BUNDLE / "classifier" / to_litert.INT8_FILE, service.metadata.input)
    served, on_phone = (
        f1_score(fer2013_test.ferplus_mood, predict(fer2013_test.pixels).argmax(axis=1), average="weighted")
        for predict in (service.predict, phone.predict)
    )
    assert on_phone >= served - 0.005
