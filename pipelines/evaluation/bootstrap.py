"""Paired bootstrap: confidence intervals for the difference of a metric between two models on the same images.

The same images are drawn with replacement for both models, and the metric's difference is computed on each draw; its
percentiles are the interval (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13). Paired draws
cancel what is hard for both models.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.moods import MOODS

Codes = NDArray[np.integer[Any]]
"""Indices in `MOODS`, (n,)."""
Counts = NDArray[np.integer[Any]]
"""Numbers of images: confusion matrices (..., 4, 4) by true and predicted mood, or the result of `joint_counts`."""
Metric = Callable[[Counts], NDArray[np.float64]]
"""Function from confusion matrices (..., 4, 4) to the metric of each, (...)."""


def joint_counts(moods: Codes, first: Codes, second: Codes) -> Counts:
    """Images by true mood and by the predictions of two models: three times (n,) to int64 (4, 4, 4)."""
    count = len(MOODS)
    kinds = (moods.astype(np.int64) * count + first) * count + second
    return np.bincount(kinds, minlength=count**3).reshape(count, count, count)


def metric_of_both(joint: Counts, metric: Metric) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A metric of the first and of the second model: (..., 4, 4, 4) to two arrays (...)."""
    return metric(joint.sum(axis=-1)), metric(joint.sum(axis=-2))


def resample(counts: Counts, resamples: int, random: np.random.Generator) -> Counts:
    """Draw as many images as there are, with replacement, several times: int64 (...) to (resamples, ...).

    No image needs to be drawn: images with the same true mood and the same predictions do not differ in any metric,
    and the numbers of these kinds in a draw follow a multinomial distribution.
    """
    total = int(counts.sum())
    return random.multinomial(total, counts.ravel() / total, resamples).reshape(resamples, *counts.shape)


def percentiles(values: NDArray[np.float64], confidence: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends of the interval with equal tails that holds a share `confidence` of the values: (n, ...) to two (...)."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail], axis=0)
    return low, high


def interval(
    joint: Counts, metric: Metric, confidence: float, resamples: int, random: np.random.Generator
) -> tuple[float, float]:
    """Two-sided interval of the metric's difference, second model minus first.

    Args:
        joint: Result of `joint_counts` for at least one image.
        metric: The metric.
        confidence: Share of the draws whose difference lies in the interval.
        resamples: Number of draws.
        random: Generator of the draws; the same state gives the same interval.
    """
    first, second = metric_of_both(resample(joint, resamples, random), metric)
    low, high = percentiles(second - first, confidence)
    return float(low), float(high)


def f1_of(mood: int) -> Metric:
    """F1 of one mood as a metric."""
    return lambda confusion: f1(confusion)[..., mood]


def weighted_f1(confusion: Counts) -> NDArray[np.float64]:
    """Mean F1 of the moods, weighted by their numbers of images."""
    support = confusion.sum(axis=-1)
    return _ratio((f1(confusion) * support).sum(axis=-1), support.sum(axis=-1))


def macro_f1(confusion: Counts) -> NDArray[np.float64]:
    """Mean F1 of the moods."""
    return f1(confusion).mean(axis=-1)


def macro_recall(confusion: Counts) -> NDArray[np.float64]:
    """Mean recall of the moods."""
    return recall(confusion).mean(axis=-1)


def accuracy(confusion: Counts) -> NDArray[np.float64]:
    """Share of correct predictions."""
    return _ratio(_correct(confusion).sum(axis=-1), confusion.sum(axis=(-2, -1)))


METRICS: Final[dict[str, Metric]] = {
    "weighted_f1": weighted_f1,
    "macro_f1": macro_f1,
    "accuracy": accuracy,
    "macro_recall": macro_recall,
}
"""The metrics by their names in `metrics.json`."""


def precision(confusion: Counts) -> NDArray[np.float64]:
    """Precision by mood, (..., 4); zero for a mood that is never predicted."""
    return _ratio(_correct(confusion), confusion.sum(axis=-2))


def recall(confusion: Counts) -> NDArray[np.float64]:
    """Recall by mood, (..., 4); zero for a mood without images."""
    return _ratio(_correct(confusion), confusion.sum(axis=-1))


def f1(confusion: Counts) -> NDArray[np.float64]:
    """F1 by mood, (..., 4); zero for a mood that is neither true nor predicted anywhere."""
    return _ratio(2 * _correct(confusion), confusion.sum(axis=-1) + confusion.sum(axis=-2))


def _correct(confusion: Counts) -> Counts:
    """Correct predictions by mood, (..., 4)."""
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> NDArray[np.float64]:
    """The ratio; zero if the denominator is zero."""
    return numerator / np.maximum(denominator, 1)
