"""`pipelines.metrics`: figures that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines import metrics
from pipelines.labels import one_hot
from pipelines.metrics import Predictions
from service.classifier import calibrate
from service.moods import MOODS

POSITIVE, NEGATIVE, NEUTRAL, OTHER = range(len(MOODS))


def predictions(pairs: list[tuple[int, int]], confidence: float = 1.0) -> Predictions:
    """Pairs of true and predicted mood, all with the same confidence."""
    moods, predicted = (np.array(column, dtype=np.int8) for column in zip(*pairs, strict=True))
    probabilities = np.full((len(moods), len(MOODS)), (1 - confidence) / 3)
    probabilities[np.arange(len(moods)), predicted] = confidence
    return Predictions(moods, probabilities)


def test_headline_figures_are_those_of_a_case_worked_out_by_hand() -> None:
    # Precision and recall: positive 1 and 2/3, negative 1/2 and 1; F1 4/5 and 2/3.
    figures = metrics.summarise(
        predictions([(POSITIVE, POSITIVE)] * 2 + [(POSITIVE, NEGATIVE), (NEGATIVE, NEGATIVE)]), 15
    )
    assert figures["accuracy"] == pytest.approx(3 / 4)
    assert figures["weighted_f1"] == pytest.approx(3 / 4 * 4 / 5 + 1 / 4 * 2 / 3)
    assert figures["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 4)  # the two moods that never occur count as zero
    assert figures["images"] == 4


def test_each_mood_has_its_own_figures_and_support() -> None:
    table = metrics.by_mood(predictions([(NEUTRAL, NEUTRAL), (NEUTRAL, OTHER), (OTHER, OTHER)])).set_index("mood")
    assert list(table.index) == list(MOODS)
    assert table.loc["neutral", ["precision", "recall", "support"]].tolist() == [1, 0.5, 2]
    assert table.loc["other", ["precision", "recall", "support"]].tolist() == [0.5, 1, 1]
    assert table.loc["positive", ["precision", "recall", "f1", "support"]].tolist() == [0, 0, 0, 0]


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    half_right = [(POSITIVE, POSITIVE), (NEGATIVE, POSITIVE)]
    assert metrics.expected_calibration_error(predictions(half_right, confidence=0.9), 15) == pytest.approx(0.4)
    assert metrics.expected_calibration_error(predictions(half_right, confidence=0.5), 15) == pytest.approx(0)


def test_calibration_error_weighs_bins_by_their_images() -> None:
    sure = predictions([(POSITIVE, POSITIVE)] * 3, confidence=0.95)
    unsure = predictions([(NEGATIVE, POSITIVE)], confidence=0.4)
    both = Predictions(
        np.concatenate([sure.moods, unsure.moods]), np.concatenate([sure.probabilities, unsure.probabilities])
    )
    assert metrics.expected_calibration_error(both, 10) == pytest.approx((3 * 0.05 + 1 * 0.4) / 4)
    assert metrics.reliability(both, 10)["count"].tolist() == [1, 3]


def test_full_confidence_falls_into_the_last_bin() -> None:
    assert metrics.reliability(predictions([(OTHER, OTHER)]), 15).to_dict("records") == [
        {"confidence": 1.0, "accuracy": 1.0, "count": 1}
    ]


def test_confusion_rows_name_the_moods() -> None:
    rows = metrics.confusion_rows(predictions([(POSITIVE, NEUTRAL), (OTHER, OTHER)]))
    assert rows.to_dict("list") == {"actual": ["positive", "other"], "predicted": ["neutral", "other"]}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_fitted_temperature_undoes_the_one_that_spoiled_the_probabilities(temperature: float) -> None:
    random = np.random.default_rng(0)
    honest = random.dirichlet([1, 1, 1, 1], size=2000)
    spoiled = calibrate(honest, 1 / temperature)
    assert metrics.fit_temperature(spoiled, honest) == pytest.approx(temperature, rel=0.01)


def test_an_overconfident_model_becomes_calibrated() -> None:
    random = np.random.default_rng(1)
    honest = random.dirichlet([1, 1, 1, 1], size=5000)
    moods = np.array([random.choice(len(MOODS), p=row) for row in honest], dtype=np.int8)
    overconfident = calibrate(honest, 0.3)
    calibrated = calibrate(overconfident, metrics.fit_temperature(overconfident, one_hot(moods)))
    assert metrics.expected_calibration_error(Predictions(moods, overconfident), 15) > 0.1
    assert metrics.expected_calibration_error(Predictions(moods, calibrated), 15) < 0.03


def test_figures_are_cut_to_significant_digits_and_counts_stay_whole() -> None:
    assert metrics.rounded({"f1": 0.123456789, "deep": {"difference": 1.23456789e-7}, "images": 1234567}) == {
        "f1": 0.12346,
        "deep": {"difference": 1.2346e-07},
        "images": 1234567,
    }
