"""95 % intervals for metrics of labelled live predictions, of which several may show the same person.

Several pictures of a person say less than as many pictures of different people. If the persons are known, they are
what is drawn and counted, not the rows.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm, t
from statsmodels.stats.proportion import proportion_confint

from pipelines.evaluation.bootstrap import Counts, Metric, percentiles, resample
from pipelines.evaluation.metrics import INTERVAL_LEVEL
from service.moods import MOODS

Interval = tuple[float, float]
"""Lower and upper end."""

_TAIL: Final = (1 - INTERVAL_LEVEL) / 2
_MOST_LABELS: Final = 1 << 50  # bound of a search by halves


@dataclass(frozen=True)
class Sample:
    """Labelled predictions and the people in them.

    Attributes:
        moods: Index of the true mood in `MOODS`, (n,), n > 0.
        predicted: Index of the predicted mood, (n,).
        persons: Number of the person, from 0 without gaps, (n,); None if no person is known, which makes each
            prediction a person.
    """

    moods: NDArray[np.intp]
    predicted: NDArray[np.intp]
    persons: NDArray[np.intp] | None

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the prediction is the label, (n,)."""
        return self.moods == self.predicted

    @property
    def people(self) -> int:
        """Number of persons."""
        return len(self.moods) if self.persons is None else int(self.persons.max()) + 1

    @property
    def confusion(self) -> Counts:
        """Confusion matrix, int64 (4, 4), by true and by predicted mood."""
        return self._confusions(np.zeros_like(self.moods), 1)[0]

    def draws(self, resamples: int, random: np.random.Generator) -> Counts:
        """Confusion matrices of a bootstrap that draws persons, int64 (resamples, 4, 4)."""
        if self.persons is None:
            return resample(self.confusion, resamples, random)
        # People with the same confusion matrix are drawn as one kind, of which there are few.
        kinds, counts = np.unique(self._confusions(self.persons, self.people), axis=0, return_counts=True)
        people = self.people
        drawn = (random.multinomial(people, counts / people) for _ in range(resamples))
        return np.stack([np.tensordot(weights, kinds, axes=1) for weights in drawn])

    def effective_share(self) -> float:
        """Number of independent predictions that would tell the accuracy as well, divided by the number of predictions.

        The variance of a share of clusters by linearisation, and the correction for few clusters, are those of Korn and
        Graubard, "Confidence intervals for proportions with small expected number of positive counts estimated from
        survey data", Survey Methodology 24, 1998. If all predictions are right, or all are wrong, nothing shows how
        alike a person's are; then each person counts as one.
        """
        count, people = len(self.moods), self.people
        if self.persons is None or people == count:
            return 1.0
        share = self.right.mean()
        if people == 1 or share in (0, 1):
            return people / count
        excess = np.bincount(self.persons, self.right - share)
        variance = people / (people - 1) * float((excess**2).sum()) / count**2
        effect = max(1.0, variance / (share * (1 - share) / count))
        few = (norm.ppf(_TAIL) / t.ppf(_TAIL, people - 1)) ** 2
        return float(few / effect)

    def _confusions(self, groups: NDArray[np.intp], count: int) -> Counts:
        """Confusion matrix of each group of predictions, int64 (count, 4, 4)."""
        moods = len(MOODS)
        kinds = (groups * moods + self.moods) * moods + self.predicted
        return np.bincount(kinds, minlength=count * moods**2).reshape(count, moods, moods)


def wilson(share: float, size: float) -> Interval:
    """Interval of a share by Wilson, 1927; `size` is the effective number of observations, > 0."""
    low, high = proportion_confint(share * size, size, alpha=1 - INTERVAL_LEVEL, method="wilson")
    return float(low), float(high)


def named(interval: Interval | None) -> dict[str, float] | None:
    """An interval as reports have it."""
    return None if interval is None else {"low": interval[0], "high": interval[1]}


def share_with_interval(right: pd.Series, effective_share: float) -> dict[str, Any]:
    """Accuracy of some predictions, by their number and with its interval.

    Args:
        right: Whether each prediction is right.
        effective_share: `Sample.effective_share` of all labelled predictions, which stands for that of these.

    Returns:
        `images`, `accuracy` and `accuracy_interval`; without predictions the last two are None.
    """
    if right.empty:
        return {"images": 0, "accuracy": None, "accuracy_interval": None}
    share = float(right.mean())
    interval = wilson(share, max(1.0, len(right) * effective_share))
    return {"images": len(right), "accuracy": share, "accuracy_interval": named(interval)}


def of_metric(metric: Metric, draws: Counts, people: int) -> Interval | None:
    """Interval of a metric from the draws of `Sample.draws`; None if they do not differ.

    The percentiles are those of Hesterberg's expanded percentile interval ("What Teachers Should Know About the
    Bootstrap", The American Statistician 69, 2015, section 5.3), since plain ones are too narrow for few persons.
    """
    values = metric(draws)
    if people < 2 or np.ptp(values) == 0:
        return None
    tail = norm.cdf(sqrt(people / (people - 1)) * t.ppf(_TAIL, people - 1))
    low, high = percentiles(values, 1 - 2 * float(tail))
    return float(low), float(high)


def of_difference(first: float, of_first: Interval, second: float, of_second: Interval) -> Interval:
    """Interval of `first - second` of independent samples from their intervals: the method of variance estimates
    recovery (Zou and Donner, "Construction of confidence limits about effect measures", Statistics in Medicine 27,
    2008), for shares Newcombe's."""
    difference = first - second
    low = difference - sqrt((first - of_first[0]) ** 2 + (of_second[1] - second) ** 2)
    return low, difference + sqrt((of_first[1] - first) ** 2 + (second - of_second[0]) ** 2)


def labels_needed(share: float, size: int, effective_share: float, margin: float) -> int:
    """Further labels until the Wilson interval of a share reaches no further than a margin to either side.

    They are counted for a share nearer to one half, the centre of today's interval: three right of three do not show
    that all will be right.

    Args:
        share: Share so far.
        size: Number of labels so far.
        effective_share: See `Sample.effective_share`; further labels are taken to be as alike.
        margin: Wanted half-width.
    """

    def half_width(of: float, count: float) -> float:
        low, high = wilson(of, count)
        return (high - low) / 2

    if half_width(share, size * effective_share) <= margin:
        return 0
    centre = sum(wilson(share, size * effective_share)) / 2
    counts = range(1, _MOST_LABELS)
    independent = counts[bisect_left(counts, True, key=lambda count: half_width(centre, count) <= margin)]
    return max(1, ceil(independent / effective_share) - size)
