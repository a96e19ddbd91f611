"""What predictions are worth: figures, calibration and confusion, from labels and probabilities alone.

Pure arithmetic; which images are scored, and by which model, is for `pipelines.evaluate` to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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

from pipelines.evaluation.bootstrap import FIGURES, f1_of, recall_of
from service.classifier import calibrate
from service.moods import MOODS

INTERVAL_LEVEL: Final = 0.95
"""Of the intervals of figures, two-sided."""

_WITH_INTERVAL = ("weighted_f1", "accuracy", "macro_recall")
_MOOD_CODES = list(range(len(MOODS)))
_TEMPERATURE_RANGE = (0.05, 20.0)


@dataclass(frozen=True)
class Predictions:
    """What n images show, and what a model says of them.

    Attributes:
        moods: int8 (n,), index of the true mood in `MOODS`.
        probabilities: float64 (n, 4), rows summing to 1.
    """

    moods: NDArray[np.int8]
    probabilities: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.moods)

    @property
    def predicted(self) -> NDArray[np.intp]:
        """(n,), index of the mood with the highest probability, the first among equals."""
        return self.probabilities.argmax(axis=1)

    @property
    def confidences(self) -> NDArray[np.float64]:
        """(n,), probability of the predicted mood."""
        return self.probabilities.max(axis=1)


def summarise(predictions: Predictions, bins: int) -> dict[str, float]:
    """The headline figures of one test.

    Args:
        predictions: of at least one image.
        bins: of the expected calibration error.
    """
    truth, predicted = predictions.moods, predictions.predicted
    return {
        "weighted_f1": _weighted_f1(predictions),
        "macro_f1": float(f1_score(truth, predicted, labels=_MOOD_CODES, average="macro", zero_division=0)),
        "accuracy": float(accuracy_score(truth, predicted)),
        "macro_recall": _macro_recall(predictions),
        "expected_calibration_error": expected_calibration_error(predictions, bins),
        "images": len(predictions),
    }


def _weighted_f1(predictions: Predictions) -> float:
    """Mean F1 of the moods, weighted by how many images show them."""
    return float(
        f1_score(predictions.moods, predictions.predicted, labels=_MOOD_CODES, average="weighted", zero_division=0)
    )


def _macro_recall(predictions: Predictions) -> float:
    """Mean recall of the moods."""
    return float(
        recall_score(predictions.moods, predictions.predicted, labels=_MOOD_CODES, average="macro", zero_division=0)
    )


def by_mood(predictions: Predictions) -> pd.DataFrame:
    """Precision, recall, F1 and support, one row a mood; zero where a mood is never predicted or never shown."""
    precision, recall, f1, support = precision_recall_fscore_support(
        predictions.moods, predictions.predicted, labels=_MOOD_CODES, zero_division=0
    )
    return pd.DataFrame({"mood": MOODS, "precision": precision, "recall": recall, "f1": f1, "support": support})


def resampled_confusions(predictions: Predictions, resamples: int, seed: int) -> NDArray[np.int64]:
    """Confusion matrices of a bootstrap: as many images as there are, drawn with replacement, several times.

    Images with the same true and predicted mood are alike to every figure of a confusion matrix, and the numbers of
    these 16 kinds in a draw follow a multinomial distribution: no image needs to be drawn.

    Args:
        predictions: of at least one image.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        int64 (resamples, 4, 4), by true and by predicted mood.
    """
    matrix = confusion_matrix(predictions.moods, predictions.predicted, labels=_MOOD_CODES)
    shares = matrix.ravel() / len(predictions)
    return np.random.default_rng(seed).multinomial(len(predictions), shares, resamples).reshape(-1, *matrix.shape)


def bootstrap_intervals(predictions: Predictions, resamples: int, seed: int) -> dict[str, dict[str, float]]:
    """Percentile intervals of headline figures: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993,
    chapter 13.

    Args:
        predictions: of at least one image.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        `low` and `high` of `weighted_f1_interval`, `accuracy_interval` and `macro_recall_interval`.
    """
    confusions = resampled_confusions(predictions, resamples, seed)
    intervals = {name: _percentiles(FIGURES[name](confusions)) for name in _WITH_INTERVAL}
    return {f"{name}_interval": {"low": low, "high": high} for name, (low, high) in intervals.items()}


def bootstrap_intervals_by_mood(predictions: Predictions, resamples: int, seed: int) -> pd.DataFrame:
    """The intervals of each mood's recall and F1, from the same draws as `bootstrap_intervals`.

    Returns:
        One row a mood: `mood`, `recall_low`, `recall_high`, `f1_low`, `f1_high`.
    """
    confusions = resampled_confusions(predictions, resamples, seed)
    rows = [
        (*_percentiles(recall_of(code)(confusions)), *_percentiles(f1_of(code)(confusions))) for code in _MOOD_CODES
    ]
    table = pd.DataFrame(rows, columns=["recall_low", "recall_high", "f1_low", "f1_high"])
    return table.assign(mood=MOODS)


def _percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    """The ends of the interval of `INTERVAL_LEVEL` that has equal tails."""
    tail = (1 - INTERVAL_LEVEL) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def slice_losses(clean: Predictions, sliced: Mapping[str, Predictions]) -> pd.DataFrame:
    """What each slice costs.

    Args:
        clean: for the faces as they are.
        sliced: for the same faces in each slice, by its name.

    Returns:
        One row a slice: `slice`, `weighted_f1`, `loss` (of weighted F1, to the clean faces), `macro_recall`.
    """
    before = _weighted_f1(clean)
    rows = [
        {
            "slice": name,
            "weighted_f1": _weighted_f1(one),
            "loss": before - _weighted_f1(one),
            "macro_recall": _macro_recall(one),
        }
        for name, one in sliced.items()
    ]
    return pd.DataFrame(rows)


def reliability(predictions: Predictions, bins: int) -> pd.DataFrame:
    """The reliability diagram: confidence against accuracy in bins of equal width.

    Args:
        predictions: of at least one image.
        bins: number of them over (0, 1], each open on its left.

    Returns:
        One row a bin that holds an image: `confidence` (mean), `accuracy`, `count`.
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
    """True and predicted mood by name, one row an image: what the `confusion` template of `dvc plots` takes."""
    names = np.array(MOODS)
    return pd.DataFrame({"actual": names[predictions.moods], "predicted": names[predictions.predicted]})


def cross_entropy(probabilities: NDArray[np.floating[Any]], labels: NDArray[np.floating[Any]]) -> float:
    """Mean negative log-likelihood of labels, hard or soft; both arrays are (n, 4)."""
    return float(-(labels * np.log(np.maximum(probabilities, 1e-12))).sum(axis=1).mean())


def fit_temperature(probabilities: NDArray[np.floating[Any]], labels: NDArray[np.floating[Any]]) -> float:
    """The temperature with the least cross-entropy (Guo et al., section 4.2); it changes no prediction.

    Args:
        probabilities: (n, 4), of an uncalibrated model on images that it was not trained on.
        labels: (n, 4), hard or soft, rows summing to 1.
    """
    low, high = np.log(_TEMPERATURE_RANGE)
    # Searched by its logarithm: halving and doubling a temperature are changes of equal size.
    found = minimize_scalar(
        lambda log_temperature: cross_entropy(calibrate(probabilities, float(np.exp(log_temperature))), labels),
        bounds=(low, high),
        method="bounded",
    )
    return float(np.exp(found.x))


def rounded(figures: dict[str, Any], digits: int = 5) -> dict[str, Any]:
    """Nested figures with floats cut to some significant digits, so that a diff of two versions can be read."""
    return {
        key: rounded(value, digits)
        if isinstance(value, dict)
        else float(f"{value:.{digits}g}")
        if isinstance(value, float)
        else value
        for key, value in figures.items()
    }
