"""Classification metrics, calibration and confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.metrics import confusion_matrix

from pipelines.evaluation import bootstrap
from pipelines.evaluation.bootstrap import METRICS, Counts, percentiles, resample
from pipelines.evaluation.predictions import Predictions
from service.classifier import calibrate
from service.moods import MOODS

INTERVAL_LEVEL: Final = 0.95
"""Confidence level of the metrics' two-sided intervals."""

_WITH_INTERVAL = ("weighted_f1", "accuracy", "macro_recall")
_TEMPERATURE_RANGE = (0.05, 20.0)


def confusion(predictions: Predictions) -> Counts:
    """The confusion matrix, int64 (4, 4), by true and by predicted mood."""
    return confusion_matrix(predictions.moods, predictions.predicted, labels=range(len(MOODS)))


def summarise(predictions: Predictions, bins: int) -> dict[str, float]:
    """The main metrics of one test.

    Args:
        predictions: Predictions for at least one image.
        bins: Bins of the expected calibration error.
    """
    matrix = confusion(predictions)
    return {
        **{name: float(metric(matrix)) for name, metric in METRICS.items()},
        "expected_calibration_error": expected_calibration_error(predictions, bins),
        "images": len(predictions),
    }


def resampled_confusions(predictions: Predictions, resamples: int, seed: int) -> Counts:
    """Confusion matrices of a bootstrap, int64 (resamples, 4, 4), by true and by predicted mood."""
    return resample(confusion(predictions), resamples, np.random.default_rng(seed))


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
    return {f"{name}_interval": {"low": float(low), "high": float(high)} for name, (low, high) in intervals.items()}


def by_mood(predictions: Predictions, resamples: int, seed: int) -> pd.DataFrame:
    """The metrics of each mood, with intervals from the same draws as `bootstrap_intervals`.

    Returns:
        One row per mood: `mood`, `precision`, `recall`, `recall_low`, `recall_high`, `f1`, `f1_low`, `f1_high`,
        `support`. A metric is zero for a mood that is never predicted or has no image.
    """
    matrix, drawn = confusion(predictions), resampled_confusions(predictions, resamples, seed)
    table = {"mood": MOODS, "precision": bootstrap.precision(matrix)}
    for name, metric in (("recall", bootstrap.recall), ("f1", bootstrap.f1)):
        table[name] = metric(matrix)
        table[f"{name}_low"], table[f"{name}_high"] = percentiles(metric(drawn), INTERVAL_LEVEL)
    return pd.DataFrame({**table, "support": matrix.sum(axis=1)})


def corruption_losses(clean: Predictions, corrupted: Mapping[str, Predictions]) -> pd.DataFrame:
    """The effect of each corruption.

    Args:
        clean: Predictions for faces as they are.
        corrupted: Predictions for the same faces under each corruption, by its name.

    Returns:
        One row per corruption: `slice` (its name), `weighted_f1`, `loss` (of weighted F1 against the clean faces),
        `macro_recall`.
    """
    matrices = np.stack([confusion(one) for one in corrupted.values()])
    weighted_f1 = bootstrap.weighted_f1(matrices)
    return pd.DataFrame(
        {
            "slice": list(corrupted),
            "weighted_f1": weighted_f1,
            "loss": bootstrap.weighted_f1(confusion(clean)) - weighted_f1,
            "macro_recall": bootstrap.macro_recall(matrices),
        }
    )


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


def headline(report: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics that `dvc metrics show` prints side by side; short names, because it has to fit a terminal.

    Args:
        report: The content of `metrics.json`.

    Returns:
        Weighted F1 on validation (FER+ labels) and on the three tests; `worst_loss`, the largest loss of it under a
        corruption of the test faces; size, multiply-adds and latency ratio of the served graph, as far as the report
        has them.
    """
    costs = {"bytes": "size_bytes", "multiply_adds": "multiply_adds", "latency": "latency_ratio"}
    return {
        "validation": report["validation"]["ferplus"]["weighted_f1"],
        **{test: report["test"][test]["weighted_f1"] for test in ("ferplus", "original", "photos")},
        "worst_loss": report["test"]["worst_slice_loss"],
        **{name: report[metric] for name, metric in costs.items() if metric in report},
    }
