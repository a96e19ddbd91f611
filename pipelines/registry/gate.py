"""The gate: the rule by which a challenger replaces the champion.

The challenger is the best candidate inside the bounds on its costs: bytes and multiply-adds, which are counted, and the
latency in units of a fixed network's, so that a slow or busy machine shuts nobody out. It is promoted if it is better
than the champion on the same validation images, and worse on none of their parts:

- Better: the two-sided interval of the metric's difference, from a paired bootstrap, lies above
  `gate.min_improvement`. At 95 % a challenger of equal quality passes once in forty.
- Worse: the metric under a corruption or for a mood is lower by more than its margin, and the interval of that
  difference lies below zero. With the first condition alone, chance would decide on few images (of 21 photos of a
  mood, one is about 5 points). With the second alone, a certain but irrelevant loss would count. Small groups are
  guarded as closely as their numbers allow; the intervals in the evidence show how closely that is.

Moods are compared by F1, on FER2013's images and on photos alike. A challenger that names a mood less often and is
right more often is not worse at it, although its recall is lower. By recall, every challenger that finds more of the
rare moods would be refused, because it can only find them among what was taken for the frequent ones.

The intervals cover chance in the images. They do not cover the choice among several candidates, which favours a lucky
one. Pure: the module knows metrics and predictions, but no files, registries or models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipelines.evaluation import bootstrap
from pipelines.evaluation.bootstrap import METRICS, Counts, Metric, f1_of, joint_counts, weighted_f1
from pipelines.evaluation.metrics import confusion
from pipelines.evaluation.predictions import Predictions, ValidationPredictions
from pipelines.params import GateParams
from service.moods import MOODS


@dataclass(frozen=True)
class GateEntry:
    """What the gate knows of a model, besides its predictions.

    Attributes:
        name: Name of the model, for messages.
        digest: Digest that is the same for the same model.
        score: Deciding metric, measured on the same images for all; higher is better.
        size_bytes: Size of the served graph.
        multiply_adds: Multiply-adds of the served graph for one face; see `pipelines.evaluation.multiply_adds`.
        latency_ratio: Time for one face in units of the fixed network's; see `pipelines.evaluation.latency`.
        latency_ms: Median time for one face on one thread, in milliseconds. For information: no bound is on it.
    """

    name: str
    digest: str
    score: float
    size_bytes: int
    multiply_adds: int
    latency_ratio: float
    latency_ms: float


@dataclass(frozen=True)
class Difference:
    """A metric of two models on the same images.

    Attributes:
        subject: The images: `validation`, `mood negative`, `corruption dark`, `photos`, `photos: mood other`.
        metric: The metric: `weighted_f1` or `f1`.
        images: Number of images; for a mood those that show it.
        champion: The champion's value.
        challenger: The challenger's value.
        difference: Challenger minus champion.
        low: Lower end of the difference's interval.
        high: Upper end of the interval.
        margin: How much better the challenger must be, or how much worse it may be.
        holds: Whether the condition holds.
    """

    subject: str
    metric: str
    images: int
    champion: float
    challenger: float
    difference: float
    low: float
    high: float
    margin: float
    holds: bool


@dataclass(frozen=True)
class Evidence:
    """The evidence between challenger and champion.

    Attributes:
        confidence: Confidence level of the two-sided intervals.
        resamples: Resamples of the paired bootstrap.
        metric: The deciding metric, on which the challenger must be better.
        parts: Moods, corruptions, photos and their moods, on none of which it may be worse.
    """

    confidence: float
    resamples: int
    metric: Difference
    parts: tuple[Difference, ...]


@dataclass(frozen=True)
class Decision:
    """The gate's decision and its reason.

    Attributes:
        promoted: Whether the challenger becomes the champion.
        challenger: The best candidate inside the bounds; None if there is none.
        champion: The champion before; None if there was none.
        out_of_bounds: The bounds that candidates break, by name of the candidate.
        evidence: The comparison; None if there were no two models to compare.
        reason: The decision in one sentence.
    """

    promoted: bool
    challenger: GateEntry | None
    champion: GateEntry | None
    out_of_bounds: dict[str, list[str]]
    evidence: Evidence | None
    reason: str


def score(predictions: ValidationPredictions, params: GateParams) -> float:
    """The deciding metric of a model's predictions, rounded as in `metrics.json`."""
    return float(f"{float(METRICS[_metric(params)](confusion(predictions.ferplus))):.5g}")


def _joint(champion: Predictions, challenger: Predictions) -> Counts:
    """Numbers of images by true mood, the champion's and the challenger's prediction; see `joint_counts`."""
    return joint_counts(challenger.moods, champion.predicted, challenger.predicted)


def _metric(params: GateParams) -> str:
    """The deciding metric's name in `METRICS`."""
    return params.metric.removeprefix("validation.ferplus.")


def broken_bounds(candidate: GateEntry, params: GateParams) -> list[str]:
    """The bounds that a candidate breaks, in words; empty if it may become champion."""
    broken = []
    if candidate.size_bytes > params.max_bytes:
        broken.append(f"{candidate.size_bytes:,} bytes are more than {params.max_bytes:,}")
    if candidate.multiply_adds > params.max_multiply_adds:
        broken.append(f"{candidate.multiply_adds:,} multiply-adds are more than {params.max_multiply_adds:,}")
    if candidate.latency_ratio > params.max_latency_ratio:
        broken.append(
            f"a face takes {candidate.latency_ratio:.3g} times as long as the fixed network, more than "
            f"{params.max_latency_ratio:g}"
        )
    return broken


def best_inside(candidates: Sequence[GateEntry], params: GateParams) -> GateEntry | None:
    """The candidate with the best score inside the bounds, the smaller one among equals; None if none is inside."""
    inside = [candidate for candidate in candidates if not broken_bounds(candidate, params)]
    return max(inside, key=lambda one: (one.score, -one.size_bytes), default=None)


def decide(
    candidates: Sequence[GateEntry],
    champion: GateEntry | None,
    params: GateParams,
    predictions: Mapping[str, ValidationPredictions],
) -> Decision:
    """Decide whether the best candidate inside the bounds replaces the champion.

    Args:
        candidates: At least one candidate.
        champion: The champion, with a score measured on the candidates' images; None if there is none.
        params: The rule.
        predictions: Predictions of the best candidate inside the bounds and of the champion, by digest. They are not
            needed if both are the same model or one of them is missing.

    Raises:
        KeyError: predictions that are needed are missing.
        ValueError: the predictions are for different images.
    """
    broken = {candidate.name: broken_bounds(candidate, params) for candidate in candidates}
    out_of_bounds = {name: bounds for name, bounds in broken.items() if bounds}
    challenger = best_inside(candidates, params)

    def decision(promoted: bool, reason: str, evidence: Evidence | None = None) -> Decision:
        return Decision(promoted, challenger, champion, out_of_bounds, evidence, reason)

    if challenger is None:
        return decision(False, "No candidate is inside the bounds of bytes, multiply-adds and latency.")
    score = f"{params.metric} {challenger.score:.4f}"
    if champion is None:
        return decision(True, f"{challenger.name} is the first champion: {score}, inside the bounds.")
    if challenger.digest == champion.digest:
        return decision(False, f"The champion stays: the best candidate, {challenger.name}, is the champion itself.")

    evidence = compare(predictions[challenger.digest], predictions[champion.digest], params)
    metric = evidence.metric
    score += (
        f" against {champion.score:.4f}, a difference of {metric.difference:+.4f} "
        f"({evidence.confidence:.0%} interval {metric.low:+.4f} to {metric.high:+.4f})"
    )
    if not metric.holds:
        reason = f"The champion stays: {challenger.name} has {score}; the interval must lie above {metric.margin:g}."
        return decision(False, reason, evidence)
    losses = [
        f"{part.subject} ({part.metric} {part.challenger:.4f} against {part.champion:.4f})"
        for part in evidence.parts
        if not part.holds
    ]
    if losses:
        reason = f"The champion stays: {challenger.name} has {score}, but is worse on {', '.join(losses)}."
        return decision(False, reason, evidence)
    return decision(
        True,
        f"{challenger.name} replaces the champion, {champion.name}: {score}; it is inside the bounds and, "
        "under every corruption and for every mood, not worse by more than the margin.",
        evidence,
    )


class _Part(NamedTuple):
    """One comparison: `subject`, `metric`, `images` and `margin` as in `Difference`, the metric's function `measure`,
    and `joint`, the result of `bootstrap.joint_counts`."""

    subject: str
    metric: str
    measure: Metric
    joint: Counts
    images: int
    margin: float


def compare(challenger: ValidationPredictions, champion: ValidationPredictions, params: GateParams) -> Evidence:
    """The evidence between two models.

    Args:
        challenger: Its predictions.
        champion: Its predictions for the same images, clean and under the same corruptions.
        params: The rule.

    Raises:
        ValueError: the predictions are for different images or corruptions.
    """
    _require_same_images(challenger, champion)
    faces = _joint(champion.ferplus, challenger.ferplus)
    metric = _metric(params)
    random = np.random.default_rng(params.seed)

    overall = _Part("validation", metric, METRICS[metric], faces, int(faces.sum()), params.min_improvement)
    parts = [
        *_moods("mood", faces, params.max_mood_loss),
        *_corruptions(challenger, champion, params),
        *_photos(challenger, champion, params),
    ]
    return Evidence(
        params.confidence,
        params.resamples,
        _difference(overall, params, random, must_be_better=True),
        tuple(_difference(part, params, random, must_be_better=False) for part in parts),
    )


def _difference(part: _Part, params: GateParams, random: np.random.Generator, *, must_be_better: bool) -> Difference:
    """Measure one part; `random` is the generator of the resamples."""
    champion, challenger = (float(value) for value in bootstrap.metric_of_both(part.joint, part.measure))
    low, high = bootstrap.interval(part.joint, part.measure, params.confidence, params.resamples, random)
    gained = challenger - champion
    holds = low > part.margin if must_be_better else gained >= -part.margin or high >= 0
    return Difference(
        subject=part.subject,
        metric=part.metric,
        images=part.images,
        champion=round(champion, 5),
        challenger=round(challenger, 5),
        difference=round(gained, 5),
        low=round(low, 5),
        high=round(high, 5),
        margin=part.margin,
        holds=holds,
    )


def _require_same_images(challenger: ValidationPredictions, champion: ValidationPredictions) -> None:
    """Raise a ValueError if two models did not predict the same images."""
    same = (
        np.array_equal(challenger.ferplus.moods, champion.ferplus.moods)
        and np.array_equal(challenger.photos.moods, champion.photos.moods)
        and set(challenger.corrupted) == set(champion.corrupted)
    )
    if not same:
        raise ValueError(
            "challenger and champion did not predict the same validation images: measure one of them again"
        )


def _moods(prefix: str, joint: Counts, margin: float, least: int = 0) -> Iterator[_Part]:
    """One part for each mood with enough images."""
    for code, (mood, images) in enumerate(zip(MOODS, joint.sum(axis=(1, 2)).tolist(), strict=True)):
        if images >= least:
            yield _Part(f"{prefix} {mood}", "f1", f1_of(code), joint, images, margin)


def _corruptions(
    challenger: ValidationPredictions, champion: ValidationPredictions, params: GateParams
) -> Iterator[_Part]:
    """One part for each corruption."""
    for name, predicted in challenger.corrupted.items():
        joint = joint_counts(challenger.ferplus.moods, champion.corrupted[name], predicted)
        yield _Part(f"corruption {name}", "weighted_f1", weighted_f1, joint, int(joint.sum()), params.max_slice_loss)


def _photos(challenger: ValidationPredictions, champion: ValidationPredictions, params: GateParams) -> Iterator[_Part]:
    """One part for the photos and one for each of their moods with enough photos; none if there are no photos."""
    count = len(challenger.photos)
    if count:
        joint = _joint(champion.photos, challenger.photos)
        yield _Part("photos", "weighted_f1", weighted_f1, joint, count, params.max_slice_loss)
        yield from _moods("photos: mood", joint, params.max_mood_loss, params.min_mood_photos)
