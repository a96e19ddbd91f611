"""Intervals of figures of labelled predictions, and how many labels they take."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.proportion import confint_proportions_2indep

from monitoring import intervals
from monitoring.intervals import Sample
from pipelines.evaluation import bootstrap


def sample(right: np.ndarray, persons: np.ndarray | None = None) -> Sample:
    """Predictions of one mood, right or not."""
    moods = np.zeros(len(right), np.intp)
    return Sample(moods, (~right).astype(np.intp), persons)


def test_the_interval_covers_the_accuracy_of_other_people_also_if_each_has_many_pictures() -> None:
    random, people, frames, mean = np.random.default_rng(1), 15, 20, 0.8
    covered, naive = 0, 0
    for _ in range(300):
        of_person = random.beta(4 * mean, 4 * (1 - mean), people)
        right = random.random((people, frames)) < of_person[:, None]
        one = sample(right.ravel(), np.repeat(np.arange(people), frames))
        low, high = intervals.wilson(right.mean(), right.size * one.effective_share())
        covered += low <= mean <= high
        low, high = intervals.wilson(right.mean(), right.size)
        naive += low <= mean <= high
    assert covered / 300 >= 0.92
    assert naive / 300 < 0.75


def test_the_interval_of_a_metric_covers_it_also_for_few_people() -> None:
    random, people, frames, mean = np.random.default_rng(2), 8, 10, 0.75
    covered = 0
    for _ in range(200):
        right = random.random((people, frames)) < random.beta(6, 2, people)[:, None]
        one = sample(right.ravel(), np.repeat(np.arange(people), frames))
        found = intervals.of_metric(bootstrap.accuracy, one.draws(300, random), people)
        assert found is not None
        covered += found[0] <= mean <= found[1]
    assert covered / 200 >= 0.88


def test_pictures_of_unknown_people_count_one_each() -> None:
    right = np.arange(50) % 5 > 0
    assert sample(right).effective_share() == 1
    assert sample(right, np.arange(50)).effective_share() == 1
    assert sample(right).people == 50


@pytest.mark.parametrize("right", [np.ones(60, bool), np.zeros(60, bool)])
def test_if_all_are_right_or_all_wrong_each_person_counts_once(right: np.ndarray) -> None:
    one = sample(right, np.repeat(np.arange(3), 20))
    assert one.effective_share() * 60 == pytest.approx(3)
    assert intervals.of_metric(bootstrap.weighted_f1, one.draws(100, np.random.default_rng(0)), 3) is None


def test_one_person_tells_nothing_about_others() -> None:
    one = sample(np.arange(200) % 4 > 0, np.zeros(200, np.intp))
    low, high = intervals.wilson(0.75, 200 * one.effective_share())
    assert high - low > 0.7
    assert intervals.of_metric(bootstrap.accuracy, one.draws(100, np.random.default_rng(0)), 1) is None


def test_the_interval_of_a_difference_is_newcombes() -> None:
    shares, sizes = (56 / 70, 48 / 80), (70, 80)
    low, high = intervals.of_difference(
        shares[0], intervals.wilson(shares[0], sizes[0]), shares[1], intervals.wilson(shares[1], sizes[1])
    )
    assert (low, high) == pytest.approx(confint_proportions_2indep(56, 70, 48, 80, method="newcomb"), abs=1e-6)


@pytest.mark.parametrize(("right", "size", "effective"), [(3, 3, 1.0), (30, 40, 1.0), (85, 100, 1.0), (85, 100, 0.4)])
def test_as_many_labels_as_are_said_to_be_needed_give_the_wanted_margin(
    right: int, size: int, effective: float
) -> None:
    share = right / size
    more = intervals.labels_needed(share, size, effective, 0.05)
    assert more > 0
    centre = sum(intervals.wilson(share, size * effective)) / 2
    low, high = intervals.wilson(centre, (size + more) * effective)
    assert (high - low) / 2 <= 0.05
    low, high = intervals.wilson(centre, (size + more - 3) * effective)
    assert (high - low) / 2 > 0.0495


def test_no_more_labels_are_needed_if_the_margin_is_reached() -> None:
    assert intervals.labels_needed(0.8, 400, 1.0, 0.05) == 0
    assert intervals.labels_needed(0.8, 400, 0.3, 0.05) > 0
