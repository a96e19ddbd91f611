"""What live predictions are probably worth without labels, and what they are worth with those that came late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.evaluation import metrics
from pipelines.evaluation.metrics import Predictions
from service.moods import MOODS
from service.observation import PROBABILITIES

_COLUMNS = ("request", "mood")


def expected_accuracy(labelled: pd.DataFrame, confidences: pd.Series, bins: int) -> float:
    """How often answers of these confidences are right, if the model is as well calibrated as on labelled pictures.

    Args:
        labelled: rows with `confidence`, `mood` and `label`.
        confidences: of the answers to be judged.
        bins: of equal numbers of labelled rows.
    """
    edges = np.unique(np.quantile(labelled["confidence"], np.linspace(0, 1, bins + 1)[1:-1]))
    right = (labelled["mood"] == labelled["label"]).groupby(np.digitize(labelled["confidence"], edges)).mean()
    accuracy = right.reindex(range(len(edges) + 1)).interpolate(limit_direction="both")
    return float(accuracy.to_numpy()[np.digitize(confidences, edges)].mean())


def proxies(labelled: pd.DataFrame, reference: pd.DataFrame, current: pd.DataFrame, bins: int) -> dict[str, float]:
    """Confidence, entropy and expected accuracy of live answers and of the reference's.

    Labels of the reference's own kind of picture are asked first: those of photos for photos.
    """
    figures = {}
    for name, rows in (("reference", reference), ("live", current)):
        answered = rows[rows["outcome"] == "answered"]
        figures[f"{name}_confidence"] = float(answered["confidence"].mean())
        figures[f"{name}_entropy"] = float(answered["entropy"].mean())
        figures[f"{name}_expected_accuracy"] = expected_accuracy(labelled, answered["confidence"], bins)
    return figures


def read_labels(path: Path) -> pd.DataFrame:
    """Labels by request, from a CSV file with the columns `request` and `mood`.

    Raises:
        ValueError: a column is missing, a mood is none of the vocabulary, or a request has two labels that differ.
    """
    labels = pd.read_csv(path, dtype=str)
    if missing := set(_COLUMNS) - set(labels.columns):
        raise ValueError(f"{path} has no column {' and '.join(sorted(missing))}; it needs {' and '.join(_COLUMNS)}")
    labels = labels[list(_COLUMNS)].drop_duplicates()
    unknown = labels.index[~labels["mood"].isin(MOODS)]
    if len(unknown):
        row = unknown[0]
        raise ValueError(f"{path}, line {row + 2}: {labels['mood'][row]!r} is no mood; moods are {', '.join(MOODS)}")
    twice = labels["request"][labels["request"].duplicated()]
    if len(twice):
        raise ValueError(f"{path} gives the request {twice.iloc[0]} two different moods")
    return labels.reset_index(drop=True)


def from_labels(rows: pd.DataFrame, labels: pd.DataFrame, bins: int) -> dict[str, Any] | None:
    """Figures of the answers that have a label by now: those of `pipelines.evaluation.metrics`, and each mood's recall.

    Args:
        rows: of the log.
        labels: see `read_labels`.
        bins: of the expected calibration error.

    Returns:
        None where no answer has a label.
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
