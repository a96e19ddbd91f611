"""Classification metrics, calibration and confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    recall_score,
)

from pipelines.evaluation.bootstrap import METRICS, Counts, f1_of, percentiles, recall_of, resample
from pipelines.evaluation.predictions import Predictions
from service.classifier import calibrate
from service.moods import MOODS

INTERVAL_LEVEL: Final = 0.95
"""Confidence level of the metrics' two-sided intervals."""

_WITH_INTERVAL = ("weighted_f1", "accuracy", "macro_recall")
_MOOD_CODES = list(range(len(MOODS)))
_TEMPERATURE_RANGE = (0.05, 20.0)


def summarise(predictions: Predictions, bins: int) -> dict[str, float]:
    """The main metrics of one test.

    Args:
        predictions: Predictions for at least one image.
        bins: Bins of the expected calibration error.
    """
    truth, predicted = predictions.moods, predictions.predicted
    return {
        "weighted_f1": weighted_f1(predictions),
        "macro_f1": float(f1_score(truth, predicted, labels=_MOOD_CODES, average="macro", zero_division=0)),
        "accuracy": float(accuracy_score(truth, predicted)),
        "macro_recall": _macro_recall(predictions),
        "expected_calibration_error": expected_calibration_error(predictions, bins),
        "images": len(predictions),
    }


def weighted_f1(predictions: Predictions) -> float:
    """Mean F1 of the moods, weighted by their numbers of images."""
    return float(
        f1_score(predictions.moods, predictions.predicted, labels=_MOOD_CODES, average="weighted", zero_division=0)
    )


def _macro_recall(predictions: Predictions) -> float:
    """Mean recall of the moods."""
    return float(
        recall_score(predictions.moods, predictions.predicted, labels=_MOOD_CODES, average="macro", zero_division=0)
    )


def by_mood(predictions: Predictions) -> pd.DataFrame:
    """Precision, recall, F1 and support, one row per mood; zero for a mood that is never predicted or has no image."""
    precision, recall, f1, support = precision_recall_fscore_support(
        predictions.moods, predictions.predicted, labels=_MOOD_CODES, zero_division=0
    )
    return pd.DataFrame({"mood": MOODS, "precision": precision, "recall": recall, "f1": f1, "support": support})


def resampled_confusions(predictions: Predictions, resamples: int, seed: int) -> Counts:
    """Confusion matrices of a bootstrap, int64 (resamples, 4, 4), by true and by predicted mood."""
    matrix = confusion_matrix(predictions.moods, predictions.predicted, labels=_MOOD_CODES)
    return resample(matrix, resamples, np.random.default_rng(seed))


def bootstrap_intervals(predictions: Predictions, resamples: int, seed: int) -> dict[str, dict[str, float]]:
    """Percentile intervals of some metrics: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993,
    chapter 13.

    Args:
        predictions: Predictions for at least one image.
        resamples: Number of draws.
        seed: Seed of the draws.

    Returns:
        `low` and `high` of `weighted_f1_interval`, `accuracy_interval` and `macro_recall_interval`.
    """
    confusions = resampled_confusions(predictions, resamples, seed)
    intervals = {name: percentiles(METRICS[name](confusions), INTERVAL_LEVEL) for name in _WITH_INTERVAL}
    return {f"{name}_interval": {"low": low, "high": high} for name, (low, high) in intervals.items()}


def bootstrap_intervals_by_mood(predictions: Predictions, resamples: int, seed: int) -> pd.DataFrame:
    """Intervals of each mood's recall and F1, from the same draws as `bootstrap_intervals`.

    Returns:
        One row per mood: `mood`, `recall_low`, `recall_high`, `f1_low`, `f1_high`.
    """
    confusions = resampled_confusions(predictions, resamples, seed)
    rows = [
        [end for metric in (recall_of(code), f1_of(code)) for end in percentiles(metric(confusions), INTERVAL_LEVEL)]
        for code in _MOOD_CODES
    ]
    table = pd.DataFrame(rows, columns=["recall_low", "recall_high", "f1_low", "f1_high"])
    return table.assign(mood=MOODS)


def corruption_losses(clean: Predictions, corrupted: Mapping[str, Predictions]) -> pd.DataFrame:
    """The effect of each corruption.

    Args:
        clean: Predictions for faces as they are.
        corrupted: Predictions for the same faces under each corruption, by its name.

    Returns:
        One row per corruption: `slice` (its name), `weighted_f1`, `loss` (of weighted F1 against the clean faces),
        `macro_recall`.
    """
    before = weighted_f1(clean)
    rows = [
        {
            "slice": name,
            "weighted_f1": weighted_f1(one),
            "loss": before - weighted_f1(one),
            "macro_recall": _macro_recall(one),
        }
        for name, one in corrupted.items()
    ]
    return pd.DataFrame(rows)


def reliability(predictions: Predictions, bins: int) -> pd.DataFrame:
    """The reliability diagram: confidence against accuracy in bins of equal width.

    Args:
        predictions: Predictions for at least one image.
        bins: Number of bins over (0, 1], each open on its left.

    Returns:
        One row per bin that holds an image: `confidence` (mean), `accuracy`, `count`.
    """
    bin_of = np.clip(np.ceil(predictions.confidences * bins).astype(int) - 1, 0, bins - 1)
    table = pd.DataFrame(
        {"confidence": predictions.confidences, "accuracy": predictions.predicted == predictions.moods, "bin": bin_of}
    )
    grouped = table.groupby("bin").agg(
        confidence=("confidence", "mean"), accuracy=("accuracy", "mean"), count=("accuracy", "size")
    )
    return grouped.reset_index(drop=True)


def expected_calibration_error(predictions: Predictions, bins: int) -> float:
    """Mean distance of confidence from accuracy: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017,
    equation 3."""
    table = reliability(predictions, bins)
    return float(((table["confidence"] - table["accuracy"]).abs() * table["count"]).sum() / table["count"].sum())


def confusion_rows(predictions: Predictions) -> pd.DataFrame:
    """True and predicted mood by name, one row per image, as the template `confusion` of `dvc plots` takes them."""
    names = np.array(MOODS)
    return pd.DataFrame({"actual": names[predictions.moods], "predicted": names[predictions.predicted]})


def cross_entropy(probabilities: NDArray[np.floating[Any]], labels: NDArray[np.floating[Any]]) -> float:
    """Mean negative log-likelihood of labels, hard or soft; both arrays are (n, 4)."""
    return float(-(labels * np.log(np.maximum(probabilities, 1e-12))).sum(axis=1).mean())


def fit_temperature(probabilities: NDArray[np.floating[Any]], labels: NDArray[np.floating[Any]]) -> float:
    """The temperature with the least cross-entropy (Guo et al., section 4.2). It does not change any predicted mood.

    Args:
        probabilities: (n, 4), from an uncalibrated model on images that it was not trained on.
        labels: (n, 4), hard or soft, rows summing to 1.
    """
    low, high = np.log(_TEMPERATURE_RANGE)
    # The search runs over the logarithm because halving and doubling a temperature are changes of equal size.
    found = minimize_scalar(
        lambda log_temperature: cross_entropy(calibrate(probabilities, float(np.exp(log_temperature))), labels),
        bounds=(low, high),
        method="bounded",
    )
    return float(np.exp(found.x))


def rounded(values: dict[str, Any], digits: int = 5) -> dict[str, Any]:
    """Nested values with floats rounded to some significant digits, so that a diff of two versions is readable."""
    return {
        key: rounded(value, digits)
        if isinstance(value, dict)
        else float(f"{value:.{digits}g}")
        if isinstance(value, float)
        else value
        for key, value in values.items()
    }
