"""`pipelines.evaluation.metrics`: metrics that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.data.labels import one_hot
from pipelines.evaluation import metrics
from pipelines.evaluation.predictions import Predictions
from service.classifier import calibrate
from service.moods import MOODS

POSITIVE, NEGATIVE, NEUTRAL, OTHER = range(len(MOODS))


def predictions(pairs: list[tuple[int, int]], confidence: float = 1.0) -> Predictions:
    """Pairs of true and predicted mood, all with the same confidence."""
    moods, predicted = (np.array(column, dtype=np.int8) for column in zip(*pairs, strict=True))
    probabilities = np.full((len(moods), len(MOODS)), (1 - confidence) / 3)
    probabilities[np.arange(len(moods)), predicted] = confidence
    return Predictions(moods, probabilities)


def test_the_main_metrics_are_those_of_a_case_worked_out_by_hand() -> None:
    # Precision and recall: positive 1 and 2/3, negative 1/2 and 1; F1 4/5 and 2/3.
    summary = metrics.summarise(
        predictions([(POSITIVE, POSITIVE)] * 2 + [(POSITIVE, NEGATIVE), (NEGATIVE, NEGATIVE)]), 15
    )
    assert summary["accuracy"] == pytest.approx(3 / 4)
    assert summary["weighted_f1"] == pytest.approx(3 / 4 * 4 / 5 + 1 / 4 * 2 / 3)
    assert summary["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 4)  # the two moods that never occur count as zero
    assert summary["images"] == 4


def test_each_mood_has_its_own_metrics_and_support() -> None:
    seen = predictions([(NEUTRAL, NEUTRAL), (NEUTRAL, OTHER), (OTHER, OTHER)])
    table = metrics.by_mood(seen, 100, seed=1).set_index("mood")
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


def test_values_are_rounded_to_significant_digits_and_counts_stay_whole() -> None:
    assert metrics.rounded({"f1": 0.123456789, "deep": {"difference": 1.23456789e-7}, "images": 1234567}) == {
        "f1": 0.12346,
        "deep": {"difference": 1.2346e-07},
        "images": 1234567,
    }


def drawn(images: int, seed: int = 0) -> Predictions:
    """Predictions that are right in some three of four images, with the moods as unequal as in the photos."""
    random = np.random.default_rng(seed)
    moods = random.choice(len(MOODS), size=images, p=[0.4, 0.3, 0.25, 0.05]).astype(np.int8)
    predicted = np.where(random.random(images) < 0.7, moods, random.integers(len(MOODS), size=images))
    return predictions(list(zip(moods.tolist(), predicted.tolist(), strict=True)))


def test_drawing_confusion_matrices_is_drawing_images() -> None:
    seen = drawn(300)
    confusions = metrics.resampled_confusions(seen, 4000, seed=3)
    assert (confusions.sum(axis=(1, 2)) == len(seen)).all()
    random = np.random.default_rng(4)
    accuracies = [(seen.predicted == seen.moods)[random.integers(300, size=300)].mean() for _ in range(4000)]
    by_matrix = np.trace(confusions, axis1=1, axis2=2) / len(seen)
    assert by_matrix.mean() == pytest.approx(np.mean(accuracies), abs=0.002)
    assert by_matrix.std() == pytest.approx(np.std(accuracies), rel=0.05)


def test_intervals_hold_the_metrics_and_narrow_with_the_number_of_images() -> None:
    for images in (200, 20_000):
        seen = drawn(images)
        summary, intervals = metrics.summarise(seen, 15), metrics.bootstrap_intervals(seen, 2000, seed=1)
        assert list(intervals) == ["weighted_f1_interval", "accuracy_interval", "macro_recall_interval"]
        for name, ends in intervals.items():
            assert ends["low"] < summary[name.removesuffix("_interval")] < ends["high"]
        # The standard error of a share p is sqrt(p (1 - p) / n).
        expected = 2 * 1.96 * (summary["accuracy"] * (1 - summary["accuracy"]) / images) ** 0.5
        width = intervals["accuracy_interval"]["high"] - intervals["accuracy_interval"]["low"]
        assert width == pytest.approx(expected, rel=0.1)


def test_each_mood_has_its_intervals_and_a_rare_one_the_widest() -> None:
    seen = drawn(2000)
    table = metrics.by_mood(seen, 2000, seed=1)
    assert list(table["mood"]) == list(MOODS)
    for name in ("recall", "f1"):
        low, high = table[f"{name}_low"], table[f"{name}_high"]
        assert ((low < table[name]) & (table[name] < high)).all()
        assert (high - low).idxmax() == OTHER


def test_the_same_seed_gives_the_same_intervals() -> None:
    seen = drawn(500)
    assert metrics.bootstrap_intervals(seen, 500, seed=1) == metrics.bootstrap_intervals(seen, 500, seed=1)
    assert metrics.bootstrap_intervals(seen, 500, seed=1) != metrics.bootstrap_intervals(seen, 500, seed=2)


def test_a_model_without_error_has_intervals_of_no_width() -> None:
    perfect = predictions([(mood, mood) for mood in range(len(MOODS))] * 50)
    for ends in metrics.bootstrap_intervals(perfect, 500, seed=1).values():
        assert ends == {"low": 1.0, "high": 1.0}


def test_a_corruption_costs_what_it_takes_from_the_weighted_f1_of_clean_faces() -> None:
    clean = predictions([(POSITIVE, POSITIVE), (NEGATIVE, NEGATIVE)])
    table = metrics.corruption_losses(
        clean, {"harmless": clean, "dark": predictions([(POSITIVE, POSITIVE), (NEGATIVE, POSITIVE)])}
    ).set_index("slice")
    assert table.loc["harmless"].to_dict() == {"weighted_f1": 1, "loss": 0, "macro_recall": 0.5}  # of two moods in four
    assert table.loc["dark", "weighted_f1"] == pytest.approx(1 / 2 * 2 / 3)
    assert table.loc["dark", "loss"] == pytest.approx(2 / 3)
    assert table.loc["dark", "macro_recall"] == pytest.approx(1 / 4)


def test_the_headline_has_the_four_f1s_the_worst_loss_and_the_costs_that_are_known() -> None:
    f1 = {"weighted_f1": 0.8, "accuracy": 0.7}
    report = {
        "validation": {"ferplus": f1},
        "test": {"ferplus": f1, "original": f1, "photos": f1, "worst_slice_loss": 0.1, "slices": {}},
        "size_bytes": 900,
        "latency_ms": 0.9,
    }
    known = {"validation": 0.8, "ferplus": 0.8, "original": 0.8, "photos": 0.8, "worst_loss": 0.1, "bytes": 900}
    assert metrics.headline(report) == known
    timed = metrics.headline(report | {"multiply_adds": 25, "latency_ratio": 2.8})
    assert timed == known | {"multiply_adds": 25, "latency": 2.8}
