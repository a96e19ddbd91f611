"""Two models on the same images: how far apart a figure of theirs is, and how much of that may be chance.

Images are drawn with replacement, the same for both models, and the figure's difference is taken on each draw; its
percentiles are the interval (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13). That the
draws are paired keeps what is hard for both out of the difference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.moods import MOODS

Codes = NDArray[np.integer[Any]]
"""Indices of moods, (n,)."""
Counts = NDArray[np.integer[Any]]
"""Numbers of images: confusion matrices (..., 4, 4), by true and answered mood, or what `joint_counts` gives."""
Figure = Callable[[Counts], NDArray[np.float64]]
"""From confusion matrices (..., 4, 4) to a figure of each, (...)."""


def joint_counts(moods: Codes, first: Codes, second: Codes) -> Counts:
    """Images by true mood, the first model's answer and the second's: three times (n,) to int64 (4, 4, 4)."""
    count = len(MOODS)
    kinds = (moods.astype(np.int64) * count + first) * count + second
    return np.bincount(kinds, minlength=count**3).reshape(count, count, count)


def figures(joint: Counts, figure: Figure) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A figure of the first and of the second model: from (..., 4, 4, 4) to two of (...)."""
    return figure(joint.sum(axis=-1)), figure(joint.sum(axis=-2))


def resample(joint: Counts, count: int, random: np.random.Generator) -> Counts:
    """Draw as many images as there are, with replacement, several times: int64 (4, 4, 4) to (count, 4, 4, 4).

    Images with the same true mood and the same two answers are alike to every figure, and the numbers of these 64
    kinds in a draw follow a multinomial distribution.
    """
    total = int(joint.sum())
    return random.multinomial(total, joint.ravel() / total, count).reshape(count, *joint.shape)


def interval(
    joint: Counts, figure: Figure, confidence: float, resamples: int, random: np.random.Generator
) -> tuple[float, float]:
    """The two-sided interval of the second model's figure minus the first's.

    Args:
        joint: of at least one image.
        figure: the figure.
        confidence: share of the draws whose difference is inside.
        resamples: number of draws.
        random: source of the draws; the same state gives the same interval.
    """
    first, second = figures(resample(joint, resamples, random), figure)
    tail = (1 - confidence) / 2
    low, high = np.quantile(second - first, [tail, 1 - tail])
    return float(low), float(high)


def f1_of(mood: int) -> Figure:
    """The figure that is one mood's F1."""
    return lambda confusion: _f1(confusion)[..., mood]


def recall_of(mood: int) -> Figure:
    """The figure that is one mood's recall."""
    return lambda confusion: _recall(confusion)[..., mood]


def weighted_f1(confusion: Counts) -> NDArray[np.float64]:
    """Mean F1 of the moods, weighted by how many images show them."""
    shown = confusion.sum(axis=-1)
    return _ratio((_f1(confusion) * shown).sum(axis=-1), shown.sum(axis=-1))


def macro_f1(confusion: Counts) -> NDArray[np.float64]:
    """Mean F1 of the moods."""
    return _f1(confusion).mean(axis=-1)


def macro_recall(confusion: Counts) -> NDArray[np.float64]:
    """Mean recall of the moods."""
    return _recall(confusion).mean(axis=-1)


def accuracy(confusion: Counts) -> NDArray[np.float64]:
    """Share of right answers."""
    return _ratio(_right(confusion).sum(axis=-1), confusion.sum(axis=(-2, -1)))


FIGURES: Final[dict[str, Figure]] = {
    "weighted_f1": weighted_f1,
    "macro_f1": macro_f1,
    "accuracy": accuracy,
    "macro_recall": macro_recall,
}
"""The figures by their names in `metrics.json`."""


def _right(confusion: Counts) -> Counts:
    """Right answers by mood, (..., 4)."""
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _f1(confusion: Counts) -> NDArray[np.float64]:
    """F1 by mood, (..., 4); zero for one that is neither shown nor answered."""
    return _ratio(2 * _right(confusion), confusion.sum(axis=-1) + confusion.sum(axis=-2))


def _recall(confusion: Counts) -> NDArray[np.float64]:
    """Recall by mood, (..., 4); zero for one that is not shown."""
    return _ratio(_right(confusion), confusion.sum(axis=-1))


def _ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> NDArray[np.float64]:
    """Their ratio, zero where the denominator is."""
    return numerator / np.maximum(denominator, 1)
