"""Quality of live predictions: estimated from their confidence, and measured with labels that arrive late."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from pipelines.evaluation import metrics
from pipelines.evaluation.predictions import Predictions
from service.moods import MOODS
from service.observation import PROBABILITIES

LABELS_FILE: Final = "labels.csv"
_COLUMNS: Final = ("request", "mood")


def expected_accuracy(labelled: pd.DataFrame, confidences: pd.Series, bins: int) -> float:
    """Accuracy to expect from confidences, if the model is calibrated as on the labelled images.

    Args:
        labelled: Labelled predictions with `confidence`, `mood` and `label`.
        confidences: Confidences of the predictions in question.
        bins: Number of confidence bins with equal numbers of labelled predictions.
    """
    edges = np.unique(np.quantile(labelled["confidence"], np.linspace(0, 1, bins + 1)[1:-1]))
    right = (labelled["mood"] == labelled["label"]).groupby(np.digitize(labelled["confidence"], edges)).mean()
    accuracy = right.reindex(range(len(edges) + 1)).interpolate(limit_direction="both")
    return float(accuracy.to_numpy()[np.digitize(confidences, edges)].mean())


def proxies(labelled: pd.DataFrame, reference: pd.DataFrame, current: pd.DataFrame, bins: int) -> dict[str, float]:
    """Mean confidence, mean entropy and expected accuracy of the reference's and of the live predictions.

    Keys are `reference_confidence`, `live_confidence` and so on.
    """
    values = {}
    for name, rows in (("reference", reference), ("live", current)):
        answered = rows[rows["outcome"] == "answered"]
        values[f"{name}_confidence"] = float(answered["confidence"].mean())
        values[f"{name}_entropy"] = float(answered["entropy"].mean())
        values[f"{name}_expected_accuracy"] = expected_accuracy(labelled, answered["confidence"], bins)
    return values


def read_labels(path: Path) -> pd.DataFrame:
    """Labels from a CSV file with the columns `request` and `mood`.

    Raises:
        ValueError: A column is missing, a mood is unknown, or a request has two different moods.
    """
    labels = pd.read_csv(path, dtype=str)
    if missing := set(_COLUMNS) - set(labels.columns):
        raise ValueError(f"{path} has no column {' and '.join(sorted(missing))}; it needs {' and '.join(_COLUMNS)}")
    labels = labels[list(_COLUMNS)].drop_duplicates()
    unknown = labels.index[~labels["mood"].isin(MOODS)]
    if len(unknown):
        row = unknown[0]
        raise ValueError(
            f"{path}, line {row + 2}: {labels['mood'][row]!r} is no mood; the moods are {', '.join(MOODS)}"
        )
    twice = labels["request"][labels["request"].duplicated()]
    if len(twice):
        raise ValueError(f"{path} has two different moods for the request {twice.iloc[0]}")
    return labels.reset_index(drop=True)


def from_labels(rows: pd.DataFrame, labels: pd.DataFrame, bins: int) -> dict[str, Any] | None:
    """Metrics of the labelled predictions: those of `pipelines.evaluation.metrics`, and recall and count by mood.

    Args:
        rows: Rows of the log.
        labels: Labels by request, see `read_labels`.
        bins: Number of bins of the expected calibration error.

    Returns:
        The metrics; None if no prediction has a label.
    """
    answered = rows[rows["outcome"] == "answered"]
    joined = answered.merge(labels.rename(columns={"mood": "label"}), on="request")
    if joined.empty:
        return None
    predictions = Predictions(
        joined["label"].map(MOODS.index).to_numpy(np.int8), joined[list(PROBABILITIES)].to_numpy(np.float64)
    )
    present = joined.groupby("label")
    recall = {str(mood): float((group["mood"] == mood).mean()) for mood, group in present}
    return {**metrics.summarise(predictions, bins), "recall": recall, "labels_by_mood": present.size().to_dict()}
