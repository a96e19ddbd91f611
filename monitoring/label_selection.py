"""Which predictions were labelled. It is rarely a random sample, and the accuracy depends on it."""

from __future__ import annotations

from math import sqrt
from typing import Any, Final

import numpy as np
import pandas as pd

from monitoring import drift_tests, effect_sizes, intervals
from monitoring.intervals import Interval
from monitoring.log import Log
from monitoring.params import FeedbackParams, MonitoringParams
from pipelines.evaluation import metrics
from service.moods import MOODS

COLUMNS: Final = ("confidence", "brightness", "face_share", "sharpness")
"""Numeric columns in which labelled predictions are compared with the others."""


def describe(window: Log, joined: pd.DataFrame, effective_share: float, params: MonitoringParams) -> dict[str, Any]:
    """Which predictions were labelled, and what accuracy that means for all.

    Args:
        window: Rows of the log, or a sample of them.
        joined: Labelled rows with `label`.
        effective_share: See `monitoring.intervals.Sample`.
        params: Limits of shifts, and bands of confidence.

    Returns:
        See `monitoring.label_metrics.measure`.
    """
    answered = window.rows[window.rows["outcome"] == "answered"]
    predictions = max(window.totals.answered, len(joined))
    others = answered[~answered["request"].isin(joined["request"])]
    weighted, interval = _weighted_accuracy(answered, joined, effective_share, params.feedback)
    return {
        "predictions": predictions,
        "share": len(joined) / predictions,
        "differences": [] if others.empty else _differences(joined, others, params),
        "weighted_accuracy": weighted,
        "weighted_accuracy_interval": intervals.named(interval),
    }


def _differences(joined: pd.DataFrame, others: pd.DataFrame, params: MonitoringParams) -> list[dict[str, Any]]:
    """Columns in which labelled predictions differ from the others, more than by chance and enough to matter.

    The tests of `monitoring.drift_tests`, to which the frames of a person count as about one; the false-alarm rate of
    5 % is shared.
    """
    joined, others = (part.sort_values("time").set_index(drift_tests.SESSION) for part in (joined, others))
    level = (1 - metrics.INTERVAL_LEVEL) / (len(COLUMNS) + 1)
    table: list[dict[str, Any]] = []
    for column in COLUMNS:
        own, rest = joined[column].dropna(), others[column].dropna()
        if own.empty or rest.empty:
            continue
        p_value = drift_tests.mann_whitney(rest, own)
        shift = effect_sizes.shift(rest, own)
        if p_value <= level and abs(shift) >= params.numerical_shift:
            table.append(
                {
                    "column": column,
                    "labelled": float(own.median()),
                    "others": float(rest.median()),
                    "shift": shift,
                    "p_value": p_value,
                }
            )
    if joined.empty or others.empty:
        return table
    shift = effect_sizes.shift(others["mood"], joined["mood"])
    p_value = drift_tests.contingency(others["mood"], joined["mood"], level)
    if p_value <= level and shift >= params.categorical_shift:
        labelled, rest = (
            {mood: shares.get(mood, 0.0) for mood in MOODS}
            for shares in (effect_sizes.shares(part["mood"]) for part in (joined, others))
        )
        table.append({"column": "mood", "labelled": labelled, "others": rest, "shift": shift, "p_value": p_value})
    return table


def _weighted_accuracy(
    answered: pd.DataFrame, joined: pd.DataFrame, effective_share: float, params: FeedbackParams
) -> tuple[float | None, Interval | None]:
    """Accuracy of all answered predictions by post-stratification over the bands of confidence.

    Its interval comes from those of the bands as in `monitoring.intervals.of_difference`. None if a band with
    predictions has no label.
    """
    weights = pd.Series(np.digitize(answered["confidence"], params.confidence_bands)).value_counts(normalize=True)
    right = (joined["mood"] == joined["label"]).groupby(np.digitize(joined["confidence"], params.confidence_bands))
    shares, counts = right.mean(), right.size()
    if not weights.index.isin(shares.index).all():
        return None, None
    accuracy = float((weights * shares).sum())
    below = above = 0.0
    for band, weight in weights.items():
        low, high = intervals.wilson(shares[band], max(1.0, counts[band] * effective_share))
        below += (weight * (shares[band] - low)) ** 2
        above += (weight * (high - shares[band])) ** 2
    return accuracy, (accuracy - sqrt(below), accuracy + sqrt(above))
