"""Quality of live predictions, estimated from their confidence. `monitoring.label_metrics` measures it."""

from __future__ import annotations

import numpy as np
import pandas as pd


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
