"""The gate: the rule by which a challenger takes the champion's place.

The challenger is the best candidate inside the bounds of size and latency. It is promoted where it is better than the
champion on the same validation images, and nowhere worse:

- better: the two-sided interval of the difference of the metric, by a paired bootstrap, lies above
  `gate.min_improvement`. At 95 % a challenger of equal quality gets through once in forty.
- worse: the figure of a slice or a mood is lower by more than its margin, and the interval of that difference lies
  below zero. By the first alone chance would decide where images are few (of 21 photos of a mood, one is some 5
  points); by the second alone a loss that is certain and does not matter would count. Small groups are guarded as
  closely as their numbers allow, and the intervals in the evidence say how closely that is.

A mood is compared by F1, on FER2013's images and on photos alike: a challenger that names a mood less often, and is
right more often, is not worse at it, though its recall is lower. By recall every challenger that finds more of the
scarce moods would be refused, for it can find them only among what was taken for the frequent ones.

The intervals know of the chance in the images, not of the choice among several candidates, which favours a lucky one.

Pure: it knows figures and answers, not files, registries or models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pipelines.evaluation import bootstrap
from pipelines.evaluation.bootstrap import METRICS, Counts, Metric, f1_of, joint_counts, weighted_f1
from pipelines.evaluation.predictions import Predictions, ValidationPredictions
from pipelines.params import GateParams
from service.moods import MOODS


@dataclass(frozen=True)
class Contender:
    """What the gate knows of a model, besides its answers.

    Attributes:
        name: for messages; the architecture.
        digest: the same for the same model.
        score: the figure that decides, higher is better, measured on the same images for all.
        size_bytes: of the served graph.
        latency_ms: median time for one face on one thread.
    """

    name: str
    digest: str
    score: float
    size_bytes: int
    latency_ms: float


@dataclass(frozen=True)
class Difference:
    """A figure of two models on the same images.

    Attributes:
        subject: what the images are: `validation`, `mood negative`, `slice dark`, `photos`, `photos: mood other`.
        figure: what was measured on them: `weighted_f1`, `f1`.
        images: how many; for a mood's figure those that show it.
        champion: the champion's figure.
        challenger: the challenger's.
        difference: challenger minus champion.
        low: lower end of the difference's interval.
        high: upper end.
        margin: by how much the challenger must be better or may be worse.
        holds: whether it is, or is not.
    """

    subject: str
    figure: str
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
    """What the gate found between challenger and champion.

    Attributes:
        confidence: of the intervals, two-sided.
        resamples: of the paired bootstrap.
        metric: the figure that decides, on which the challenger must be better.
        parts: moods, slices, photos and their moods, on none of which it may be worse.
    """

    confidence: float
    resamples: int
    metric: Difference
    parts: tuple[Difference, ...]


@dataclass(frozen=True)
class Decision:
    """What the gate decided, and why.

    Attributes:
        promoted: whether the challenger becomes the champion.
        challenger: the best candidate inside the bounds; None where there is none.
        champion: who was champion before; None where nobody was.
        out_of_bounds: why a candidate did not become the challenger, by name; only those that broke a bound.
        evidence: None where there were no two models to compare.
        reason: the decision in one sentence.
    """

    promoted: bool
    challenger: Contender | None
    champion: Contender | None
    out_of_bounds: dict[str, list[str]]
    evidence: Evidence | None
    reason: str


def figure(metrics: Mapping[str, Any], name: str) -> float:
    """A figure out of nested metrics by its dotted name: `validation.ferplus.weighted_f1`.

    Raises:
        KeyError: the metrics hold no such figure.
    """
    value: Any = metrics
    for key in name.split("."):
        if not isinstance(value, Mapping) or key not in value:
            raise KeyError(f"the metrics hold no figure {name!r} (gate.metric in params.yaml)")
        value = value[key]
    return float(value)


def contender(name: str, digest: str, metrics: Mapping[str, Any], params: GateParams) -> Contender:
    """What the gate knows of a model, out of its metrics.

    Raises:
        KeyError: the metrics lack a figure that the rule needs.
    """
    return Contender(
        name,
        digest,
        figure(metrics, params.metric),
        int(figure(metrics, "size_bytes")),
        figure(metrics, "latency_ms"),
    )


def score(answers: ValidationPredictions, params: GateParams) -> float:
    """The figure that decides, out of a model's answers; as `evaluate` has it in its metrics."""
    first, _ = bootstrap.metric_of_both(_joint(answers.ferplus, answers.ferplus), METRICS[_metric(params)])
    return float(f"{float(first):.5g}")


def _joint(champion: Predictions, challenger: Predictions) -> Counts:
    """Numbers of images by true mood, the champion's and the challenger's prediction; see `joint_counts`."""
    return joint_counts(challenger.moods, champion.predicted, challenger.predicted)


def _metric(params: GateParams) -> str:
    """Name in `METRICS` of the figure that decides."""
    return params.metric.removeprefix("validation.ferplus.")


def broken_bounds(candidate: Contender, params: GateParams) -> list[str]:
    """The bounds that a candidate breaks, in words; none for one that may become champion."""
    broken = []
    if candidate.size_bytes > params.max_bytes:
        broken.append(f"{candidate.size_bytes:,} bytes are more than {params.max_bytes:,}")
    if candidate.latency_ms > params.max_latency_ms:
        broken.append(f"{candidate.latency_ms:g} ms a face are more than {params.max_latency_ms:g}")
    return broken


def best_inside(candidates: Sequence[Contender], params: GateParams) -> Contender | None:
    """The candidate with the best score inside the bounds, the smaller one among equals; None where none is inside."""
    inside = [candidate for candidate in candidates if not broken_bounds(candidate, params)]
    return max(inside, key=lambda one: (one.score, -one.size_bytes), default=None)


def decide(
    candidates: Sequence[Contender],
    champion: Contender | None,
    params: GateParams,
    answers: Mapping[str, ValidationPredictions],
) -> Decision:
    """Whether the best candidate inside the bounds takes the champion's place.

    Args:
        candidates: at least one.
        champion: who holds the place; its score must have been measured on the candidates' images.
        params: the rule.
        answers: those of the best candidate inside the bounds and of the champion, by digest. Not looked at where
            they are the same model, or one of them is missing.

    Raises:
        KeyError: answers that are needed are not there.
        ValueError: they are not to the same images.
    """
    broken = {candidate.name: broken_bounds(candidate, params) for candidate in candidates}
    out_of_bounds = {name: bounds for name, bounds in broken.items() if bounds}
    challenger = best_inside(candidates, params)

    def decision(promoted: bool, reason: str, evidence: Evidence | None = None) -> Decision:
        return Decision(promoted, challenger, champion, out_of_bounds, evidence, reason)

    if challenger is None:
        return decision(False, "No candidate is inside the bounds of size and latency.")
    score = f"{params.metric} {challenger.score:.4f}"
    if champion is None:
        return decision(True, f"{challenger.name} is the first champion: {score}, inside the bounds.")
    if challenger.digest == champion.digest:
        return decision(False, f"The champion stays: the best candidate, {challenger.name}, is the champion itself.")

    evidence = compare(answers[challenger.digest], answers[champion.digest], params)
    metric = evidence.metric
    score += (
        f" against {champion.score:.4f}, a difference of {metric.difference:+.4f} "
        f"({evidence.confidence:.0%} interval {metric.low:+.4f} to {metric.high:+.4f})"
    )
    if not metric.holds:
        reason = f"The champion stays: {challenger.name} has {score}; the interval must lie above {metric.margin:g}."
        return decision(False, reason, evidence)
    losses = [
        f"{part.subject} ({part.figure} {part.challenger:.4f} against {part.champion:.4f})"
        for part in evidence.parts
        if not part.holds
    ]
    if losses:
        reason = f"The champion stays: {challenger.name} has {score}, but is worse on {', '.join(losses)}."
        return decision(False, reason, evidence)
    return decision(
        True,
        f"{challenger.name} replaces the champion, {champion.name}: {score}; it is inside the bounds, and on no slice "
        "or mood worse by more than the margin.",
        evidence,
    )


class _Part(NamedTuple):
    """What is compared on which images: `subject`, `figure`, `images` and `margin` as in `Difference`, `measure` the
    figure's arithmetic, `joint` as `paired_bootstrap.joint_counts` gives it."""

    subject: str
    figure: str
    measure: Metric
    joint: Counts
    images: int
    margin: float


def compare(challenger: ValidationPredictions, champion: ValidationPredictions, params: GateParams) -> Evidence:
    """The evidence between two models.

    Args:
        challenger: its answers.
        champion: its answers to the same images, whole and in the same slices.
        params: the rule.

    Raises:
        ValueError: the answers are to other images or slices.
    """
    _require_same_images(challenger, champion)
    faces = _joint(champion.ferplus, challenger.ferplus)
    metric = _metric(params)
    random = np.random.default_rng(params.seed)

    overall = _Part("validation", metric, METRICS[metric], faces, int(faces.sum()), params.min_improvement)
    parts = [
        *_moods("mood", "f1", f1_of, faces, params.max_mood_loss),
        *_slices(challenger, champion, params),
        *_photos(challenger, champion, params),
    ]
    return Evidence(
        params.confidence,
        params.resamples,
        _difference(overall, params, random, must_be_better=True),
        tuple(_difference(part, params, random, must_be_better=False) for part in parts),
    )


def _difference(part: _Part, params: GateParams, random: np.random.Generator, *, must_be_better: bool) -> Difference:
    """Measure a part; `random` is the source of the resamples."""
    champion, challenger = (float(value) for value in bootstrap.metric_of_both(part.joint, part.measure))
    low, high = bootstrap.interval(part.joint, part.measure, params.confidence, params.resamples, random)
    gained = challenger - champion
    holds = low > part.margin if must_be_better else gained >= -part.margin or high >= 0
    return Difference(
        subject=part.subject,
        figure=part.figure,
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
    """Raise a ValueError where two models did not answer the same images."""
    same = (
        np.array_equal(challenger.ferplus.moods, champion.ferplus.moods)
        and np.array_equal(challenger.photos.moods, champion.photos.moods)
        and set(challenger.corrupted) == set(champion.corrupted)
    )
    if not same:
        raise ValueError("challenger and champion did not answer the same validation images: measure one of them again")


def _moods(
    prefix: str, name: str, figure_of: Callable[[int], Metric], joint: Counts, margin: float, least: int = 0
) -> list[_Part]:
    """A part for each mood that enough images show."""
    shown = joint.sum(axis=(1, 2))
    return [
        _Part(f"{prefix} {mood}", name, figure_of(code), joint, int(shown[code]), margin)
        for code, mood in enumerate(MOODS)
        if shown[code] >= least
    ]


def _slices(challenger: ValidationPredictions, champion: ValidationPredictions, params: GateParams) -> list[_Part]:
    """A part for each slice."""
    joints = {
        name: joint_counts(challenger.ferplus.moods, champion.corrupted[name], predicted)
        for name, predicted in challenger.corrupted.items()
    }
    return [
        _Part(f"slice {name}", "weighted_f1", weighted_f1, joint, int(joint.sum()), params.max_slice_loss)
        for name, joint in joints.items()
    ]


def _photos(challenger: ValidationPredictions, champion: ValidationPredictions, params: GateParams) -> list[_Part]:
    """A part for the photos, and one for each of their moods that has enough; none where there are no photos."""
    count = len(challenger.photos)
    if not count:
        return []
    joint = _joint(champion.photos, challenger.photos)
    return [
        _Part("photos", "weighted_f1", weighted_f1, joint, count, params.max_slice_loss),
        *_moods("photos: mood", "f1", f1_of, joint, params.max_mood_loss, params.min_mood_photos),
    ]
