"""What predictions are worth: figures, calibration and confusion, from labels and probabilities alone.

Pure arithmetic; which images are scored, and by which model, is for `pipelines.evaluate` to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support, recall_score

from service.classifier import calibrate
from service.moods import MOODS

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
        "weighted_f1": float(f1_score(truth, predicted, labels=_MOOD_CODES, average="weighted", zero_division=0)),
        "macro_f1": float(f1_score(truth, predicted, labels=_MOOD_CODES, average="macro", zero_division=0)),
        "accuracy": float(accuracy_score(truth, predicted)),
        "macro_recall": float(recall_score(truth, predicted, labels=_MOOD_CODES, average="macro", zero_division=0)),
        "expected_calibration_error": expected_calibration_error(predictions, bins),
        "images": len(predictions),
    }


def by_mood(predictions: Predictions) -> pd.DataFrame:
    """Precision, recall, F1 and support, one row a mood; zero where a mood is never predicted or never shown."""
    precision, recall, f1, support = precision_recall_fscore_support(
        predictions.moods, predictions.predicted, labels=_MOOD_CODES, zero_division=0
    )
    return pd.DataFrame({"mood": MOODS, "precision": precision, "recall": recall, "f1": f1, "support": support})


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
